import importlib

import pytest

import realsrt

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
