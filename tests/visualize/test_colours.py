"""One colour map for the figures and the page."""

import re
from pathlib import Path

import numpy as np
import pytest

from realsrt.visualize.render import _COLOURS

STATIC = Path(__file__).parents[2] / "src" / "realsrt" / "server" / "static"


def test_the_page_has_the_map_of_the_figures():
    matplotlib = pytest.importorskip("matplotlib")

    listed = re.search(r"const STOPS = \[(.*?)\n\];", (STATIC / "cells.js").read_text(), re.S)
    assert listed
    stops = re.findall(r"\[(\d+), (\d+), (\d+)\]", listed[1])
    page = np.array(stops, int)
    wanted = matplotlib.colormaps[_COLOURS](np.linspace(0, 1, len(page)))[:, :3] * 255
    assert np.abs(page - wanted).max() <= 1
    legend = re.search(r"#legend i \{[^}]*linear-gradient\(90deg, ([^)]*)\)", (STATIC / "style.css").read_text())
    assert legend
    assert [tuple(bytes.fromhex(colour[1:])) for colour in legend[1].split(", ")] == [tuple(map(int, c)) for c in stops]


def test_brighter_is_surer_all_along():
    matplotlib = pytest.importorskip("matplotlib")

    weights = 0.2126, 0.7152, 0.0722
    light = matplotlib.colormaps[_COLOURS](np.linspace(0, 1, 64))[:, :3] @ weights
    assert (np.diff(light) > 0).all()
