import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest

import realsrt
from realsrt.io import image as imageio
from realsrt.server.client import Client

SOURCE = Path(realsrt.__file__).parent
WITH_EXAMPLES = sorted(
    ".".join(("realsrt", *path.relative_to(SOURCE).with_suffix("").parts))
    for path in SOURCE.rglob("*.py")
    if re.search(r"\n +>>> ", path.read_text(encoding="utf-8"))
)
CALLED = [  # what people call: Args, Returns and Raises where there are any, and an example
    realsrt.load_model, realsrt.save_model, realsrt.presets.get, realsrt.presets.build,
    realsrt.RealSRT.super_resolve, realsrt.Upscaler.__init__, realsrt.Upscaler.from_pretrained,
    realsrt.Upscaler.upscale, realsrt.Upscaler.upscale_many, realsrt.Upscaler.stream, realsrt.Upscaler.regenerate,
    imageio.read, imageio.header, imageio.write, Client.__init__,
]  # fmt: skip

PUBLIC = {
    "realsrt": [
        "CheckpointError", "ImageError", "RealSRT", "RealSRTError", "SuperResolved", "Upscaled", "Upscaler",
        "UsageError", "__version__", "load_model", "presets", "save_model",
    ],
    "realsrt.checkpoint": ["embedded", "load_model", "save_model"],
    "realsrt.imageio": [
        "FORMATS", "MAX_PIXELS", "Header", "Picture", "check_output", "header", "output_format", "read",
        "supported_formats", "write",
    ],
    "realsrt.pipeline": ["Upscaled", "Upscaler"],
    "realsrt.presets": ["base", "build", "small", "tiny"],
    "realsrt.server.client": ["Client"],
}  # fmt: skip


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_there(module):
    found = importlib.import_module(module)
    assert [name for name in PUBLIC[module] if not hasattr(found, name)] == []


def test_the_package_lists_its_names():
    assert sorted(realsrt.__all__) == PUBLIC["realsrt"]


def test_old_modules_give_the_same_objects():
    assert importlib.import_module("realsrt.pipeline").Upscaler is realsrt.Upscaler
    image = importlib.import_module("realsrt.io.image")
    assert importlib.import_module("realsrt.imageio").read is image.read


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_give_what_they_say(module):
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize("function", CALLED, ids=lambda function: function.__qualname__)
def test_what_people_call_is_described(function):
    text = inspect.getdoc(function) or ""
    assert "Args:\n" in text
    assert ">>> " in text
    returns = inspect.signature(function).return_annotation
    assert ("Returns:\n" in text) == (returns not in (None, "None"))
    told = text.partition("Args:\n")[2].partition("\n\n")[0]
    named = {name for name in inspect.signature(function).parameters if name not in ("self", "cls", "changes")}
    assert named <= set(told.replace(",", " ").replace(":", " ").split())
