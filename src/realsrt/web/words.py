"""Sentences and pieces of HTML that the page shows."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from realsrt.batch.report import Record
from realsrt.web.choices import Choices
from realsrt.web.running import Progress


def said(text: str, kind: str = "") -> str:
    """A line of status, read out by screen readers; kind: "", "good" or "bad"."""
    return f'<p class="said {kind}" role="{"alert" if kind == "bad" else "status"}">{escape(text)}</p>' if text else ""


def error(text: str) -> str:
    """An error's line, with a capital unless it begins with a file's name."""
    of_file = text.partition(" ")[0].endswith(":")
    return said(text if of_file else text[:1].upper() + text[1:], "bad")


def bar(progress: Progress, lead: str = "") -> str:
    """A progress bar with its words."""
    words = [part for part in (lead, progress.what) if part]
    if progress.total > 1:
        words.append(f"window {progress.done} of {progress.total}")
    if progress.left is not None and progress.done < progress.total:
        words.append(f"about {duration(progress.left)} left")
    text = escape(" · ".join(words) or "working")
    value = f' value="{progress.done}" max="{progress.total}"' if progress.total else ""
    return f'<div class="going" role="status"><progress{value} aria-label="{text}"></progress><p>{text}</p></div>'


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def facts(
    name: str, width: int, height: int, choices: Choices, windows: int, seconds: float | None, live: bool,
    made: Choices | None = None,
) -> str:  # fmt: skip
    """What will be made of a picture; `made`: the choices of what is there already."""
    out_width, out_height = choices.out_size(width, height)
    lines = [f"<b>{escape(name)}</b>", f"{width} × {height} → {out_width} × {out_height} px"]
    lines.append(f"about {duration(seconds)}" if seconds is not None else f"{windows} windows to compute")
    if not live:
        lines.append("large: shown scaled down, the file is whole; parts cannot be redone")
    if made is not None and made.of_file(choices) != choices:
        lines.append("<b>press Upscale to use these options</b>")
    return '<p class="facts">' + " · ".join(f"<span>{line}</span>" for line in lines) + "</p>"


def result(
    name: str, width: int, height: int, confidence: float | None, redone: int, remarks: Sequence[str] = ()
) -> str:
    parts = [f"{name}: {width} × {height} px"]
    parts += [f"mean confidence {confidence:.2f}"] if confidence is not None else []
    times = {1: "once", 2: "twice"}.get(redone, f"{redone} times")
    parts += [f"redone {times}"] if redone else []
    return said(" · ".join(parts), "good") + "".join(said(remark) for remark in remarks)


def command(choices: Choices, source: Path, redone: bool) -> str:
    """The command line that makes the same file."""
    if redone:
        return '<p class="hint">Parts were redone by hand; no command makes this file.</p>'
    line = f'<pre class="command" tabindex="0">{escape(choices.command(source))}</pre>'
    return f'<p class="hint">The same file from the command line:</p>{line}'


def rows(records: list[Record]) -> str:
    """The batch as a table."""
    marks = {"done": "✓ done", "failed": "✕ failed", "working": "… working", "waiting": "waiting", "left": "not done"}
    lines = []
    for record in records:
        told = record.reason or (f"{record.out_width} × {record.out_height} px" if record.out_width else "")
        told += f" · confidence {record.confidence:.2f}" if record.confidence is not None else ""
        told += f" · {duration(record.seconds)}" if record.seconds is not None else ""
        told += "".join(f" · {notice}" for notice in record.notices)
        state = f'<td class="{record.status}">{marks[record.status]}</td>'
        lines.append(f'<tr><th scope="row">{escape(record.source)}</th>{state}<td>{escape(told)}</td></tr>')
    head = '<thead><tr><th scope="col">Picture</th><th scope="col">State</th><th scope="col">Result</th></tr></thead>'
    return f'<div class="batch"><table>{head}<tbody>{"".join(lines)}</tbody></table></div>' if lines else ""


LEGEND = (
    '<div class="legend" aria-label="Colours of the confidence: orange is unsure, blue is sure"><span>unsure</span>'
    "<i></i><span>sure</span></div>"
)
