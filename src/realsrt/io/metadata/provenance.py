"""How a picture was made, for its metadata: software, model and settings."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any, NamedTuple

from realsrt.version import __version__


class Restored(NamedTuple):
    """How a trunk restored an image: which way (a name of `models.trunk.Way` in lower case), its denoising strength,
    and how much of it over the bicubic enlargement, each 0 to 1."""

    way: str
    denoise: float
    share: float


@dataclass(frozen=True)
class Provenance:
    """`parameters` is a JSON object: model, sha256 of its file, and the settings that were not left to the model."""

    software: str
    parameters: str

    def of(self, restored: Restored) -> "Provenance":
        """Of an image that was restored so, whatever the settings left to the model."""
        return replace(self, parameters=json.dumps(json.loads(self.parameters) | restored._asdict()))


def provenance(source: str, sha256: str, settings: Mapping[str, Any]) -> Provenance:
    """The entry for a model known by `source` (name, file or "hf:…"; of a file's path only the last part is told).

    Holds neither time nor place, so that the same input and settings give the same bytes.
    """
    name = source if source.startswith("hf:") else PurePath(source).name
    said = {"model": name, "sha256": sha256, **{key: settings[key] for key in sorted(settings)}}
    told = {key: value for key, value in said.items() if value is not None and value is not False and value != ""}
    return Provenance(f"RealSRT {__version__}", json.dumps(told))
