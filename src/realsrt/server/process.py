"""Computing in a process of its own, which can be ended whatever it does, and may die without harm to the service."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import parent_process

import torch

from realsrt.errors import RealSRTError, UsageError, shown
from realsrt.inference.threads import use_threads
from realsrt.inference.upscaler import Upscaler
from realsrt.nn.device import keep_freed_memory
from realsrt.server.logs import say, to_stderr
from realsrt.server.maker import Check, Dropped, Event, Maker, ModelFacts, Task, Tell
from realsrt.server.settings import ServerSettings

_THROUGH = "through"  # by the process: that was all of these tasks; to it: drop them
_GLANCE = 0.2  # seconds between two looks at whether what is computed is still wanted
_PATIENCE = 2.0  # seconds that a process which is told to drop its tasks gets, before it is ended


class ProcessEnded(RealSRTError):
    """The process died of what it was computing."""


class ProcessMaker:
    """Starts the process, and another where one has ended. `model`, `device`, `precision`, `window_precision`: what it
    has loaded."""

    def __init__(self, settings: ServerSettings) -> None:
        """Returns once the model is loaded. Raises RealSRTError as loading does."""
        self._settings = settings
        self.model, self.device, self.precision, self.window_precision = self._start()

    def run(self, tasks: Sequence[Task], tell: Tell, check: Check) -> None:
        """See `Maker`. Raises ProcessEnded."""
        if not self._process.is_alive():
            self._start()
        self._pipe.send(list(tasks))
        try:
            for event in self._events():
                check()
                if event is not None:
                    tell(event)
        except ProcessEnded:
            raise
        except BaseException:
            self._drop()
            raise

    def _events(self) -> Iterator[Event | None]:
        """What the process tells until it is through, and now and then None. Raises ProcessEnded."""
        try:
            while (event := self._pipe.recv() if self._pipe.poll(_GLANCE) else None) != _THROUGH:
                yield event
        except (EOFError, OSError):
            self._process.join(_PATIENCE)
            raise ProcessEnded(f"computing this ended the process (status {shown(self._process.exitcode)})") from None

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _start(self) -> tuple[ModelFacts, torch.device, torch.dtype, torch.dtype]:
        context = multiprocessing.get_context("spawn")  # a fork would have this process's threads and GPU
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_compute, args=(theirs, self._settings), name="computing", daemon=True)
        self._process.start()
        theirs.close()
        try:
            answer = self._pipe.recv()
        except EOFError:
            self._process.join()
            raise RealSRTError(f"the computing process did not start (status {self._process.exitcode})") from None
        if isinstance(answer, Exception):
            raise answer
        say("process.started", pid=self._process.pid)
        return answer

    def _drop(self) -> None:
        """Let the process end its tasks; if it does not, end the process."""
        with contextlib.suppress(OSError, EOFError):
            self._pipe.send(_THROUGH)
            until = time.monotonic() + _PATIENCE
            while (left := until - time.monotonic()) > 0 and self._pipe.poll(left):
                if self._pipe.recv() == _THROUGH:
                    return
        say("process.killed", pid=self._process.pid)
        self._process.kill()
        self._process.join()


def _compute(pipe: Connection, settings: ServerSettings) -> None:
    """In the process: load the model, then run what comes."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the service decides
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # if one must die, not the other
        file.write("500")
    to_stderr(settings.log_level)
    try:
        keep_freed_memory()
        use_threads(settings.threads)
        up = Upscaler.from_pretrained(settings.model, device=settings.device, precision=settings.precision)
    except RealSRTError as problem:
        pipe.send(UsageError(str(problem)) if isinstance(problem, UsageError) else RealSRTError(str(problem)))
        return
    maker = Maker(up, settings.max_pixels)
    pipe.send((ModelFacts(up.model.info, up.model.config), up.device, up.precision, up.window_precision))

    def check() -> None:
        if pipe.poll():
            pipe.recv()
            raise Dropped

    with contextlib.suppress(EOFError, OSError):
        while True:
            tasks = pipe.recv()
            if tasks != _THROUGH:  # else what was to be dropped had just ended
                with contextlib.suppress(Dropped):
                    maker.run(tasks, pipe.send, check)
                pipe.send(_THROUGH)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
