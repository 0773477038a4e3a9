"""What a client may ask for: the options of `realsrt upscale` by their names, with bounds that keep a job finite."""

from dataclasses import fields
from typing import Annotated, Any, Literal

from docstring_parser import parse_from_object
from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from realsrt.batch.outputs import Files
from realsrt.errors import UsageError
from realsrt.inference.options import UpscaleOptions
from realsrt.inference.regenerate import Sampling
from realsrt.io.formats import FORMATS, supported_formats
from realsrt.server.cells import MOST_RUNS, Run, bounds, check_runs, pixel_mask

SUFFIXES = {format.name: format.suffixes[0] for format in FORMATS if format.name in supported_formats()["write"]}


# Bounds that keep a job finite; an option without any has those of `UpscaleOptions`.
_LIMITS: dict[str, dict[str, Any]] = {
    "outscale": {"gt": 0, "le": 16},
    "tile": {"ge": 0, "le": 512},
    "stride": {"ge": 1, "le": 512},
    "steps": {"ge": 0, "le": 64},
    "confidence_exit": {"ge": 0, "le": 1},
    "fidelity": {"ge": 0, "le": 1},
    "strength": {"ge": 0, "le": 1},
    "seed": {"ge": 0, "lt": 2**63},
}
_OWN = ("size", "max_minibatch", "confidence")  # not asked for, or otherwise
_SHARED = {field.name: field for field in fields(UpscaleOptions) if field.name not in _OWN}


def _shared_fields() -> dict[str, Any]:
    """The fields of `UpscaleOptions` with their descriptions, for pydantic."""
    descriptions = {param.arg_name: param.description for param in parse_from_object(UpscaleOptions).params}
    return {
        name: (field.type, Field(field.default, description=descriptions.get(name), **_LIMITS.get(name, {})))
        for name, field in _SHARED.items()
    }


_Shared: type[BaseModel] = create_model("_Shared", **_shared_fields())


class JobOptions(_Shared):
    """Options of one job; what is left out is the model's own choice."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"outscale": 4, "ext": "png"}]})

    resize: Annotated[
        str | None,
        Field(pattern=r"^[1-9][0-9]{0,5}x[1-9][0-9]{0,5}$", description="Final size WxH, not with outscale."),
    ] = None
    ext: Annotated[
        Literal["auto", *(suffix[1:] for suffix in SUFFIXES.values())],  # pyright: ignore[reportInvalidTypeForm]
        Field(description="Format of the result; auto: the input's, where it can be written."),
    ] = "auto"
    quality: Annotated[int | None, Field(ge=1, le=100, description="For JPEG, WebP and AVIF.")] = None
    strip: Annotated[bool, Field(description="Leave metadata out but for the ICC profile and density.")] = False
    no_provenance: Annotated[bool, Field(description="Do not note model and settings in the XMP.")] = False
    previews: Annotated[
        bool, Field(description="Send the picture after each step to who listens; takes more time.")
    ] = True

    @model_validator(mode="after")
    def _possible(self) -> "JobOptions":
        upscaling = self.upscaling  # raises what makes no sense
        if self.resize and upscaling.outscale != UpscaleOptions.outscale:
            raise ValueError("give outscale or resize, not both")
        return self

    @property
    def upscaling(self) -> UpscaleOptions:
        """What decides about the pixels."""
        width, _, height = (self.resize or "").partition("x")
        size = (int(width), int(height)) if self.resize else None
        try:
            return UpscaleOptions(size=size, **{name: getattr(self, name) for name in _SHARED})
        except UsageError as error:
            raise ValueError(str(error)) from None

    def files(self, max_pixels: int) -> Files:
        return Files(
            max_pixels=max_pixels, quality=self.quality, strip=self.strip, provenance=not self.no_provenance,
            confidence=True,
        )  # fmt: skip

    def suffix(self, input_format: str) -> str:
        """Of the result's file, for an input of this format (as imageio.header names it)."""
        return SUFFIXES.get(input_format, ".png") if self.ext == "auto" else f".{self.ext}"


