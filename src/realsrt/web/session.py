"""What one person has on the page: the picture, its versions, the files made of them; all in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from realsrt.inference.assemble import RowStore
    from realsrt.inference.result import Upscaled
    from realsrt.io.picture import Picture
    from realsrt.web.choices import Choices

PREFIX = "realsrt-web-"
PLACES = re.compile(r"\S*/[0-9a-f]{32}/[0-9a-f]{16}/")  # folders of `Session.place`, in a text


def make_root() -> Path:
    """A folder for all sessions of a server, for this user's eyes only; the caller removes it."""
    return Path(tempfile.mkdtemp(prefix=PREFIX))


@dataclass
class Version:
    """A result: whole, or with parts redone. `out` holds the tokens that redoing starts from; None for large pictures.

    `choices` are those that it was made with; `redone` is what was redone since, for the file's provenance; `notices`
    are remarks on the picture, such as frames left out.
    """

    picture: Picture
    confidence: np.ndarray | None
    choices: Choices
    out: Upscaled | None = None
    redone: tuple[dict[str, Any], ...] = ()
    notices: tuple[str, ...] = ()
    candidates: tuple[Upscaled, ...] = ()
    chosen: int = 0
    box: tuple[int, int, int, int] | None = None
    store: RowStore | None = None
    small: Picture | None = None
    files: dict[Any, Path] = field(default_factory=dict)
    remarks: dict[Path, tuple[str, ...]] = field(default_factory=dict)  # of writing a file

    def close(self) -> None:
        if self.store:
            self.store.close()


class Session:
    """State of one person. A copy is a new, empty one: that is how Gradio begins.

    `stop` is the present job's: set, it ends the job; another one in its place, and the job is of the past.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.stop, self._asked = root, threading.Event(), False
        self.said = ""  # on the page, while no job says how it goes
        self.wrong = False  # whether the last job failed, and that is what the page says
        self.ended: str | None = None  # how the job ended, to be shown: "" well, else why not
        self.folder: Path | None = None
        self.source: Path | None = None
        self.size: tuple[int, int] = (0, 0)
        self.before: dict[tuple[int, int], Path] = {}
        self.versions: list[Version] = []
        self.batch: Path | None = None
        self._leaving: list[Path] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Session:
        return Session(self.root)

    def begin(self) -> None:
        """A job is asked for; one before it ends."""
        self.halt()
        self._asked = True

    def claim(self) -> threading.Event | None:
        """The `stop` of the job asked for, to whoever does it; None if it is no longer wanted."""
        asked, self._asked = self._asked, False
        return self.stop if asked else None

    def cancel(self) -> None:
        """End the present job, which says so."""
        self.stop.set()

    def halt(self) -> None:
        """End the present job, and forget one that was asked for."""
        self.stop.set()
        self.stop, self._asked, self.said, self.ended, self.wrong = threading.Event(), False, "", None, False

    @property
    def version(self) -> Version | None:
        """The one shown."""
        return self.versions[-1] if self.versions else None

    def place(self, name: str) -> Path:
        """A new path for a file of this name: in a folder that nobody can guess."""
        if self.folder is None:
            self.folder = self.root / secrets.token_hex(16)
        inner = self.folder / secrets.token_hex(8)
        inner.mkdir(parents=True, mode=0o700)
        return inner / name

    def take(self, uploaded: Path) -> Path:
        """Keep an uploaded file under its own name: linked, or copied where links cannot be."""
        mine = self.place(uploaded.name)
        try:
            os.link(uploaded, mine)
        except OSError:
            shutil.copyfile(uploaded, mine)
        return mine

    def forget_versions(self) -> None:
        """Drop all versions. Their files go with the next ones that are dropped: a browser may still ask for them."""
        for path in self._leaving:
            path.unlink(missing_ok=True)
        self._leaving = []
        for version in self.versions:
            version.close()
            self.leave(version)
        self.versions = []

    def leave(self, version: Version) -> None:
        """Its files are needed no more."""
        self._leaving += version.files.values()

    def close(self) -> None:
        """Stop what runs and delete every file; the session can be used again."""
        self.halt()
        self.forget_versions()
        self.source, self.before, self.batch, self._leaving = None, {}, None, []
        if self.folder:
            with contextlib.suppress(OSError):
                shutil.rmtree(self.folder)
            self.folder = None
