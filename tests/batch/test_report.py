import io
import json
import os

import numpy as np
import pytest

from realsrt.batch.report import Record, Report, about, mean_steps
from realsrt.errors import CheckpointError, ImageError, RealSRTError


def test_report_lines(tmp_path):
    path = tmp_path / "report.jsonl"
    with Report(path) as report:
        report.add(Record("a", "b", "done", width=3, height=2, seconds=0.5, confidence=0.25))
        assert len(path.read_text().splitlines()) == 1  # written as it happens
        report.add(Record("c", "d", "failed", reason="é is\nodd"))
        assert (report.count("done"), report.count("failed")) == (1, 1)
    first, second = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    assert first == {
        "source": "a", "target": "b", "status": "done", "width": 3, "height": 2, "seconds": 0.5, "confidence": 0.25,
    }  # fmt: skip
    assert second["reason"] == "é is\nodd"
    with Report(path, append=True) as report:
        report.add(Record("e", "f", "skipped"))
    assert len(path.read_text(encoding="utf-8").splitlines()) == 3


def test_a_report_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match="file is no folder"):
        Report(tmp_path / "file" / "report.jsonl")


def test_half_a_line_of_a_killed_run_is_taken_away(tmp_path):
    path = tmp_path / "report.jsonl"
    path.write_text('{"source": "a"}\n{"sour')
    with Report(path, append=True) as report:
        report.add(Record("b", "c", "done"))
    assert [json.loads(line)["source"] for line in path.read_text().splitlines()] == ["a", "b"]


def test_what_an_encoding_lacks_is_escaped(tmp_path):
    broken = os.fsdecode(b"\xff.png")
    raw = io.BytesIO()
    with Report(tmp_path / "r", streams=[io.TextIOWrapper(raw, encoding="ascii")]) as report:
        report.add(Record("é.png", "b", "done"))
        report.add(Record(broken, "b", "done"))
        lines = raw.getvalue().splitlines(), (tmp_path / "r").read_bytes().splitlines()
    for found in lines:
        assert [json.loads(line)["source"] for line in found] == ["é.png", broken]
    assert "é.png".encode() in lines[1][0]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_report_on_a_full_disk_is_one_line():
    with Report("/dev/full") as report, pytest.raises(ImageError, match="/dev/full: the report cannot be written: No"):
        report.add(Record("a", "b", "done"))


@pytest.mark.parametrize(
    "problem",
    [
        ImageError("{}: is damaged"), FileNotFoundError(2, "No such file", "{}"), ValueError("odd\n  number"),
        MemoryError(), CheckpointError("{}: is no weight file"),
    ],
    ids=lambda problem: type(problem).__name__,
)  # fmt: skip
def test_a_file_is_named_once_and_safely(problem):
    name = "in/two  spaces\nand\x1b[2J\u202elines.png"
    if isinstance(problem, OSError):
        problem.filename = name
    elif problem.args:
        problem = type(problem)(problem.args[0].replace("{}", name))
    told = about(name, problem)
    assert told.startswith("in/two  spaces\\nand\\x1b[2J\\u202elines.png: ")
    assert told.isprintable()
    assert told.count("spaces") == 1
    assert str(problem).isprintable() or not isinstance(problem, RealSRTError)


def test_a_count_is_no_float():
    assert json.dumps(mean_steps(np.array([8, 8]))) == "8"
    assert json.dumps(mean_steps(np.array([8, 5, 7]))) == "6.667"


@pytest.mark.parametrize("problem", [OSError(28, "No space left on device"), BrokenPipeError(32, "Broken pipe")])
def test_a_stream_that_takes_no_more_ends_nothing(tmp_path, problem):
    class Broken(io.StringIO):
        def write(self, text):
            raise problem

    whole = io.StringIO()
    with Report(tmp_path / "report", streams=[Broken(), whole]) as report:
        for name in "ab":
            report.add(Record(name, name, "done"))
    assert str(problem.strerror) in report.mute
    assert len(whole.getvalue().splitlines()) == len((tmp_path / "report").read_text().splitlines()) == 2