class Submission(JobOptions):
    """The query of a new job."""

    filename: Annotated[str | None, Field(max_length=255, description="What to call the picture.")] = None

    @property
    def options(self) -> JobOptions:
        return JobOptions.model_validate(self.model_dump(exclude={"filename"}, exclude_unset=True))


class Regeneration(BaseModel):
    """A part of a result to be generated anew: inside `box`, in `cells`, or where the confidence is below `below`."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"box": [64, 64, 192, 192], "seed": 3}, {"below": 0.4}]},
    )

    box: Annotated[
        list[int] | None,
        Field(min_length=4, max_length=4, description="x0, y0, x1, y1 in pixels of the result; x1, y1 outside."),
    ] = None
    cells: Annotated[
        list[Run] | None,
        Field(min_length=1, max_length=MOST_RUNS, description="Runs of cells of 8x8 pixels of the result: row, first "
              "column, column after the last."),
    ] = None  # fmt: skip
    below: Annotated[float | None, Field(gt=0, lt=1, description="Confidence below which to generate anew.")] = None
    temperature: Annotated[
        float, Field(ge=0, le=10, description="0: the likeliest tokens; more: more varied ones.")
    ] = 1.0
    max_temperature: Annotated[
        float | None, Field(gt=0, le=10, description="The candidates' temperatures rise from `temperature` to this.")
    ] = None
    variety: Annotated[
        float,
        Field(ge=0, le=1, description="How far denoising and crispness go from the picture's own; 0: tokens."),
    ] = 1.0
    top_k: Annotated[int | None, Field(ge=1, le=65_536, description="Draw among the likeliest k tokens only.")] = None
    seed: Annotated[int, Field(ge=0, lt=2**63, description="Another seed, another picture.")] = 0
    candidates: Annotated[
        int, Field(ge=1, le=16, description="Draw so many; the most confident stays, unless another is picked.")
    ] = 1
    pick: Annotated[int, Field(ge=1, le=16, description="Which candidate stays, 1 = the most confident.")] = 1

    @model_validator(mode="after")
    def _one_region(self) -> "Regeneration":
        if sum(region is not None for region in (self.box, self.cells, self.below)) != 1:
            raise ValueError("give box, cells or below, one of them")
        if self.box is not None:
            x0, y0, x1, y1 = self.box
            if not (0 <= x0 < x1 <= 1_000_000 and 0 <= y0 < y1 <= 1_000_000):
                raise ValueError("box is x0, y0, x1, y1 with x0 < x1 and y0 < y1, none below 0")
        check_runs(self.cells or ())
        if self.pick > self.candidates:
            raise ValueError("pick is one of the candidates")
        try:
            Sampling(self.temperature, self.top_k, self.seed, self.candidates, self.max_temperature, self.variety)
        except UsageError as error:
            raise ValueError(str(error)) from None
        return self

    def region(self, width: int, height: int) -> Any:
        """As `Upscaler.regenerate` takes it, for a result of this size."""
        if self.cells is not None:
            return pixel_mask(self.cells, width, height)
        if self.box is None:
            return self.below
        x0, y0, x1, y1 = self.box
        return x0, y0, x1, y1

    @property
    def bounds(self) -> tuple[int, int, int, int] | None:
        """The box around the region in output pixels, if it is known beforehand."""
        if self.cells is not None:
            return bounds(self.cells)
        return None if self.box is None else (self.box[0], self.box[1], self.box[2], self.box[3])

    @property
    def noted(self) -> dict[str, Any]:
        """For the provenance in a file: of painted cells the box around them and how many they are."""
        said = self.model_dump(exclude_none=True, exclude={"cells"} | ({"pick"} if self.candidates == 1 else set()))
        if self.cells is not None:
            said |= {"box": list(bounds(self.cells)), "cells": sum(stop - first for _, first, stop in self.cells)}
        return said


class Choice(BaseModel):
    """One of the candidates of a regeneration."""

    model_config = ConfigDict(extra="forbid", strict=True)

    candidate: Annotated[int, Field(ge=1, le=16, description="1 = the most confident.")]


OPTIONS = (*Submission.model_fields, *Regeneration.model_fields)
