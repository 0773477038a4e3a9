"""The tab for many pictures: layout and wiring. What is done is in `batch`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from realsrt.batch.report import Record
from realsrt.web import batch, words
from realsrt.web.batch import BatchFinished, RowUpdate
from realsrt.web.engine import Engine, plainly
from realsrt.web.options_panel import OptionsPanel, job, quiet
from realsrt.web.running import Progress
from realsrt.web.session import Session
from realsrt.web.single_tab import SUFFIXES

_EMPTY = (
    '<div class="empty"><b>Many pictures, one after another</b><span>Each gets a line here. A bad one is named and the '
    "rest is done; what is done comes as a zip.</span></div>"
)


class BatchTab:
    """Components as attributes."""

    def __init__(self, engine: Engine, session: gr.State) -> None:
        """Inside a Blocks context. `session` is this tab's own: a batch and the single picture do not meet."""
        self._engine = engine
        with gr.Row(equal_height=False, elem_classes="split"):
            with gr.Column(scale=4, min_width=300, elem_classes="left"):
                self.files = gr.File(
                    label="Pictures", file_types=SUFFIXES, file_count="multiple", height=200, elem_id="drop-many"
                )
                self.go = gr.Button("Upscale all", variant="primary", size="lg", interactive=False, elem_id="go-many")
                self.cancel = gr.Button("Cancel", variant="stop", size="lg", visible=False, elem_id="cancel-many")
                with gr.Column(elem_classes="options"):
                    self.options = OptionsPanel(engine)
            with gr.Column(scale=8, min_width=300, elem_classes="right"):
                self.table = gr.HTML(_EMPTY, elem_id="table-many")
                self.status = gr.HTML(elem_id="status-many")
                self.download = gr.DownloadButton(
                    "Download zip", variant="primary", size="lg", visible=False, elem_id="zip"
                )
        outputs = [self.table, self.status, self.go, self.cancel, self.download]
        self.files.change(self._listed, [session, self.files], outputs, **quiet())
        begun = self.go.click(self._begin, [session, *self.options.components], outputs, **quiet())
        begun.success(self._run, [session, self.files, *self.options.components], outputs, **job())
        self.cancel.click(Session.cancel, [session], None, **quiet())

    def _listed(self, session: Session, files: list[str] | None) -> dict[Any, Any]:
        session.halt()
        records = [Record(Path(file).name, "", "waiting") for file in files or []]
        return {
            self.table: words.rows(records) or _EMPTY, self.status: "", self.download: gr.update(visible=False),
            self.go: gr.update(interactive=bool(files), visible=True), self.cancel: gr.update(visible=False),
        }  # fmt: skip

    def _begin(self, session: Session, *_: Any) -> dict[Any, Any]:
        session.begin()
        return {
            self.status: words.bar(Progress(0, 0, what="about to begin")), self.go: gr.update(visible=False),
            self.cancel: gr.update(visible=True), self.download: gr.update(visible=False),
        }  # fmt: skip

    def _run(self, session: Session, files: list[str] | None, *chosen: Any) -> Iterator[dict[Any, Any]]:
        records = [Record(Path(file).name, "", "waiting") for file in files or []]
        rest = {self.go: gr.update(visible=True), self.cancel: gr.update(visible=False)}
        nothing, stop = {self.status: gr.skip()}, session.claim()
        yield nothing  # of a generator without an item Gradio makes None for every output
        if stop is None:
            return
        try:
            uploads = [Path(file) for file in files or []]
            for item in batch.run(self._engine, session, uploads, self.options.read(chosen)):
                if session.stop is not stop:  # other files were dropped
                    break
                if isinstance(item, Progress):
                    yield {self.status: words.bar(item)}
                elif isinstance(item, RowUpdate):
                    records[item.number] = item.record
                    yield {self.table: words.rows(records)}
                elif isinstance(item, BatchFinished):
                    yield rest | self._ended(item, records)
        except Exception as problem:
            if session.stop is stop:
                yield rest | {
                    self.status: words.error(plainly(problem, None)), self.table: words.rows(_unfinished(records)),
                }  # fmt: skip
        yield nothing  # what comes last is sent twice

    def _ended(self, end: BatchFinished, records: list[Record]) -> dict[Any, Any]:
        left = _unfinished(records)
        count = {status: sum(r.status == status for r in left) for status in ("done", "failed", "left")}
        text = ", ".join(
            f"{count[status]} {name}" for status, name in (("done", "done"), ("failed", "failed"), ("left", "not done"))
            if count[status] or status == "done"
        )  # fmt: skip
        text = f"{end.why}: {text}" if end.why else text
        return {
            self.table: words.rows(left),
            self.status: words.said(text[:1].upper() + text[1:], "good" if count["done"] else "bad"),
            self.download: gr.update(value=None if end.path is None else str(end.path), visible=end.path is not None),
        }


def _unfinished(records: list[Record]) -> list[Record]:
    """What has not been done will not be."""
    return [replace(r, status="left") if r.status in ("waiting", "working") else r for r in records]
