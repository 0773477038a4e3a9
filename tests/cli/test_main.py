import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import realsrt
from realsrt import presets
from realsrt.cli import main, spelled
from realsrt.cli.tools import EXTRAS
from realsrt.io import image as imageio


def fails(capsys, status: int, *argv: str) -> str:
    assert main(list(argv)) == status
    captured = capsys.readouterr()
    assert captured.err.startswith("realsrt: error: ")
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err


def test_help_and_version_answer_without_torch():
    code = (
        "import sys; from realsrt.cli import main; s = main(sys.argv[1:]); print('torch' in sys.modules); sys.exit(s)"
    )
    for arguments, words in ((["--help"], ["upscale", "train", "degrade"]), (["upscale", "--help"], ["--color-fix"])):
        ran = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        assert all(word in ran.stdout for word in words)
        assert ran.stdout.splitlines()[-1] == "False"


def test_python_m_realsrt():
    ran = subprocess.run([sys.executable, "-m", "realsrt", "--version"], capture_output=True, text=True, check=False)
    assert ran.stdout.strip() == realsrt.__version__


@pytest.mark.parametrize(
    ("own", "policy", "spins"),
    [
        ({}, "PASSIVE", "1000"),
        ({"GOMP_SPINCOUNT": "7"}, "PASSIVE", "7"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE", "None"),  # a count would go before the policy that was asked for
    ],
)
def test_threads_wait_a_moment_and_then_sleep_unless_told_otherwise(own, policy, spins):
    environment = {key: value for key, value in os.environ.items() if "OMP_" not in key} | own
    asked = "import realsrt.cli, os; print(*map(os.environ.get, ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')))"
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, env=environment, check=True)
    assert told.stdout.split() == [policy, spins]


def test_both_spellings():
    assert spelled(["--model_path", "a_b", "--max_pixels=1_0", "-o", "x_y"]) == [
        "--model-path", "a_b", "--max-pixels=1_0", "-o", "x_y",
    ]  # fmt: skip
    assert spelled(["a", "--", "--b_c"]) == ["a", "--", "--b_c"]


@pytest.mark.parametrize("given", [["-o", "-"], ["-o-"], ["-o=-"], ["--output=-"], ["--output", "-"]])
def test_a_hyphen_is_a_pipe_of_upscale(given):
    assert spelled(["upscale", *given])[-1].removeprefix("--output=").removeprefix("-o=") == "/dev/stdout"
    other = [word.replace("output", "input").replace("-o", "-i") for word in given]
    assert spelled(["upscale", *other])[-1].removeprefix("--input=").removeprefix("-i=") == "/dev/stdin"
    assert spelled(["upscale", "--", "-"]) == ["upscale", "--", "-"]
    assert spelled(["upscale", "--suffix=-"]) == ["upscale", "--suffix=-"]  # of other options it is itself
    assert spelled(["evaluate", "--suffix=-"]) == ["evaluate", "--suffix=-"]


