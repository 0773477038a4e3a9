"""Picture operations on tensors: resizing, colour, degradation parts, windows. No files here."""
