"""What `realsrt evaluate` found: shown as tables or JSON lines, and written as CSV and JSON."""

import csv
import io
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from realsrt.cli.show import table
from realsrt.errors import ImageError, why
from realsrt.io.atomic import write_whole

if TYPE_CHECKING:
    from realsrt.evaluation.registry import Metric

ODD = "backslashreplace"  # names of files that are no text


@dataclass(frozen=True)
class ScoreRow:
    """One picture: its files by role, and its values by role and metric, or the reason why there are none."""

    name: str
    files: Mapping[str, Path]
    values: Mapping[str, Mapping[str, float]]
    reason: str | None = None


@dataclass
class Scores:
    """All pictures. `judged` are the roles that have values: ("result",) or ("A", "B")."""

    metrics: "Sequence[Metric]"
    judged: Sequence[str]
    roles: Mapping[str, Path]
    rows: list[ScoreRow] = field(default_factory=list)

    def add(self, row: ScoreRow, streams: Sequence[IO[str]]) -> None:
        """Keep it, and write its JSON line to the streams."""
        self.rows.append(row)
        for stream in streams:
            print(json.dumps(self.record(row), ensure_ascii=False), file=stream, flush=True)

    @property
    def done(self) -> list[ScoreRow]:
        return [row for row in self.rows if row.values]

    @property
    def failed(self) -> int:
        return len(self.rows) - len(self.done)

    def column(self, role: str, metric: str) -> list[float]:
        return [row.values[role][metric] for row in self.done]

    def record(self, row: ScoreRow) -> dict[str, Any]:
        """A picture for JSON; numbers that are not finite (the PSNR of equal pictures) are null."""
        out: dict[str, Any] = {"name": row.name, "status": "failed" if row.reason else "done"}
        out |= {role: str(path) for role, path in row.files.items()}
        if row.reason:
            return out | {"reason": row.reason}
        values = {role: {name: _finite(value) for name, value in row.values[role].items()} for role in self.judged}
        return out | {"metrics": values if len(self.judged) > 1 else values["result"]}

    def summary(self) -> dict[str, Any]:
        """Means with their intervals by metric; with two roles the paired difference B - A, wins and the verdict."""
        from realsrt.evaluation import pairing

        found: dict[str, Any] = {}
        for metric in self.metrics if self.done else ():
            columns = [self.column(role, metric.name) for role in self.judged]
            better = {"better": "up" if metric.up else "down"}
            if len(columns) == 1:
                found[metric.name] = better | asdict(pairing.mean(columns[0]))
                continue
            both = pairing.compare(metric, *columns)
            found[metric.name] = better | {
                "A": asdict(both.a), "B": asdict(both.b), "difference": asdict(both.difference) | {"is": "B - A"},
                "wins": {"A": both.wins_a, "B": both.wins_b}, "verdict": both.verdict,
            }  # fmt: skip
        return {"status": "summary", "done": len(self.done), "failed": self.failed, "metrics": _finite(found)}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def show(scores: Scores) -> None:
    """Tables on a terminal; elsewhere the last JSON line, the pictures' lines being there already."""
    summary = scores.summary()
    if not sys.stdout.isatty():
        print(json.dumps(summary, ensure_ascii=False), flush=True)
        return
    if not scores.done:
        return
    arrows = {metric.name: f"{metric.name} {'↑' if metric.up else '↓'}" for metric in scores.metrics}
    lines = [
        [
            row.name,
            *(" → ".join(_number(row.values[role][m.name], m) for role in scores.judged) for m in scores.metrics),
        ]
        for row in scores.done
    ]
    found = summary["metrics"]
    if len(scores.judged) == 1:
        lines.append(["mean", *(_number(found[m.name]["mean"], m) for m in scores.metrics)])
        lines.append(["95 % interval", *(_interval(found[m.name], m) for m in scores.metrics)])
        table(f"{len(scores.done)} pictures; ↑ more is better, ↓ less", ["picture", *arrows.values()], lines)
        return
    table("A → B; ↑ more is better, ↓ less", ["picture", *arrows.values()], lines)
    columns = ["metric", "A", "B", "B - A", "95 % interval", "wins A:B", "says"]
    rows = []
    for m in scores.metrics:
        one = found[m.name]
        cells = [_number(one[part]["mean"], m) for part in ("A", "B", "difference")]
        cells[2] = cells[2] if cells[2].startswith(("-", "∞")) else f"+{cells[2]}"
        wins = one["wins"]
        rows.append(
            [arrows[m.name], *cells, _interval(one["difference"], m), f"{wins['A']}:{wins['B']}", one["verdict"]]
        )
    table(f"{len(scores.done)} pictures: A = {scores.roles['A']}, B = {scores.roles['B']}", columns, rows)


def _number(value: float | None, metric: "Metric") -> str:
    return "∞" if value is None or not math.isfinite(value) else f"{value:.{metric.digits}f}"


def _interval(found: Mapping[str, Any], metric: "Metric") -> str:
    return "" if found["low"] is None else f"{_number(found['low'], metric)} … {_number(found['high'], metric)}"


def write_csv(scores: Scores, path: Path) -> None:
    """A line a picture, a column a metric (metric_A, metric_B with two folders), numbers in full."""
    ends = [("", scores.judged[0])] if len(scores.judged) == 1 else [(f"_{role}", role) for role in scores.judged]
    columns = [(role, metric.name, metric.name + end) for metric in scores.metrics for end, role in ends]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["picture", *(title for *_, title in columns)])
    writer.writerows([row.name, *(row.values[role][name] for role, name, _ in columns)] for row in scores.done)
    _write(path, text.getvalue())


def write_json(scores: Scores, path: Path) -> None:
    """One object: the summary's fields, `roles` (the folders) and `pictures`."""
    document = scores.summary() | {"roles": {role: str(folder) for role, folder in scores.roles.items()}}
    document["pictures"] = [scores.record(row) for row in scores.rows]
    del document["status"]
    _write(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text.encode(errors=ODD))
    except OSError as error:
        raise ImageError(f"{path}: cannot be written: {why(error)}") from error
