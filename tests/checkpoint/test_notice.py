"""The licence of what the weights were made from goes with them."""

import tomllib
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_notice_lies_beside_the_weights_and_in_the_model_card():
    notice = files("realsrt.weights").joinpath("NOTICE").read_text(encoding="utf-8")
    assert "Copyright (c) 2021, Xintao Wang" in notice
    for condition in (
        "1. Redistributions of source code",
        "2.\nRedistributions in binary form",
        "3.\nNeither the name",
    ):
        assert condition in notice
    card = (ROOT / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "src/realsrt/weights/NOTICE" in card
    assert "BSD 3-Clause" in card


def test_it_is_a_licence_file_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "src/realsrt/weights/NOTICE" in project["license-files"]
    assert "BSD-3-Clause" in project["license"]
