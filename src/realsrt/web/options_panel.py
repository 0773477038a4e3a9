"""The options, the same on both tabs: size and format at hand, the rest folded away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import gradio as gr

from realsrt.inference.options import ColorFix, Refine
from realsrt.io.image import FORMATS, supported_formats
from realsrt.io.suffixes import WRITABLE
from realsrt.web import choices
from realsrt.web.choices import OWN, SAME, Choices
from realsrt.web.engine import Engine

MOST_WAITING = 24  # each holds a thread of Gradio's forty; further ones wait in Gradio's queue
DENOISE = ("auto", "0", "0.25", "0.5", "0.75", "1")
EFFORTS = ("Fast", "Standard", "Careful")


class OptionsPanel:
    """The components, in the order of `choices.make`; `read` makes Choices of their values."""

    def __init__(self, engine: Engine) -> None:
        """Inside a Blocks context: lays them out here."""
        self._engine = engine
        model = engine.names[0]
        steps, stride, window = self._own(model)
        with gr.Row():
            self.scale = gr.Number(4, label="Scale", info="times wider and higher", min_width=120)
            self.format = gr.Dropdown(
                [SAME, *writable()], value=SAME, label="Format", info="of the file", min_width=120
            )
        self.effort = gr.Radio(
            list(EFFORTS), value="Standard", label="Effort",
            info="Fast: one step, no overlap. Careful: twice the steps, more overlap; slower.",
        )  # fmt: skip
        with gr.Accordion("More options", open=False):
            self.model = gr.Dropdown(list(engine.names), value=model, label="Model")
            self.fidelity = slider(0, 1, 1, step=0.05, label="Fidelity", info="how closely to follow the input")
            self.denoise = gr.Dropdown(
                list(DENOISE), value="auto", label="Denoise",
                info="0 keeps texture, 1 cleans up; auto: as the image needs",
            )  # fmt: skip
            self.steps = slider(1, 16, steps, step=1, label="Steps", info=f"the model's own: {steps}")
            self.stride = slider(
                8, window, stride, step=8, label="Stride", info=f"less: windows overlap more; the model's own: {stride}"
            )
            self.color_fix = gr.Dropdown([OWN, *get_args(ColorFix)], value=OWN, label="Colour fix")
            self.refine = gr.Dropdown([OWN, *get_args(Refine)], value=OWN, label="Later steps compute")
            self.quality = gr.Textbox(  # a gr.Number makes 0 of None once it is unfolded
                "", label="Quality", info="1 to 100, of JPEG, WebP, AVIF", placeholder="the usual", max_lines=1
            )
            self.strip = gr.Checkbox(False, label="Leave metadata out", info="all but colour profile and density")
            self.provenance = gr.Checkbox(True, label="Note model and settings in the file")
        self.effort.input(self._of_effort, [self.effort, self.model], [self.steps, self.stride], **quiet())
        self.model.input(self._of_effort, [self.effort, self.model], [self.steps, self.stride], **quiet())

    @property
    def components(self) -> list[Any]:
        return [
            self.model, self.scale, self.format, self.steps, self.stride, self.fidelity, self.color_fix, self.refine,
            self.quality, self.strip, self.provenance, self.denoise,
        ]  # fmt: skip

    @property
    def of_pixels(self) -> list[Any]:
        """Those that need the picture made again."""
        return [
            self.model, self.scale, self.steps, self.stride, self.fidelity, self.color_fix, self.refine, self.denoise,
        ]  # fmt: skip

    @property
    def of_file(self) -> list[Any]:
        """Those that concern the file only, not its pixels."""
        return [self.format, self.quality, self.strip, self.provenance]

    def read(self, values: Sequence[Any]) -> Choices:
        """Raises UsageError."""
        steps, stride, _ = self._own(values[0])
        return choices.make(*values, own_steps=steps, own_stride=stride)

    def _own(self, model: str) -> tuple[int, int, int]:
        """Steps, stride and window of a model."""
        config = self._engine.config(model)
        return config.num_steps, config.stride, config.window

    def _of_effort(self, effort: str, model: str) -> tuple[int, int]:
        steps, stride, window = self._own(model)
        return {"Fast": (1, window), "Careful": (2 * steps, window // 2)}.get(effort, (steps, stride))


def slider(minimum: float, maximum: float, value: float, **more: Any) -> gr.Slider:
    """A slider where what is typed beyond an end counts as the end, and nothing as `value`, as the page shows a moment
    later. Gradio's own fails."""
    made = gr.Slider(minimum, maximum, value, **more)

    def within(payload: float | None) -> float:
        return min(max(value if payload is None else payload, made.minimum), made.maximum)

    made.preprocess = within  # type: ignore[method-assign]
    return made


def writable() -> list[str]:
    """Endings of the formats this installation writes, one for each."""
    known = [format.suffixes[0].lstrip(".") for format in FORMATS if format.name in supported_formats()["write"]]
    return [ending for ending in known if ending in WRITABLE]


def quiet(**more: Any) -> dict[str, Any]:
    """For handlers that answer at once: not queued, no spinner, not part of an API."""
    return {"queue": False, "show_progress": "hidden", "api_visibility": "private", **more}


def job(**more: Any) -> dict[str, Any]:
    """For handlers that use the model. Whose turn it is, the engine says: who waits is told, and can cancel."""
    return {
        "concurrency_id": "model", "concurrency_limit": MOST_WAITING, "show_progress": "hidden",
        "api_visibility": "private", **more,
    }  # fmt: skip
