"""What a client may ask for: the options of `realsrt upscale` by their names, with bounds that keep a job finite."""

from dataclasses import fields
from typing import Annotated, Any, Literal

from docstring_parser import parse_from_object
from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from realsrt.batch.outputs import Files
from realsrt.errors import UsageError
from realsrt.inference.options import Sampling, UpscaleOptions
from realsrt.io.formats import FORMATS, supported_formats
from realsrt.server.cells import MOST_RUNS, Run, bounds, check_runs, pixel_mask

SUFFIXES = {format.name: format.suffixes[0] for format in FORMATS if format.name in supported_formats()["write"]}


# Bounds that keep a job finite; an option without any has those of `UpscaleOptions` and `Sampling`.
_LIMITS: dict[str, dict[str, Any]] = {
    "outscale": {"gt": 0, "le": 16},
    "tile": {"ge": 0, "le": 512},
    "stride": {"ge": 1, "le": 512},
    "steps": {"ge": 0, "le": 64},
    "confidence_exit": {"ge": 0, "le": 1},
    "fidelity": {"ge": 0, "le": 1},
    "strength": {"ge": 0, "le": 1},
    "seed": {"ge": 0, "lt": 2**63},
    "temperature": {"ge": 0, "le": 10},
    "max_temperature": {"gt": 0, "le": 10},
    "variety": {"ge": 0, "le": 1},
    "top_k": {"ge": 1, "le": 65_536},
    "candidates": {"ge": 1, "le": 16},
}
_OWN = ("size", "max_minibatch", "confidence")  # not asked for, or otherwise


def _fields(options: type[UpscaleOptions | Sampling]) -> dict[str, Any]:
    """Fields with their descriptions, for pydantic."""
    descriptions = {param.arg_name: param.description for param in parse_from_object(options).params}
    return {
        field.name: (
            field.type,
            Field(field.default, description=descriptions.get(field.name), **_LIMITS.get(field.name, {})),
        )
        for field in fields(options)
        if field.name not in _OWN
    }


_Shared: type[BaseModel] = create_model("_Shared", **_fields(UpscaleOptions))


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
            return UpscaleOptions(size=size, **{name: getattr(self, name) for name in _Shared.model_fields})
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


class _Region(BaseModel):
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


_SampledRegion: type[_Region] = create_model("_SampledRegion", __base__=_Region, **_fields(Sampling))


class Regeneration(_SampledRegion):
    """A part of a result to be generated anew: inside `box`, in `cells`, or where the confidence is below `below`."""

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
        if self.pick > self.sampling.candidates:  # which raises what makes no sense
            raise ValueError("pick is one of the candidates")
        return self

    @property
    def sampling(self) -> Sampling:
        """How it is generated."""
        try:
            return Sampling(**{field.name: getattr(self, field.name) for field in fields(Sampling)})
        except UsageError as error:
            raise ValueError(str(error)) from None

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
        said = self.model_dump(
            exclude_none=True, exclude={"cells"} | ({"pick"} if self.sampling.candidates == 1 else set())
        )
        if self.cells is not None:
            said |= {"box": list(bounds(self.cells)), "cells": sum(stop - first for _, first, stop in self.cells)}
        return said


class Choice(BaseModel):
    """One of the candidates of a regeneration."""

    model_config = ConfigDict(extra="forbid", strict=True)

    candidate: Annotated[int, Field(ge=1, le=16, description="1 = the most confident.")]


OPTIONS = (*Submission.model_fields, *Regeneration.model_fields)
