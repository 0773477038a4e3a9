from pathlib import Path

import pytest

pytest.importorskip("accelerate")

from realsrt import training
from realsrt.cli import main
from realsrt.training.config import make_config


@pytest.fixture
def asked(monkeypatch):
    runs = []
    monkeypatch.setattr(training, "train", lambda config: runs.append(config) or Path("runs/model.safetensors"))
    return runs


def test_options_become_the_config(asked, capsys):
    argv = "train generator --data x.tar y --init t.safetensors --max_steps 5 --betas 0.8 0.95 --resume"
    argv += " --preset tiny --lr 1e-3"
    assert main(argv.split()) == 0
    assert asked == [
        make_config(
            "generator",
            data=(Path("x.tar"), Path("y")),
            init=Path("t.safetensors"),
            max_steps=5,
            betas=(0.8, 0.95),
            resume=True,
            preset="tiny",
            lr=1e-3,
        )
    ]
    assert "runs/model.safetensors" in capsys.readouterr().out


def test_a_stage_keeps_its_own_defaults(asked):
    assert main(["train", "tokenizer", "--data", "d", "--max-minutes", "2"]) == 0
    assert asked == [make_config("tokenizer", data=(Path("d"),), max_minutes=2.0)]


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        ("train", "stage"),
        ("train cook --max-steps 1", "cook"),
        ("train tokenizer --data d", "--max-steps"),
        ("train control --data d --max-steps 1", "--init"),
        ("train tokenizer --max-stepz 1", "--max-stepz"),
    ],
)
def test_usage(asked, capsys, argv, word):
    assert main(argv.split()) == 2
    captured = capsys.readouterr()
    assert word.lower() in captured.err.lower()
    assert captured.err.count("\n") == 1
    assert asked == []


def test_help_lists_every_field(capsys):
    assert main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    for option in ("--max-minutes", "--perceptual-file", "--discriminator", "--save-minutes", "Share of samples"):
        assert option in text
