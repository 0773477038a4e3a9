"""Many images: which file becomes which, outputs, reports, resuming."""
