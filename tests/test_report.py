import json

import pytest

from realsrt.errors import ImageError
from realsrt.report import Record, Report


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
    with pytest.raises(ImageError, match="nowhere"):
        Report(tmp_path / "nowhere" / "report.jsonl")
