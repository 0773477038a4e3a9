"""What a client may ask for: the options of `realsrt upscale` by their names, with bounds that keep a job finite."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from realsrt.batch.outputs import Files
from realsrt.io.picture import out_size

_FORMATS = Literal["auto", "png", "jpg", "webp", "tif", "avif", "jxl"]
_SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "WebP": ".webp", "TIFF": ".tif", "AVIF": ".avif", "JPEG XL": ".jxl"}


class JobOptions(BaseModel):
    """Options of one job; what is left out is the model's own choice."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"outscale": 4, "ext": "png"}]})

    outscale: Annotated[float | None, Field(gt=0, le=16, description="Final scale; x4, then resampled.")] = None
    resize: Annotated[
        str | None,
        Field(pattern=r"^[1-9][0-9]{0,5}x[1-9][0-9]{0,5}$", description="Final size WxH, not with outscale."),
    ] = None
    tile: Annotated[int, Field(ge=0, le=512, description="Side of a window in input pixels; 0: the model's own.")] = 0
    stride: Annotated[int | None, Field(ge=1, le=512, description="Input pixels from window to window.")] = None
    steps: Annotated[int | None, Field(ge=1, le=64, description="Generation steps.")] = None
    refine: Annotated[Literal["sparse", "dense"] | None, Field(description="What later steps compute.")] = None
    confidence_exit: Annotated[
        float | None, Field(ge=0, le=1, description="Windows of this mean confidence take no further step.")
    ] = None
    fidelity: Annotated[float, Field(ge=0, le=1, description="How closely to follow the input.")] = 1.0
    color_fix: Annotated[Literal["adain", "wavelet", "none"] | None, Field(description="The colour fix.")] = None
    seed: Annotated[int | None, Field(ge=0, lt=2**63, description="For what is random (nothing is, here).")] = None
    alpha: Annotated[Literal["lanczos", "model"], Field(description="What enlarges transparency.")] = "lanczos"
    ext: Annotated[_FORMATS, Field(description="Format of the result; auto: the input's, where it can be written.")] = (
        "auto"
    )
    quality: Annotated[int | None, Field(ge=1, le=100, description="For JPEG, WebP and AVIF.")] = None
    strip: Annotated[bool, Field(description="Leave metadata out but for the ICC profile and density.")] = False
    no_provenance: Annotated[bool, Field(description="Do not note model and settings in the XMP.")] = False
    previews: Annotated[
        bool, Field(description="Send the picture after each step to who listens; takes more time.")
    ] = True

    @model_validator(mode="after")
    def _one_size(self) -> "JobOptions":
        if self.resize and self.outscale is not None:
            raise ValueError("give outscale or resize, not both")
        return self

    @property
    def size(self) -> tuple[int, int] | None:
        """(W, H) of `resize`."""
        if self.resize is None:
            return None
        width, _, height = self.resize.partition("x")
        return int(width), int(height)

    def upscaling(self) -> dict[str, Any]:
        """The arguments of `Upscaler.upscale` that decide about the pixels, as the command gives them."""
        return {
            "steps": self.steps, "stride": self.stride, "tile": self.tile or None, "fidelity": self.fidelity,
            "color_fix": self.color_fix, "outscale": 4.0 if self.outscale is None else self.outscale,
            "size": self.size, "seed": self.seed, "alpha": self.alpha, "refine": self.refine,
            "confidence_exit": self.confidence_exit,
        }  # fmt: skip

    def files(self, max_pixels: int) -> Files:
        return Files(max_pixels, self.quality, self.strip, not self.no_provenance, confidence=True, save_steps=False)

    def out_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the result for an input of this size."""
        scale = 4.0 if self.outscale is None else self.outscale
        return out_size(width, height, scale, self.size)

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
