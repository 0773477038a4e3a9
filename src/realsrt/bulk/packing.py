"""Images as bytes, on their way from one process to another."""

import pickle
from dataclasses import replace
from typing import Any

import pyvips

from realsrt.io.picture import Picture


def pack(image: Picture, *more: Any) -> bytes:
    """An image, and what goes with it. libvips' numbers for types differ from process to process: names travel."""
    named = {key: (pyvips.type_name(kind), value) for key, (kind, value) in image.metadata.items()}
    return pickle.dumps((replace(image, metadata={}), named, more), protocol=5)


def unpack(content: bytes) -> tuple[Any, ...]:
    """What `pack` took: (image, *more)."""
    image, named, more = pickle.loads(content)
    metadata = {key: (pyvips.type_from_name(kind), value) for key, (kind, value) in named.items()}
    return (replace(image, metadata=metadata), *more)
