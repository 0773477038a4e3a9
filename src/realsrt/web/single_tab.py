"""The tab for one picture: layout, and which handler fills what. What is done is in `studio`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from realsrt.errors import UsageError
from realsrt.io.suffixes import PICTURES
from realsrt.web import studio, words
from realsrt.web.engine import Engine, plainly
from realsrt.web.options_panel import OptionsPanel, job, quiet
from realsrt.web.redo_panel import RedoPanel
from realsrt.web.running import Progress
from realsrt.web.session import Session
from realsrt.web.studio import StepPreview

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
        now = [session, self.overlay, redo.editor, *chosen]
        self.file.upload(self._open, [session, self.file, *chosen], everything, **quiet())
        self.file.clear(self._close, [session], everything, **quiet())
        for option in self.options.of_pixels:
            option.change(self._changed, [session, *chosen], [self.facts, self.status], **quiet())
        for option in self.options.of_file:
            option.change(self._rewrite, [session, *chosen], [self.download, self.command, self.status], **quiet())
        begun = self.go.click(self._begin, [session, *chosen], everything, **quiet())
        ran = begun.success(self._upscale, [session, *chosen], everything, **job())
        ran.then(self._ended, now, everything, **quiet())
        self.cancel.click(Session.cancel, [session], None, **quiet())
        self.overlay.release(self._look, [session, self.overlay], [self.stage], **quiet())
        self.overlay.input(self._look, [session, self.overlay], [self.stage], **quiet(trigger_mode="always_last"))
        begun = redo.go.click(self._begin, [session, *redo.inputs, *chosen], everything, **quiet())
        ran = begun.success(self._regenerate, [session, *redo.inputs, *chosen], everything, **job())
        ran.then(self._ended, now, everything, **quiet())
        redo.gallery.select(self._pick, now, everything, **quiet())
        self.undo.click(self._undo, now, everything, **quiet(trigger_mode="multiple"))

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
            session.said = words.error(plainly(problem, mine or path))
            return cleared | {self.file: None, self.status: session.said}
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
            made = None if session.version is None else session.version.choices
            return words.facts(name, width, height, choices, windows, seconds, live, made)
        except (UsageError, ValueError) as problem:
            return words.error(str(problem))

    def _changed(self, session: Session, *chosen: Any) -> Shown:
        """What will be made; what was wrong with the options before is no longer said."""
        shown: Shown = {self.facts: self._facts(session, *chosen)}
        if not session.wrong:
            return shown
        session.wrong = False
        stays = {} if session.version is None else self._rewrite(session, *chosen)
        return shown | {self.status: stays.get(self.status, "")}

    def _begin(self, session: Session, *_: Any) -> Shown:
        """What the job will be given is an input here too: what Gradio refuses of it is refused before anything is
        hidden."""
        session.begin()
        session.said = words.bar(Progress(0, 0, what="about to begin"))
        return {
            self.status: session.said, self.go: gr.update(visible=False), self.cancel: gr.update(visible=True),
            self.undo: gr.update(interactive=False), self.redo.go: gr.update(interactive=False),
        }  # fmt: skip

    def _upscale(self, session: Session, *chosen: Any) -> Iterator[Shown]:
        yield from self._follow(session, lambda: studio.upscale(self._engine, session, self.options.read(chosen)))

    def _regenerate(self, session: Session, *values: Any) -> Iterator[Shown]:
        def begin() -> Iterator[Any]:
            if session.version is None:
                raise UsageError(studio.why_not(session))
            region, sampling = self.redo.read(session.version, values[: len(self.redo.inputs)])
            return studio.regenerate(self._engine, session, region, **sampling)

        yield from self._follow(session, begin)

    def _follow(self, session: Session, begin: Callable[[], Iterator[Any]]) -> Iterator[Shown]:
        """Show a job as it goes. A job that is no longer wanted, as the picture is gone, shows nothing.

        How it ended is left to `_ended`: Gradio sends what came last twice, and between the two a person may go on.
        """
        nothing: Shown = {self.status: gr.skip()}
        stop, lead = session.claim(), ""
        yield nothing  # of a generator without an item Gradio makes None for every output
        if stop is None:
            return
        try:
            for item in begin():
                if session.stop is not stop:
                    break
                if isinstance(item, Progress):
                    yield {self.status: words.bar(item, lead)}
                elif isinstance(item, StepPreview):
                    lead = f"step {item.number} of {item.count} shown"
                    yield {
                        self.stage: gr.update(value=(str(item.before), str(item.after)), visible=True),
                        self.input: gr.update(visible=False),
                    }
            else:
                session.ended = ""
        except Exception as problem:
            if session.stop is stop:
                session.ended = plainly(problem, session.source)
                if self._engine.closing.is_set():  # then nothing comes after this
                    yield {self.status: words.error(session.ended)}
        yield nothing if session.stop is stop else {self.status: session.said}  # it may have come too late

    def _ended(self, session: Session, opacity: float, editor: Any, *chosen: Any) -> Shown:
        """The result, or why there is none; either way the buttons come back."""
        problem, session.ended = session.ended, None
        if problem is None or session.source is None:
            return {self.status: gr.skip()}
        session.wrong = bool(problem)
        if problem:
            return self._rested(session, opacity) | {self.status: words.error(problem)}
        anew = session.version is not None and not session.version.redone
        layers = [] if anew else self.redo.layers([editor])
        return self._finished(session, 0 if anew else opacity, chosen, layers)

    def _rested(self, session: Session, opacity: float) -> Shown:
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
            shown |= {
                self.stage: gr.update(value=self._look(session, opacity), visible=True), self.overlay: opacity,
                self.input: gr.update(visible=False),
            }  # fmt: skip
        return shown

    def _finished(self, session: Session, opacity: float, chosen: Any, layers: Sequence[Any] = ()) -> Shown:
        """The present version on the screen, what was painted before on it, and its file behind the button."""
        return self._rested(session, opacity) | {
            self.facts: self._facts(session, *chosen),
            self.result: gr.update(visible=True),
            **self._rewrite(session, *chosen),
            **self.redo.show(session, layers),
        }

    def _file(self, session: Session, chosen: Any) -> Shown:
        """The present version's file, in the format chosen now, and words on it. Raises ImageError, UsageError."""
        version, choices = session.version, self.options.read(chosen)
        assert version is not None
        assert session.source is not None
        path = studio.export(self._engine, session, choices, version)
        mean = None if version.confidence is None else float(version.confidence.mean())
        size, remarks = (version.picture.width, version.picture.height), (*version.notices, *version.remarks[path])
        return {
            self.status: words.result(path.name, *size, mean, len(version.redone), remarks),
            self.download: gr.update(value=str(path), label=f"Download {path.suffix[1:].upper()}", interactive=True),
            self.command: words.command(version.choices.of_file(choices), session.source, bool(version.redone)),
        }

    def _look(self, session: Session, opacity: float) -> Any:
        if session.version is None:
            return gr.skip()
        before, after = studio.look(session, session.version, opacity)
        return str(before), str(after)

    def _rewrite(self, session: Session, *chosen: Any) -> Shown:
        """The file in the format chosen now; or why there is none, as options can be such that nothing can be made."""
        if session.version is None or session.source is None:
            return {self.status: gr.skip()}
        try:
            return self._file(session, chosen)
        except Exception as problem:
            return {
                self.status: words.error(plainly(problem, session.source)), self.download: gr.update(interactive=False),
            }  # fmt: skip

    def _pick(self, session: Session, opacity: float, editor: Any, event: gr.SelectData, *chosen: Any) -> Shown:
        return self._try(session, lambda: studio.pick(session, int(event.index)), opacity, editor, chosen)

    def _undo(self, session: Session, opacity: float, editor: Any, *chosen: Any) -> Shown:
        return self._try(session, lambda: studio.undo(session), opacity, editor, chosen)

    def _try(self, session: Session, act: Callable[[], Any], opacity: float, editor: Any, chosen: Any) -> Shown:
        try:
            act()
            return self._finished(session, opacity, chosen, self.redo.layers([editor]))
        except Exception as problem:
            return {self.status: words.error(plainly(problem, session.source))}
