"""The workflows name what is there. They are not run here."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = ROOT / ".github" / "workflows"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def jobs(name):
    return yaml.safe_load((WORKFLOWS / name).read_text("utf-8"))["jobs"]


def commands(job):
    return [step["run"] for step in job["steps"] if "run" in step]


def test_every_python_and_system_that_the_package_claims_is_tried():
    matrix = jobs("checks.yml")["test"]["strategy"]["matrix"]
    claimed = [found[1] for one in PROJECT["classifiers"] if (found := re.search(r"Python :: (3\.\d+)$", one))]
    assert matrix["python"] == claimed
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    assert set(jobs("checks.yml")["installed"]["strategy"]["matrix"]["python"]) == {claimed[0], claimed[-1]}


@pytest.mark.parametrize("name", [path.name for path in sorted(WORKFLOWS.iterdir())])
def test_jobs_extras_and_files_exist(name):
    found = jobs(name)
    for job in found.values():
        needs = job.get("needs", [])
        assert set([needs] if isinstance(needs, str) else needs) <= set(found)
        for command in commands(job) if "steps" in job else ():
            for extras in re.findall(r"\[([\w,]+)\]", command):
                assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
            for word in shlex.split(command):
                path = word.removeprefix("--ignore=")
                if path.startswith(("tests/", ".ci/")):
                    assert (ROOT / path).exists(), path


OF_GITHUB = {"checkout": 6, "setup-python": 6, "upload-artifact": 6, "download-artifact": 7}  # the first by Node.js 24


@pytest.mark.parametrize("name", [path.name for path in sorted(WORKFLOWS.iterdir())])
def test_actions_are_of_a_version_that_runs_and_of_others_one_commit(name):
    used = [step["uses"] for job in jobs(name).values() for step in job.get("steps", ()) if "uses" in step]
    assert used
    for action, _, version in (one.partition("@") for one in used):
        if action.startswith("actions/"):
            assert int(version.removeprefix("v")) >= OF_GITHUB[action.partition("/")[2]], action
        else:
            assert re.fullmatch("[0-9a-f]{40}", version), action


def test_only_what_passed_is_published_and_without_a_password():
    publish = jobs("release.yml")["publish"]
    assert publish["needs"] == "checks"
    assert jobs("release.yml")["checks"]["uses"] == "./.github/workflows/checks.yml"
    assert publish["permissions"] == {"id-token": "write"}
    assert "secrets." not in (WORKFLOWS / "release.yml").read_text("utf-8")
    assert {"package", "installed"} <= set(jobs("checks.yml"))
