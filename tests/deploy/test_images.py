"""The Dockerfiles and the unit name what is there. They are not built here."""

import configparser
import fnmatch
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from realsrt.cli import build_app

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted((ROOT / "docker").iterdir())
UNIT = ROOT / "deploy" / "realsrt.service"


def instructions(path):
    """(name, rest) of each, with continued lines joined and comments gone."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.M).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def known(*argv):
    """Whether the command line takes these options."""
    app = build_app(argv)
    return app.parse_args(list(argv), exit_on_error=False, print_error=False)


def test_there_are_two():
    assert [path.name for path in DOCKERFILES] == ["Dockerfile.cpu", "Dockerfile.cuda"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.suffix[1:])
def test_a_dockerfile_fits_the_repository(path):
    found = instructions(path)
    names = [name for name, _ in found]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = [line[1:] for line in ignored if line.startswith("!")]
    for name, rest in found:
        if name == "COPY" and "--from" not in rest:
            for source in shlex.split(rest)[:-1]:
                assert (ROOT / source).exists(), source
                assert any(fnmatch.fnmatch(source, pattern) for pattern in let_in), f"{source} is in .dockerignore"
    assert [rest for name, rest in found if name == "USER"] == ["10001"]
    assert {"HEALTHCHECK", "VOLUME", "EXPOSE", "ENTRYPOINT"} <= set(names)
    last_stage = len(names) - names[::-1].index("FROM") - 1
    assert names.index("USER") > last_stage
    urls = re.findall(r"https?://([^/\s:\"']+)", path.read_text())
    assert set(urls) <= {"127.0.0.1", "download.pytorch.org"}
    entry, command = (next(rest for name, rest in found if name == wanted) for wanted in ("ENTRYPOINT", "CMD"))
    words = [*json.loads(entry), *json.loads(command)]
    assert words[0] == "realsrt"
    known(*words[1:])
    readme = re.search(r'^readme = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert readme
    assert readme[1] in let_in  # what the build of the package reads


def test_the_unit_runs_the_command():
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str
    unit.read(UNIT)
    words = shlex.split(unit["Service"]["ExecStart"])
    assert words[0].endswith("/realsrt")
    known(*words[1:])
    assert unit["Service"]["NoNewPrivileges"] == "yes"


def test_systemd_agrees(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("needs systemd-analyze")
    copy = tmp_path / "realsrt.service"  # the command need not be installed here
    copy.write_text(UNIT.read_text().replace("/opt/realsrt/bin/realsrt", "/bin/true"))
    ran = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
