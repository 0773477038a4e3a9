"""RealSRT in ComfyUI: load a model, upscale an image with its confidence as a mask, regenerate what a mask marks."""

from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
