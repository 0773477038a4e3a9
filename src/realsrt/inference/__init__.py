"""From an image to its upscaled image: options, windows, assembly, regeneration."""
