"""The old name of `realsrt.io.image`, kept for one version."""

from realsrt.io.image import *  # noqa: F403
from realsrt.io.image import Header, Picture, __all__  # noqa: F401
