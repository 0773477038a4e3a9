"""Errors whose message is meant for a person: one line saying what, which file, and what to do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_LONGEST = 300  # characters of what a weight file may have a say in


def one_line(text: str) -> str:
    """Line breaks, what else would steer a terminal, and bytes of file names that are no text are escaped: a file is
    known by what is shown of its name."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def renamed(said: object, path: object, name: str) -> str:
    """What was said of the file `path`, in one line, said of `name`."""
    return one_line(str(said)).replace(one_line(str(path)), one_line(name))


def first_line(error: BaseException) -> str:
    """The first line of what an error says, at most 200 characters; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def why(error: BaseException) -> str:
    """Why a file could not be read or written: in the system's words, where it has some."""
    return getattr(error, "strerror", None) or first_line(error)


def shown(value: object) -> str:
    """The value of an option, or of an entry in a file, for a person."""
    return "not given" if value is None else f"{value:g}" if isinstance(value, float) else str(value) or '""'


class RealSRTError(Exception):
    """Base of every error this package raises on purpose. One line, whatever names of files are in it."""

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(message))


class ImageError(RealSRTError):
    """An image could not be read, processed or written."""


class CheckpointError(RealSRTError):
    """A weight file is missing, damaged, unsafe or of another kind. One line of at most 300 characters."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message[:_LONGEST])[:_LONGEST])


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
        raise UsageError(f"{what} needs {error.name or first_line(error)}: {installing(extra)}") from error
