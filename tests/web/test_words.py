from pathlib import Path

from realsrt.batch.report import Record
from realsrt.web import words
from realsrt.web.choices import Choices
from realsrt.web.running import Progress


def test_names_of_files_are_no_html():
    evil = "<img src=x onerror=alert(1)>.png"
    shown = [
        words.facts(evil, 1, 1, Choices(), 1, None, True),
        words.result(evil, 1, 1, 0.5, 1),
        words.error(evil),
        words.bar(Progress(1, 2, what=evil)),
        words.rows([Record(evil, "", "failed", reason=evil, notices=(evil,))]),
        words.command(Choices(), Path(evil), False),
    ]
    assert all("<img" not in html for html in shown)


def test_errors_are_alerts_and_progress_has_a_value():
    assert 'role="alert"' in words.error("no")
    assert words.error("no picture").endswith(">No picture</p>")
    assert words.error("a.png: no").endswith(">a.png: no</p>")
    html = words.bar(Progress(3, 12, 100.0))
    assert 'value="3" max="12"' in html
    assert "about 2 min left" in html


def test_other_options_than_the_results_are_said():
    made = Choices(outscale=4, format="png")
    shown = [words.facts("a.png", 9, 9, now, 1, None, True, made) for now in (Choices(format="jpg"), Choices(steps=1))]
    assert ["press Upscale" in html for html in shown] == [False, True]


def test_a_large_picture_says_what_is_different():
    assert "shown scaled down" in words.facts("a.png", 9000, 9000, Choices(), 1, 60.0, False)
    assert "1 windows" not in words.facts("a.png", 10, 10, Choices(), 2, 3.0, True)
