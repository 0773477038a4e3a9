import pytest

from realsrt.errors import UsageError
from realsrt.training.config import make_config


@pytest.mark.parametrize(
    "option, value, words",
    [
        ("batch", 0, "--batch must be more than zero, not 0"),
        ("lr", float("nan"), "--lr must be more than zero, not nan"),
        ("refresh", -1, "--refresh must not be negative, not -1"),
        ("seed", -1, "--seed must be from 0 to 2"),
        ("seed", 2**63, "--seed must be from 0 to 2"),
        ("ema", 1.5, "--ema must be from 0 to 1, not 1.5"),
        ("betas", (0.9, 1.0), "--betas must be from 0 to less than 1"),
        ("crop", 100, "--crop must be a multiple of 32"),
        ("sampler_steps", (0,), "--sampler-steps must be more than zero"),
        ("gan_warmup", 3, "--gan-warmup needs a discriminator"),
        ("trunk", ("one.pth",), "--trunk takes two files"),
    ],
)
def test_values_of_no_use_are_refused_by_name(option, value, words):
    with pytest.raises(UsageError, match=words.replace("(", r"\(")):
        make_config("tokenizer", max_steps=1, **{option: value})


@pytest.mark.parametrize(
    "option, value", [("seed", 2**63 - 1), ("refresh", 0), ("ema", 1.0), ("betas", (0.0, 0.99)), ("crop", 256)]
)
def test_bounds_are_within(option, value):
    assert getattr(make_config("tokenizer", max_steps=1, **{option: value}), option) == value
