import runpy
from pathlib import Path

import pytest
import torch

from realsrt import presets
from realsrt.errors import UsageError
from realsrt.model import RealSRT

FILE = Path(__file__).parents[1] / "experiments" / "variants.py"
NAMES = [name for name in runpy.run_path(str(FILE)) if name.startswith("small_")]


@pytest.mark.parametrize("name", NAMES)
def test_every_variant_is_a_preset_by_its_file(name):
    config = presets.get(f"{FILE}:{name}")
    assert config.preset == name
    with torch.device("meta"):
        assert RealSRT(config).parameter_count > 0


def test_what_is_not_there_is_one_line(tmp_path):
    for name in (f"{FILE}:smal", f"{tmp_path}/none.py:small"):
        with pytest.raises(UsageError, match="no preset"):
            presets.get(name)
