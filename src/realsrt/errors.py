"""Errors whose message is meant for a person: one line saying what, which file, and what to do."""


class RealSRTError(Exception):
    """Base of every error this package raises on purpose."""


class ImageError(RealSRTError):
    """An image could not be read, processed or written."""


class CheckpointError(RealSRTError):
    """A weight file is missing, damaged, unsafe or of another kind."""


class UsageError(RealSRTError):
    """Options or arguments contradict each other or name something that does not exist."""
