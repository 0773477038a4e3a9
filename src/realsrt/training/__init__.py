"""Training, stage by stage. Imported by the command line only, when asked for (extra ``train``)."""

from realsrt.training.config import STAGES, TrainConfig
from realsrt.training.loop import train

__all__ = ["STAGES", "TrainConfig", "train"]
