"""Errors whose message is meant for a person: one line saying what, which file, and what to do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LONGEST = 300  # characters of what a weight file may have a say in


def one_line(text: str) -> str:
    """Without line breaks; what would steer a terminal, and bytes of file names that are no text, are escaped."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), " ".join(text.split()))


def first_line(error: BaseException) -> str:
    """The first line of what an error says, at most 200 characters; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


class RealSRTError(Exception):
    """Base of every error this package raises on purpose."""


class ImageError(RealSRTError):
    """An image could not be read, processed or written."""


class CheckpointError(RealSRTError):
    """A weight file is missing, damaged, unsafe or of another kind. One line of at most 300 characters."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message[: 2 * _LONGEST])[:_LONGEST])


class UsageError(RealSRTError):
    """Options or arguments contradict each other or name something that does not exist."""


class NoModelError(CheckpointError, UsageError):
    """There is no model of a name, no weight file at a path."""


def installing(extra: str) -> str:
    """How an extra of this package is installed."""
    return f"in the source folder, pip install '.[{extra}]'"


@contextmanager
def needs(extra: str, what: str) -> Iterator[None]:
    """Around imports of an extra's packages. Raises UsageError where one is missing: `what` needs it."""
    try:
        yield
    except ImportError as error:
        raise UsageError(f"{what} needs {error.name or one_line(str(error))}: {installing(extra)}") from error
