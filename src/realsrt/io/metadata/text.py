"""The text of a picture on its way from one format to another: entries of PNG have their places in XMP and EXIF."""

import contextlib
from collections.abc import Mapping
from typing import Any

import pyvips

from realsrt.io.metadata import exif, xmp
from realsrt.io.metadata.fields import TEXT, collect_exif, text_fields

_PARAMETERS = "parameters"  # how image generators call their settings; in EXIF they write them as UserComment
_GENERATED = "Steps: "  # stands in all of them
_GRAPHS = {"workflow": 0x010F, "prompt": 0x0110}  # of ComfyUI, which reads "workflow:…" in Make, "prompt:…" in Model
_BLOB = pyvips.GValue.blob_type
Fields = Mapping[str, tuple[int, Any]]


def entries(fields: Fields) -> dict[str, str]:
    """The text entries of a PNG file by keyword; of several of one name the first."""
    found: dict[str, str] = {}
    for name, (_, text) in fields.items():
        if name.startswith(TEXT):
            found.setdefault(name.split("-", 3)[3], str(text))
    return found


def to_png(fields: Fields) -> Fields:
    """With text entries for what image generators write into EXIF."""
    block = bytes(fields["exif-data"][1]) if "exif-data" in fields else b""
    known, more = entries(fields), {}
    if block:
        more = {_PARAMETERS: text} if _GENERATED in (text := exif.comment(block)) else {}
        strings = exif.strings(block)
        for keyword, tag in _GRAPHS.items():
            start, colon, text = strings.get(tag, "").partition(":")
            more |= {keyword: text} if start.lower() == keyword and colon else {}
    new = [*known.items(), *((keyword, text) for keyword, text in more.items() if keyword not in known)]
    return {**fields, **text_fields(new)} if len(new) > len(known) else fields


def from_png(fields: Fields) -> tuple[Fields, tuple[str, ...]]:
    """With the text entries where other formats have a place for them; and the keywords of those that have none."""
    texts = entries(fields)
    if not texts:
        return fields, ()
    moved = {name: field for name, field in fields.items() if not name.startswith(TEXT)}
    packet = bytes(moved["xmp-data"][1]) if "xmp-data" in moved else None
    held: set[str] = set()
    with contextlib.suppress(ValueError):  # which is said when it is written
        packet, held = xmp.with_texts(packet, texts)
    if held and packet:
        moved["xmp-data"] = (_BLOB, packet)
    block = bytes(moved["exif-data"][1]) if "exif-data" in moved else None
    free = _GRAPHS.values() - exif.strings(block or b"").keys()
    graphs = {
        tag: f"{keyword}:{texts[keyword]}" for keyword, tag in _GRAPHS.items() if keyword in texts and tag in free
    }
    comment = texts.get(_PARAMETERS, "") if not exif.comment(block or b"") else ""
    for tags in (graphs, {}):  # the graphs may be too long for it
        made = exif.with_texts(block, tags, comment) if tags or comment else None
        if made:
            moved = {name: field for name, field in moved.items() if not name.startswith("exif-")} | collect_exif(made)
            held |= {keyword for keyword, tag in _GRAPHS.items() if tag in tags} | ({_PARAMETERS} if comment else set())
            break
    return moved, tuple(keyword for keyword in texts if keyword not in held)
