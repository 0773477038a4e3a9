import hashlib
import json
from pathlib import Path

import pytest

from realsrt.server.page import STATIC

FOLDERS = [STATIC / "vendor", Path(__file__).parents[1] / "vendor"]


@pytest.mark.parametrize("folder", FOLDERS, ids=["page", "tests"])
def test_libraries_are_those_that_are_listed(folder):
    listed = {}
    for package in json.loads((folder / "vendor.json").read_text()):
        assert package["version"]
        assert package["licence"]
        listed |= {name: file["sha256"] for name, file in package["files"].items()}
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    del found["vendor.json"]
    assert found == listed
