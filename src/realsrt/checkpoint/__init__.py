"""Weight files: load a model by name, file or hub repository; save one, or push it to the hub."""

from realsrt.checkpoint.hub import push_to_hub
from realsrt.checkpoint.load import embedded, load_model
from realsrt.checkpoint.weights import save_model
from realsrt.model import RealSRT

__all__ = ["embedded", "load_model", "push_to_hub", "save_model"]

RealSRT.from_pretrained = staticmethod(load_model)  # here, as the model knows no files
RealSRT.push_to_hub = push_to_hub
