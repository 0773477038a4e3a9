"""Redoing a part of the result: where, how boldly, how many candidates; and picking one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr
import numpy as np

from realsrt.errors import UsageError
from realsrt.web import studio, words
from realsrt.web.options_panel import quiet, slider
from realsrt.web.session import Session, Version

PAINTED, UNSURE = "What I paint", "All unsure places"
BRUSH = "#e11d74"


class RedoPanel:
    """Components as attributes; `read` makes of their values what `studio.regenerate` takes."""

    def __init__(self) -> None:
        """Inside a Blocks context."""
        with gr.Accordion("Redo a part", open=False, elem_id="redo") as self.panel:
            self.hint = gr.HTML(visible=False)
            with gr.Row(equal_height=False) as self.body:
                with gr.Column(scale=7, min_width=280):
                    self.editor = gr.ImageEditor(
                        label="Click or paint over what looks wrong", type="numpy", sources=(), transforms=(),
                        layers=False, buttons=[], format="png", height=440, interactive=True, elem_id="editor",
                        brush=gr.Brush(default_size=28, colors=[BRUSH], default_color=BRUSH, color_mode="fixed"),
                    )  # fmt: skip
                with gr.Column(scale=4, min_width=260):
                    self.where = gr.Radio([PAINTED, UNSURE], value=PAINTED, label="Where", elem_id="where")
                    self.below = slider(
                        0.05, 0.95, 0.5, step=0.05, label="Confidence below", visible=False, elem_id="below"
                    )
                    self.temperature = slider(
                        0, 4, 1, step=0.1, label="Temperature", info="0: the likeliest; more: bolder"
                    )
                    self.candidates = slider(1, 6, 3, step=1, label="Candidates", elem_id="candidates")
                    self.max_temperature = slider(
                        0, 4, 4, step=0.1, label="Boldest", info="candidates' temperatures rise to this, if higher"
                    )
                    self.seed = gr.Number(0, label="Seed", precision=0, info="another seed, other candidates")
                    self.go = gr.Button("Regenerate", variant="primary", elem_id="regenerate")
            self.gallery = gr.Gallery(
                label="Pick · confidence, temperature", columns=3, height="auto", object_fit="contain", visible=False,
                allow_preview=False, interactive=False, buttons=[], elem_id="gallery",
            )  # fmt: skip
        self.where.change(self._places, [self.where], [self.below], **quiet())

    @property
    def outputs(self) -> list[Any]:
        return [self.panel, self.hint, self.body, self.editor, self.go, self.gallery]

    @property
    def inputs(self) -> list[Any]:
        return [self.editor, self.where, self.below, self.temperature, self.candidates, self.max_temperature, self.seed]

    def read(self, version: Version, values: Sequence[Any]) -> tuple[Any, dict[str, Any]]:
        """The region, and the other arguments of `studio.regenerate`. Raises UsageError."""
        _, where, below, temperature, candidates, max_temperature, seed = values
        if seed is None or not 0 <= int(seed) < 2**63:
            raise UsageError("the seed is a whole number from 0")
        region = float(below) if where == UNSURE else studio.painted(version, self.layers(values))
        rises = candidates > 1 and 0 < temperature < max_temperature
        return region, {
            "temperature": float(temperature), "candidates": int(candidates), "seed": int(seed),
            "max_temperature": float(max_temperature) if rises else None,
        }  # fmt: skip

    def layers(self, values: Sequence[Any]) -> list[np.ndarray]:
        """What was painted, (H,W,RGBA) each."""
        return list((values[0] or {}).get("layers") or [])

    def show(self, session: Session, layers: Sequence[np.ndarray] = ()) -> dict[Any, Any]:
        """The present version to paint on, what was painted before still there to be tried again; its candidates."""
        version = session.version
        if version is None or version.out is None:
            why = words.said(studio.why_not(session))
            return {
                self.hint: gr.update(value=why, visible=True), self.body: gr.update(visible=False),
                self.gallery: _hidden(),
            }  # fmt: skip
        return {
            self.hint: gr.update(visible=False),
            self.body: gr.update(visible=True),
            self.editor: {
                "background": str(studio.look(session, version, 0)[1]), "layers": list(layers), "composite": None,
            },
            **self._found(session, version),
        }  # fmt: skip

    def _found(self, session: Session, version: Version) -> dict[Any, Any]:
        if len(version.candidates) < 2:
            return {self.gallery: _hidden()}
        shown = studio.gallery(session, version)
        return {self.gallery: gr.update(value=shown, visible=True, selected_index=version.chosen)}

    @staticmethod
    def _places(where: str) -> Any:
        """The editor stays in sight: hidden and shown again, Gradio lays what was painted elsewhere."""
        return gr.update(visible=where == UNSURE)


def _hidden() -> Any:
    return gr.update(value=None, visible=False)
