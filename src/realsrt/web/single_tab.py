"""The tab for one picture: layout, and which handler fills what. What is done is in `studio`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from realsrt.batch import PICTURES
from realsrt.errors import UsageError
from realsrt.web import studio, words
from realsrt.web.engine import Engine, plainly
from realsrt.web.options_panel import OptionsPanel, job, quiet
from realsrt.web.redo_panel import RedoPanel
from realsrt.web.running import Progress
from realsrt.web.session import Session, Version
from realsrt.web.studio import Step

SUFFIXES = [f".{ending}" for ending in PICTURES]
_EMPTY = (
    '<div class="empty"><b>Your picture appears here</b><span>Drop one, press Upscale, and drag the line to compare. '
    "Nothing leaves this machine.</span></div>"
)
Shown = dict[Any, Any]


class SingleTab:
    """Components as attributes; handlers give {component: update}."""

    def __init__(self, engine: Engine, session: gr.State) -> None:
        """Inside a Blocks context."""
        self._engine = engine
        with gr.Row(equal_height=False, elem_classes="split"):
            with gr.Column(scale=4, min_width=300, elem_classes="left"):
                self.file = gr.File(label="Picture", file_types=SUFFIXES, height=140, elem_id="drop")
                self.facts = gr.HTML(elem_id="facts")
                self.go = gr.Button("Upscale", variant="primary", size="lg", interactive=False, elem_id="go")
                self.cancel = gr.Button("Cancel", variant="stop", size="lg", visible=False, elem_id="cancel")
                with gr.Column(elem_classes="options"):
                    self.options = OptionsPanel(engine)
            with gr.Column(scale=8, min_width=300, elem_classes="right"):
                self.empty = gr.HTML(_EMPTY)
                self.input = gr.Image(
                    label="Your picture", interactive=False, visible=False, buttons=["fullscreen"], elem_id="input",
                    type="filepath", height=520,
                )  # fmt: skip
                self.stage = gr.ImageSlider(
                    label="Before and after", interactive=False, visible=False, buttons=["fullscreen"], type="filepath",
                    elem_id="stage", height=520, max_height=520,
                )  # fmt: skip
                self.status = gr.HTML(elem_id="status")
                with gr.Column(visible=False) as self.result:
                    with gr.Row(equal_height=True):
                        self.download = gr.DownloadButton(
                            "Download", variant="primary", size="lg", scale=3, elem_id="download"
                        )
                        self.undo = gr.Button("Undo", size="lg", interactive=False, elem_id="undo", min_width=90)
                    with gr.Group():
                        self.overlay = gr.Slider(
                            0, 1, 0, step=0.05, label="Confidence overlay", elem_id="overlay",
                            info="How sure the model is of each part, in colours over the picture.",
                        )  # fmt: skip
                        gr.HTML(words.LEGEND)
                    self.redo = RedoPanel()
                    with gr.Accordion("Command line", open=False):
                        self.command = gr.HTML()
        self._wire(session)

    def _wire(self, session: gr.State) -> None:
        chosen, redo = self.options.components, self.redo
        everything = [
            self.file, self.facts, self.go, self.cancel, self.empty, self.input, self.stage, self.status, self.result,
            self.download, self.undo, self.overlay, self.command, *redo.outputs,
        ]  # fmt: skip
        self.file.upload(self._open, [session, self.file, *chosen], everything, **quiet())
        self.file.clear(self._close, [session], everything, **quiet())
        for option in (self.options.scale, self.options.steps, self.options.stride):
            option.change(self._facts, [session, *chosen], [self.facts], **quiet())
        for option in self.options.of_file:
            option.change(self._rewrite, [session, *chosen], [self.download, self.command, self.status], **quiet())
        begun = self.go.click(self._begin, [session], everything, **quiet())
        begun.then(self._upscale, [session, *chosen], everything, **job())
        self.cancel.click(_stop, [session], None, **quiet())
        self.overlay.release(self._look, [session, self.overlay], [self.stage], **quiet())
        self.overlay.input(self._look, [session, self.overlay], [self.stage], **quiet(trigger_mode="always_last"))
        begun = redo.go.click(self._begin, [session], everything, **quiet())
        begun.then(self._regenerate, [session, self.overlay, *redo.inputs, *chosen], everything, **job())
        redo.gallery.select(self._pick, [session, self.overlay, *chosen], everything, **quiet())
        self.undo.click(self._undo, [session, self.overlay, *chosen], everything, **quiet())

    # handlers

    def _open(self, session: Session, file: str | None, *chosen: Any) -> Shown:
        if not file:
            return self._close(session)
        path = Path(file)
        cleared = self._close(session) | {self.file: gr.skip()}
        try:
            studio.open_picture(self._engine, session, path)
            preview = studio.first_look(self._engine, session)
        except Exception as problem:
            mine = session.source
            session.close()
            text = plainly(problem, mine or path)
            return cleared | {self.file: None, self.status: words.error(text)}
        return cleared | {
            self.input: gr.update(value=str(preview), visible=True),
            self.empty: gr.update(visible=False),
            self.facts: self._facts(session, *chosen),
            self.go: gr.update(interactive=True, visible=True),
        }

    def _close(self, session: Session) -> Shown:
        session.close()
        return {
            self.file: None, self.facts: "", self.status: "", self.go: gr.update(interactive=False, visible=True),
            self.cancel: gr.update(visible=False), self.empty: gr.update(visible=True),
            self.input: gr.update(value=None, visible=False), self.stage: gr.update(value=None, visible=False),
            self.result: gr.update(visible=False), self.overlay: 0,
        }  # fmt: skip

    def _facts(self, session: Session, *chosen: Any) -> str:
        if session.source is None:
            return ""
        try:
            choices = self.options.read(chosen)
            (width, height), name = session.size, session.source.name
            windows = self._engine.windows(width, height, choices)
            seconds, live = self._engine.estimate(windows), width * height <= studio.LIVE
            return words.facts(name, width, height, choices, windows, seconds, live)
        except (UsageError, ValueError) as problem:
            return words.error(str(problem))

    def _begin(self, session: Session) -> Shown:
        session.begin()
        return self._running(words.bar(Progress(0, 0, what="waiting for the model")))

    def _running(self, status: str) -> Shown:
        return {
            self.status: status, self.go: gr.update(visible=False), self.cancel: gr.update(visible=True),
            self.undo: gr.update(interactive=False), self.redo.go: gr.update(interactive=False),
        }  # fmt: skip

    def _upscale(self, session: Session, *chosen: Any) -> Iterator[Shown]:
        def begin() -> Iterator[Any]:
            return studio.upscale(self._engine, session, self.options.read(chosen))

        yield from self._follow(session, begin, 0, chosen, self._finished)

    def _regenerate(self, session: Session, opacity: float, *values: Any) -> Iterator[Shown]:
        count = len(self.redo.inputs)
        asked, chosen = values[:count], values[count:]

        def begin() -> Iterator[Any]:
            if session.version is None:
                raise UsageError(studio.why_not(session))
            region, sampling = self.redo.read(session.version, asked)
            return studio.regenerate(self._engine, session, region, **sampling)

        layers = self.redo.layers(asked)
        yield from self._follow(
            session, begin, opacity, chosen, lambda *args: self._finished(*args) | self.redo.keep(session, layers)
        )

    def _follow(
        self, session: Session, begin: Callable[[], Iterator[Any]], opacity: float, chosen: Any,
        finished: Callable[..., Shown],
    ) -> Iterator[Shown]:  # fmt: skip
        """Show a job as it goes, and how it ended: whatever happens, the buttons come back."""
        lead = ""
        try:
            for item in begin():
                if isinstance(item, Progress):
                    yield {self.status: words.bar(item, lead)}
                elif isinstance(item, Step):
                    lead = f"step {item.number} of {item.count} shown"
                    yield {
                        self.stage: gr.update(value=(str(item.before), str(item.after)), visible=True),
                        self.input: gr.update(visible=False),
                    }
                elif isinstance(item, Version):
                    yield finished(session, opacity, chosen)
        except Exception as problem:
            yield self._rested(session) | {self.status: words.error(plainly(problem, session.source))}

    def _rested(self, session: Session) -> Shown:
        redoable = session.version is not None and session.version.out is not None
        shown: Shown = {
            self.go: gr.update(visible=True, interactive=session.source is not None),
            self.cancel: gr.update(visible=False),
            self.undo: gr.update(interactive=len(session.versions) > 1),
            self.redo.go: gr.update(interactive=redoable),
        }
        if session.source is not None and session.version is None:  # no half-made picture is left standing
            shown |= {self.stage: gr.update(visible=False), self.input: gr.update(visible=True)}
        elif session.version is not None:
            shown[self.stage] = self._look(session, 0)
        return shown

    def _finished(self, session: Session, opacity: float, chosen: Any) -> Shown:
        """The present version on the screen, and its file behind the button."""
        version = session.version
        assert version is not None
        assert session.source is not None
        choices = self.options.read(chosen)
        path = studio.export(self._engine, session, choices, version)
        mean = None if version.confidence is None else float(version.confidence.mean())
        picture = version.picture
        return self._rested(session) | {
            self.facts: self._facts(session, *chosen),
            self.input: gr.update(visible=False),
            self.stage: gr.update(value=self._look(session, opacity), visible=True),
            self.overlay: opacity,
            self.status: words.result(path.name, picture.width, picture.height, mean, len(version.redone)),
            self.result: gr.update(visible=True),
            self.download: gr.update(value=str(path), label=f"Download {path.suffix[1:].upper()}"),
            self.command: words.command(choices, session.source, bool(version.redone)),
            **self.redo.show(session),
        }

    def _look(self, session: Session, opacity: float) -> Any:
        if session.version is None:
            return gr.skip()
        before, after = studio.look(session, session.version, opacity)
        return str(before), str(after)

    def _rewrite(self, session: Session, *chosen: Any) -> tuple[Any, Any, Any]:
        """The file again, after its format or metadata changed; the pixels are there."""
        version = session.version
        if version is None or session.source is None:
            return gr.skip(), gr.skip(), gr.skip()
        try:
            choices = self.options.read(chosen)
            path = studio.export(self._engine, session, choices, version)
        except Exception as problem:
            return gr.skip(), gr.skip(), words.error(plainly(problem, session.source))
        update = gr.update(value=str(path), label=f"Download {path.suffix[1:].upper()}")
        picture = version.picture
        mean = None if version.confidence is None else float(version.confidence.mean())
        status = words.result(path.name, picture.width, picture.height, mean, len(version.redone))
        return update, words.command(choices, session.source, bool(version.redone)), status

    def _pick(self, session: Session, opacity: float, event: gr.SelectData, *chosen: Any) -> Shown:
        return self._try(session, lambda: studio.pick(session, int(event.index)), opacity, chosen)

    def _undo(self, session: Session, opacity: float, *chosen: Any) -> Shown:
        return self._try(session, lambda: studio.undo(session), opacity, chosen)

    def _try(self, session: Session, act: Callable[[], Any], opacity: float, chosen: Any) -> Shown:
        try:
            act()
            return self._finished(session, opacity, chosen)
        except Exception as problem:
            return {self.status: words.error(plainly(problem, session.source))}


def _stop(session: Session) -> None:
    session.stop.set()
