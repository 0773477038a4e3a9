"""Weight files: load a model by name, file or hub repository; save one."""

from realsrt.checkpoint.load import embedded, load_model
from realsrt.checkpoint.weights import save_model

__all__ = ["embedded", "load_model", "save_model"]
