"""What has been tried and made of each image: one JSON object each, in the output's folder.

Before an image is computed it is `trying`, with the number of tries: what kills its worker cannot do so for ever.
Before its files are put in place it is `done`, with their hashes: that counts only while the files are there and are
these, so that a run killed at any moment neither takes an image for done that is not nor makes one twice.
"""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from realsrt.batch.resume import outdated
from realsrt.bulk.store import HOUSEKEEPING, OutputStore


@dataclass(frozen=True)
class State:
    """`input`: hash; `tries` of computing it, `reads` in the run `run`; `outputs`: name → fingerprint; `record`: the
    outcome's fields."""

    key: str
    input: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    status: str = ""
    run: str = ""
    tries: int = 0
    reads: int = 0
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    worker: str = ""


def state_name(key: str) -> str:
    name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{HOUSEKEEPING}/state/{name[:2]}/{name}.json"


def read_state(store: OutputStore, key: str) -> State:
    """The state of an image; an empty one if there is none that can be read. Raises OSError."""
    content = store.read(state_name(key))
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        found = State(**json.loads(content or b""))
        if found.key == key:
            return found
    return State(key)


def write_state(store: OutputStore, state: State) -> None:
    """Raises OSError."""
    store.put(state_name(state.key), json.dumps(asdict(state)).encode())


def missing(store: OutputStore, state: State, target: str, digest: str, settings: Mapping[str, Any]) -> str:
    """Why an image has to be made: "" if its files are those once made of this input with these settings."""
    if state.status != "done" or not state.outputs:
        return "it failed before" if state.status == "failed" else "there is no output"
    folder = PurePosixPath(target).parent

    def damaged(name: str, made: Any) -> str:
        path = (folder / PurePosixPath(name).name).as_posix()  # never a path that the state might name elsewhere
        return "" if store.holds(path, dict(made)) else path

    if why := outdated(vars(state), digest, settings, damaged):
        return why
    if PurePosixPath(target).name not in state.outputs:
        return "the output has another name"
    return ""
