"""Neural building blocks: tensors in, tensors out. Nothing here knows a preset, a file or a device."""
