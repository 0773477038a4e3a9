"""What a client may ask for: the options of `realsrt upscale` by their names, with bounds that keep a job finite."""

from dataclasses import fields
from typing import Annotated, Any, Literal

from docstring_parser import parse_from_object
from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from realsrt.batch.outputs import Files
from realsrt.errors import UsageError
from realsrt.inference.options import UpscaleOptions
from realsrt.io.formats import FORMATS, supported_formats

_SUFFIXES = {format.name: format.suffixes[0] for format in FORMATS if format.name in supported_formats()["write"]}


# Bounds that keep a job finite; an option without any has those of `UpscaleOptions`.
_LIMITS: dict[str, dict[str, Any]] = {
    "outscale": {"gt": 0, "le": 16},
    "tile": {"ge": 0, "le": 512},
    "stride": {"ge": 1, "le": 512},
    "steps": {"ge": 0, "le": 64},
    "confidence_exit": {"ge": 0, "le": 1},
    "fidelity": {"ge": 0, "le": 1},
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
        Literal["auto", *(suffix[1:] for suffix in _SUFFIXES.values())],  # pyright: ignore[reportInvalidTypeForm]
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
        return _SUFFIXES.get(input_format, ".png") if self.ext == "auto" else f".{self.ext}"


class Submission(JobOptions):
    """The query of a new job."""

    filename: Annotated[str | None, Field(max_length=255, description="What to call the picture.")] = None

    @property
    def options(self) -> JobOptions:
        return JobOptions.model_validate(self.model_dump(exclude={"filename"}, exclude_unset=True))


class Regeneration(BaseModel):
    """A part of a result to be generated anew: inside `box`, or where the confidence is below `below`."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"box": [64, 64, 192, 192], "seed": 3}, {"below": 0.4}]},
    )

    box: Annotated[
        list[int] | None,
        Field(min_length=4, max_length=4, description="x0, y0, x1, y1 in pixels of the result; x1, y1 outside."),
    ] = None
    below: Annotated[float | None, Field(gt=0, lt=1, description="Confidence below which to generate anew.")] = None
    temperature: Annotated[
        float, Field(ge=0, le=10, description="0: the likeliest tokens; more: more varied ones.")
    ] = 1.0
    top_k: Annotated[int | None, Field(ge=1, le=65_536, description="Draw among the likeliest k tokens only.")] = None
    seed: Annotated[int, Field(ge=0, lt=2**63, description="Another seed, another picture.")] = 0
    candidates: Annotated[int, Field(ge=1, le=16, description="Draw so many; the most confident stays.")] = 1

    @model_validator(mode="after")
    def _one_region(self) -> "Regeneration":
        if (self.box is None) == (self.below is None):
            raise ValueError("give box or below, one of them")
        if self.box is not None:
            x0, y0, x1, y1 = self.box
            if not (0 <= x0 < x1 <= 1_000_000 and 0 <= y0 < y1 <= 1_000_000):
                raise ValueError("box is x0, y0, x1, y1 with x0 < x1 and y0 < y1, none below 0")
        return self

    @property
    def region(self) -> tuple[int, int, int, int] | float:
        """As `Upscaler.regenerate` takes it."""
        if self.box is None:
            return self.below or 0.0
        x0, y0, x1, y1 = self.box
        return x0, y0, x1, y1


OPTIONS = (*Submission.model_fields, *Regeneration.model_fields)
