import sys

from realsrt.cli import show

ODD = "a\n[red]b\tc.png"


def test_odd_names_stay_in_one_cell(monkeypatch, capsys):
    show.table("t", ["name", "n"], [[ODD, 1]])
    assert capsys.readouterr().out == "name\tn\na\\n[red]b\\tc.png\t1\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    show.table(ODD, ["name", "n"], [[ODD, 1]])
    assert capsys.readouterr().out.count("a\\n[red]b\\tc.png") == 2


def test_odd_names_stay_in_one_line_of_the_bars(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    with show.Screen(1) as screen:
        screen.begin(ODD)
        screen.windows(1, 2)
    assert "a\\n[red]b\\tc.png" in capsys.readouterr().err


def test_who_pipes_is_told_how_long_it_takes(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(show.time, "monotonic", lambda: now[0])
    with show.Screen(1) as screen:
        screen.begin("photo.jpg")
        for seconds, done in ((1, 1), (9, 10), (20, 20), (45, 50), (90, 100)):
            now[0] = 100.0 + seconds
            screen.windows(done, 100)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [
        "realsrt: note: photo.jpg: 10 % done, about 80 s left",
        "realsrt: note: photo.jpg: 50 % done, about 45 s left",
    ]


def test_what_comes_before_the_first_window_is_not_taken_for_the_pace(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(show.time, "monotonic", lambda: now[0])
    with show.Screen(1) as screen:
        screen.begin("photo.jpg")
        for seconds, done in ((50, 1), (51, 2), (52, 3)):
            now[0] = 100.0 + seconds
            screen.windows(done, 100)
    assert capsys.readouterr().err == "realsrt: note: photo.jpg: 2 % done, about 2 min left\n"


def test_who_is_soon_done_hears_nothing(capsys):
    with show.Screen(1) as screen:
        screen.begin("photo.jpg")
        for done in range(100):
            screen.windows(done, 99)
    assert capsys.readouterr().err == ""
