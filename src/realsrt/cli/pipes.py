"""Pictures through pipes: `-` for stdin and stdout, and what a shell puts in the place of <(command) and >(command)."""

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from realsrt.cli.show import error
from realsrt.errors import RealSRTError, UsageError, why
from realsrt.io.signature import HEAD, identify
from realsrt.io.suffixes import is_kept

STDIN, STDOUT = "/dev/stdin", "/dev/stdout"  # what `-` stands for
_NAMES = {STDIN: "standard input", STDOUT: "standard output"}
_SUFFIXES = {
    "PNG": ".png", "JPEG": ".jpg", "WebP": ".webp", "TIFF": ".tif", "AVIF": ".avif", "HEIC": ".heic", "GIF": ".gif",
    "JPEG XL": ".jxl",
}  # fmt: skip


class Pipes:
    """Inputs that cannot be read twice, as files in a temporary folder; and an output there that `deliver` passes on.

    `inputs` and `output` are what to plan with, `to_pipe` says whether the output is one. `spoken` names the pipes
    in what is told of the files; so do the errors that leave the context.
    """

    def __init__(self, inputs: Sequence[str], output: str, ext: str) -> None:
        """Raises UsageError for a terminal, or several of them."""
        self.to_pipe = output == STDOUT or _is_pipe(output)
        self.inputs, self.output, self._sink = list(inputs), output, output
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._names: dict[str, str] = {}
        piped = [text for text in inputs if text == STDIN or _is_pipe(text)]
        if self.to_pipe and len(inputs) > 1:
            raise UsageError("a pipe takes one picture; give one input, or a folder as the output")
        if piped.count(STDIN) > 1:
            raise UsageError("- (stdin) can be given once only")
        if STDIN in piped and (sys.stdin is None or sys.stdin.isatty()):
            raise UsageError("nothing is piped into stdin; give a file, or `… | realsrt upscale - …`")
        if output == STDOUT and sys.stdout.isatty():
            raise UsageError("stdout is a terminal, which shows no pictures; give a file, or pipe it on")
        if piped or self.to_pipe:
            self._folder = tempfile.TemporaryDirectory(prefix="realsrt-")
            for number, text in enumerate(self.inputs):
                if text in piped:
                    self.inputs[number] = str(self._spooled(text, Path(self._folder.name) / str(number)))
                    self._names[self.inputs[number]] = _NAMES.get(text, text)
        if self.to_pipe:
            self.output = str(self._target(ext))
            self._names[self.output] = _NAMES.get(output, output)

    def spoken(self, text: str) -> str:
        """A line with the pipes' names in the place of those of their files."""
        for path, name in self._names.items():
            text = text.replace(path, name)
        return text

    def _spooled(self, text: str, folder: Path) -> Path:
        """All that comes through a pipe, in a file named by what it is; the beginning alone if that is no picture's, as
        it may have no end."""
        folder.mkdir()
        path = folder / "stdin"
        with ExitStack() as stack:
            pipe = sys.stdin.buffer if text == STDIN else stack.enter_context(open(text, "rb"))
            file = stack.enter_context(path.open("wb"))
            head = pipe.read(HEAD)
            file.write(head)
            format = identify(head)
            if format in _SUFFIXES:
                shutil.copyfileobj(pipe, file)
        return path.rename(path.with_suffix(_SUFFIXES.get(format, ".png")))

    def _target(self, ext: str) -> Path:
        assert self._folder
        own = Path(self.inputs[0]).suffix.lower()
        suffix = (own if is_kept(own[1:]) else ".png") if ext == "auto" else f".{ext.lower().lstrip('.')}"
        return Path(self._folder.name) / f"stdout{suffix}"

    def deliver(self) -> int:
        """Pass the output on; returns the exit status."""
        if not self.to_pipe:
            return 0
        try:
            with ExitStack() as stack:
                pipe = sys.stdout.buffer if self._sink == STDOUT else stack.enter_context(open(self._sink, "wb"))
                shutil.copyfileobj(stack.enter_context(open(self.output, "rb")), pipe)
                pipe.flush()
            return 0
        except BrokenPipeError:
            raise
        except OSError as problem:
            error(f"{_NAMES.get(self._sink, self._sink)}: could not be written: {why(problem)}")
            return 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder:
            self._folder.cleanup()
        if isinstance(value, RealSRTError):
            value.args = (self.spoken(str(value)),)


def _is_pipe(text: str) -> bool:
    """Whether it is a pipe that a shell has opened for this process; others, with a name of their own, are refused."""
    if not text.startswith(("/dev/fd/", "/proc/self/fd/")):
        return False
    try:
        return stat.S_ISFIFO(os.stat(text).st_mode)
    except OSError:
        return False
