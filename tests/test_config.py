import json
from dataclasses import replace
from typing import get_args

import pytest

from realsrt import config, presets
from realsrt.config import from_dict, to_dict
from realsrt.errors import CheckpointError, UsageError, shown, why
from realsrt.inference import options


def test_what_a_model_may_choose_can_be_asked_for():
    """Options are read without the models' configuration, so both list the choices."""
    for name in ("ColorFix", "Refine"):
        assert set(get_args(getattr(config, name))) == set(get_args(getattr(options, name)))


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_preset_survives_json(name):
    config = presets.get(name)
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


def change(path, value):
    data = to_dict(presets.tiny())
    at = data
    for key in path[:-1]:
        at = at[key]
    if value is None:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["generator", "nonsense"], 1, "config.generator.*nonsense"),
        (["generator", "width"], "wide", "config.generator.width"),
        (["generator", "width"], True, "config.generator.width"),
        (["generator", "position"], "spiral", "config.generator.position"),
        (["tokenizer", "kind"], "Jpeg", "config.tokenizer.kind"),
        (["tokenizer", "quantizer"], 3, "config.tokenizer.quantizer"),
        (["control"], None, "incomplete"),
        (["color_fix"], "sepia", "config.color_fix"),
    ],
)
def test_a_damaged_config_is_named(path, value, said):
    with pytest.raises(CheckpointError, match=said):
        from_dict(change(path, value))


def test_nothing_is_said_in_words():
    """No Python None in what people read of options, of entries in files, of errors without a word of the system."""
    assert [shown(value) for value in (None, 4.0, 2, "fp32", "", True)] == ["not given", "4", "2", "fp32", '""', "True"]
    said = [why(error) for error in (OSError(2, "gone"), OSError("cut off"), OSError())]
    assert said == ["gone", "cut off", "OSError"]
    with pytest.raises(CheckpointError, match="color_fix is not given, not one of"):
        from_dict(to_dict(presets.get("tiny")) | {"color_fix": None})


def test_a_variant_differs_in_what_it_says():
    assert replace(presets.small(), stride=32) != presets.small()
    with pytest.raises(UsageError, match="small"):
        presets.get("smal")


@pytest.mark.parametrize("name", ["tiny", "tiny_paper", "small"])
def test_headers_of_former_versions_mean_the_same(name):
    data = to_dict(presets.get(name))
    for table in (data["tokenizer"]["quantizer"], data["generator"], data["critic"]):
        table["groups"] = 1
    data["tokenizer"] |= {"tokens": "residual", "token_fold": 2}
    assert from_dict(json.loads(json.dumps(data))) == presets.get(name)
    data["tokenizer"]["tokens"] = "texture"
    with pytest.raises(CheckpointError, match=r"config.tokenizer has entries this version does not know: tokens"):
        from_dict(data)
