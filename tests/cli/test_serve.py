import subprocess
import sys

import pytest

from realsrt.cli import main


@pytest.mark.parametrize(
    "argv, said",
    [
        (["--keep", "0"], "--keep must be above 0"),
        (["--keep", "inf"], "--keep must be above 0 and at most 1,000,000"),
        (["--keep", "nan"], "--keep must be above 0"),
        (["--max-queue", "-1"], "--max-queue must be above 0"),
        (["--port", "70000"], "--port goes from 0 to 65535"),
        (["--keys-file", "nowhere"], "the keys cannot be read"),
        (["--log-level", "loud"], "loud"),
    ],
)
def test_options_that_make_no_sense(tmp_path, capsys, argv, said):
    assert main(["serve", "--data", str(tmp_path / "data"), *argv]) == 2
    errors = capsys.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_without_the_extra(tmp_path, capsys, monkeypatch):
    for name in list(sys.modules):
        if name.startswith("realsrt.server"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve", "--data", str(tmp_path)]) == 2
    assert (
        capsys.readouterr().err
        == "realsrt: error: the service needs uvicorn: in the source folder, pip install '.[serve]'\n"
    )


def test_the_client_needs_no_extra():
    heavy = "{'fastapi', 'torch', 'pydantic'}"
    code = f"import sys; import realsrt.server.client; print(list({heavy} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