@pytest.mark.parametrize(
    "argv",
    ["evaluate a --target b --json -", "calibrate a b -o -", "export - --format pth", "compare a.png -o -"],
)
def test_a_hyphen_is_no_file_of_other_commands(capsys, monkeypatch, tmp_path, argv):
    monkeypatch.chdir(tmp_path)
    assert f"realsrt {argv.split()[0]} takes no -" in fails(capsys, 2, *argv.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["frobnicate"], "frobnicate"),
        (["upscale"], "--input"),
        (["upscale", "a.png"], "--output"),
        (["upscale", "a.png", "-o", "b.png", "--stepz", "3"], "--stepz"),
        (["upscale", "a.png", "-o", "b.png", "--steps", "many"], "many"),
        (["upscale", "a.png", "-o", "b.png", "--precision", "fp12"], "fp12"),
        (["upscale", "nowhere.png", "-o", "b.png"], "nowhere.png"),
    ],
)
def test_usage_errors_are_one_line_and_status_2(capsys, argv, word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert word in fails(capsys, 2, *argv)


def test_ctrl_c(capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("realsrt.cli.upscale.plan_batch", interrupted)
    assert "--resume goes on" in fails(capsys, 130, "upscale", "a.png", "-o", "b.png")
    monkeypatch.setattr("realsrt.cli.degrade.plan_batch", interrupted)
    assert "resume" not in fails(capsys, 130, "degrade", "a", "b")  # which has none


def test_info_knows_every_extra_and_all_that_is_imported_is_in_one():
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    needs = {extra: len(packages) for extra, packages in extras.items() if extra not in ("dev", "web")}  # of others
    assert {extra: len(packages) for extra, packages in EXTRAS.items() if extra != "web"} == needs
    assert EXTRAS["web"] == EXTRAS["serve"]

    known = {re.split(r"\W", name.replace("-", "_"))[0] for name in project["dependencies"]} | {"realsrt"}
    known |= {name for names in EXTRAS.values() for name in names} | sys.stdlib_module_names
    for path in (root / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert {name.partition(".")[0] for name in names} <= known, path


def test_info_and_models_as_json(capsys):
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["realsrt"] == realsrt.__version__
    assert "PNG" in facts["reads"]
    assert facts["devices"][0].startswith("cpu")
    assert ("heic" in facts["extras"]) is (find_spec("pi_heif") is not None)
    assert main(["info"]) == 0
    assert f"realsrt\t{realsrt.__version__}" in capsys.readouterr().out

    assert main(["models", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    base = next(row for row in rows if row["name"] == "base" and row["kind"] == "preset")
    assert round(base["parameters"] / 1e6, 1) == 185.1
    for row in rows:
        if row["kind"] == "embedded":
            assert os.path.isfile(row["where"])
            assert len(row["sha256"]) == 64
            assert row["parameters"] > 0
    assert main(["models"]) == 0
    assert "small" in capsys.readouterr().out


def test_convert_names_what_is_wrong(capsys, tmp_path):
    (tmp_path / "a.pth").write_bytes(b"not weights")
    assert "a.pth" in fails(capsys, 1, "convert", str(tmp_path / "a.pth"), str(tmp_path / "b.safetensors"))
    fails(capsys, 2, "convert", str(tmp_path / "a.pth"), str(tmp_path / "b.pth"))
    assert "none.pth" in fails(capsys, 2, "convert", str(tmp_path / "none.pth"), str(tmp_path / "b.safetensors"))
    assert not (tmp_path / "b.safetensors").exists()


def test_parts_are_not_exported_into_a_file(capsys, tmp_path):
    (tmp_path / "x").write_bytes(b"mine")
    assert main(["export", str(tmp_path / "x")]) == 2
    told = capsys.readouterr().err
    assert f"{tmp_path / 'x'}: is a file, and the parts need a folder; give another name, or" in told
    assert "guide.onnx" not in told
    assert (tmp_path / "x").read_bytes() == b"mine"


@pytest.mark.parametrize(
    "words, says",
    [
        ("x.xyz", "x.xyz: cannot write '.xyz' files; use .pth, .safetensors, .param, .onnx, or end a folder's name"),
        ("x.bin", "x.param writes ncnn's .param and .bin"),
        ("x.onnx --steps 257", "--steps"),
        ("x --steps 1", "--steps is for one ONNX file"),
        ("x.safetensors --model-path ./x.safetensors", "x.safetensors is an input too and would be overwritten"),
    ],
)
def test_what_is_not_exported_is_said_before_any_work(capsys, monkeypatch, tmp_path, words, says):
    monkeypatch.setattr("realsrt.checkpoint.load_model", lambda *_: pytest.fail("worked"))
    monkeypatch.chdir(tmp_path)
    assert says in fails(capsys, 2, "export", *words.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("out", ["v1.xyz/", "there.xyz", "parts --format parts", "x.xyz --format parts"])
def test_parts_go_into_what_is_meant_to_be_a_folder(capsys, monkeypatch, tmp_path, out):
    monkeypatch.setattr("realsrt.checkpoint.onnx.need_the_extra", lambda: None)
    monkeypatch.setattr("realsrt.checkpoint.load_model", lambda *_: presets.build("tiny", 0))
    monkeypatch.setattr("realsrt.checkpoint.onnx.export", lambda _, folder, **__: [folder / "guide.onnx"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.xyz").mkdir()
    assert main(["export", *out.split()]) == 0
    told = capsys.readouterr()
    folder = out.split()[0].rstrip("/")
    assert told.out == f"{folder}/guide.onnx\n"
    assert f"note: {folder}: writing the model as ONNX, then comparing" in told.err


def test_an_export_says_how_many_steps_it_takes(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("realsrt.checkpoint.onnx.need_the_extra", lambda: None)
    monkeypatch.setattr("realsrt.checkpoint.load_model", lambda *_: presets.build("tiny", 0))
    monkeypatch.setattr("realsrt.checkpoint.onnx.export_whole", lambda _, path, **__: [path])
    assert main(["export", str(tmp_path / "x.onnx"), "--steps", "99"]) == 0
    assert "x.onnx: writing the model as ONNX of 99 steps, the longer the more" in capsys.readouterr().err


def test_signs_that_a_pipe_cannot_hold_are_written_otherwise(monkeypatch, tmp_path):
    with open(tmp_path / "out", "w", encoding="cp1252") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(["models"]) == 0
        print("mean error ≤ 12", file=sys.stdout)
    assert b"\\u2264 12" in (tmp_path / "out").read_bytes()


@pytest.mark.parametrize(
    ("status", "argv"),
    [
        (2, "convert in.pth out.safetensors"),
        (2, "export parts"),
        (2, "export trunk.pth"),
        (2, "upscale in.png -o out"),
        (2, "upscale in.png -o out.png"),
        (1, "regenerate -i in.png -o out.png --box 0,0,8,8"),
        (2, "visualize -i in.png -o out.gif"),
        (2, "compare in.png -n small -o out.html"),
        (2, "degrade in.png out"),
        (2, "teach . out.tar --teacher net.pth --count 1"),
        (2, "calibrate . . -o out.json"),
        (2, "evaluate in.png --target in.png --csv out.csv"),
        (2, "evaluate in.png --target in.png --json out.json"),
        (2, "evaluate in.png --target in.png --sheet out.html"),
    ],
)
def test_a_place_that_cannot_be_written_is_said_before_the_work(capsys, monkeypatch, tmp_path, status, argv):
    def work(*_, **__):
        pytest.fail("work for nothing")

    monkeypatch.chdir(tmp_path)
    imageio.write("in.png", imageio.Picture.from_array(np.zeros((8, 8, 3), np.uint8)))
    monkeypatch.setattr("realsrt.cli.options.ModelArgs.load", work)
    monkeypatch.setattr("realsrt.checkpoint.load_model", work)
    monkeypatch.setattr("realsrt.checkpoint.convert.load_model", work)
    monkeypatch.setattr("realsrt.checkpoint.foreign.load_any", work)
    monkeypatch.setattr("realsrt.evaluation.pairing.measure", work)
    monkeypatch.setattr("realsrt.degradations.degrade_named", work)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert re.search("no permission to write|read-only", fails(capsys, status, *argv.split()))
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]
