"""The nodes. An IMAGE is (B,H,W,C) float32 in [0,1], a MASK (B,H,W); RGB only, as ComfyUI's own loader gives."""

from collections.abc import Callable, Iterator
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import numpy as np
import torch
from torch import Tensor

from realsrt import Upscaled, Upscaler
from realsrt.checkpoint import embedded

CATEGORY = "image/upscaling"
FOLDER = "upscale_models"
CELL = 8  # output pixels a side of a cell of the confidence map

_SHARE = {"min": 0.0, "max": 1.0, "step": 0.01}
_SEED = ("INT", {"default": 0, "min": 0, "max": 2**64 - 1, "control_after_generate": True})


def _options(least_steps: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """The inputs that say how an image is upscaled."""
    steps = "Generation steps; -1: the model's own" + ("; 0: the base image alone, fastest" if least_steps < 1 else "")
    return {
        "steps": ("INT", {"default": -1, "min": -1, "max": 256, "tooltip": steps}),
        "denoise": ("FLOAT", {"default": -1.0, "min": -1.0, "max": 1.0, "step": 0.01,
                              "tooltip": "0: mild, keeps texture; 1: strong; below 0: what suits the image"}),
        "fidelity": ("FLOAT", {"default": 1.0, **_SHARE, "tooltip": "How closely to follow the input"}),
        "strength": ("FLOAT", {"default": 1.0, **_SHARE,
                               "tooltip": "How much of the result shows over the plain enlargement"}),
    }  # fmt: skip


class LoadModel:
    """An embedded model, or a weight file of RealSRT from models/upscale_models."""

    CATEGORY = CATEGORY
    FUNCTION = "load"
    RETURN_TYPES = ("REALSRT_MODEL",)
    RETURN_NAMES = ("model",)
    DESCRIPTION = "Load a RealSRT model: one inside the package, or a .safetensors file in models/upscale_models."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        files = [name for name in folder_paths.get_filename_list(FOLDER) if name.endswith(".safetensors")]
        return {"required": {"model_name": ([*embedded(), *files],)}}

    def load(self, model_name: str) -> tuple[Upscaler]:
        path = model_name if model_name in embedded() else folder_paths.get_full_path_or_raise(FOLDER, model_name)
        return (Upscaler.from_pretrained(path, device=comfy.model_management.get_torch_device()),)


class Upscale:
    """IMAGE → IMAGE, four times as large, and how sure the model is as a MASK."""

    CATEGORY = CATEGORY
    FUNCTION = "upscale"
    RETURN_TYPES = ("IMAGE", "MASK")
    RETURN_NAMES = ("image", "confidence")
    DESCRIPTION = "Upscale x4. The mask is the confidence, 1 = sure; 0 everywhere after 0 steps, which have none."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"model": ("REALSRT_MODEL",), "image": ("IMAGE",), **_options(0), "seed": _SEED}}

    def upscale(
        self, model: Upscaler, image: Tensor, steps: int, denoise: float, fidelity: float, strength: float, seed: int
    ) -> tuple[Tensor, Tensor]:
        results = [
            model.upscale(one, seed=seed, on_progress=told, **_given(steps, denoise, fidelity, strength))
            for one, told in _each(image)
        ]
        return torch.cat([_image(out) for out in results]), torch.cat([_confidence(out) for out in results])


class Regenerate:
    """IMAGE and MASK → IMAGE, upscaled as `Upscale` does it, with the masked region generated anew."""

    CATEGORY = CATEGORY
    FUNCTION = "regenerate"
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)
    DESCRIPTION = (
        "Upscale the low-quality image x4 and generate the region under the mask anew, by sampling; the rest is what "
        "RealSRT Upscale gives. The mask may have any size; where it is empty, nothing is regenerated."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        temperature = {"default": 1.0, "min": 0.0, "max": 10.0, "step": 0.05,
                       "tooltip": "1: as the model believes; 0: always the likeliest"}  # fmt: skip
        variety = {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.05,
                   "tooltip": "How far denoising and crispness go from the image's own; 0: tokens only"}  # fmt: skip
        sampling = {"temperature": ("FLOAT", temperature), "variety": ("FLOAT", variety), "seed": _SEED}
        images = {"model": ("REALSRT_MODEL",), "image": ("IMAGE",), "mask": ("MASK",)}
        return {"required": {**images, **_options(1), **sampling}}

    def regenerate(
        self, model: Upscaler, image: Tensor, mask: Tensor, steps: int, denoise: float, fidelity: float,
        strength: float, temperature: float, variety: float, seed: int,
    ) -> tuple[Tensor]:  # fmt: skip
        if len(mask) not in (1, len(image)):
            raise ValueError(f"{len(mask)} masks for {len(image)} images: give one for all, or one each")
        made = []
        for (one, told), region in zip(_each(image), mask.expand(len(image), -1, -1), strict=True):
            out = model.upscale(one, on_progress=told, **_given(steps, denoise, fidelity, strength))
            inside = _resized(region, _image(out).shape[1:3])
            if inside.any():
                out = model.regenerate(
                    out, inside, temperature=temperature, variety=variety, seed=seed, on_progress=told
                )
            made.append(_image(out))
        return (torch.cat(made),)


def _given(steps: int, denoise: float, fidelity: float, strength: float) -> dict[str, Any]:
    own_steps, auto = (None if steps < 0 else steps), ("auto" if denoise < 0 else denoise)
    return {"steps": own_steps, "denoise": auto, "fidelity": fidelity, "strength": strength}


def _each(image_BHWC: Tensor) -> Iterator[tuple[Tensor, Callable[[int, int], None]]]:
    """Every image as (1,3,H,W), with what shows its progress and stops it when the user does."""
    for image_HWC in image_BHWC:
        yield image_HWC[..., :3].movedim(-1, 0)[None].contiguous(), _progress()


def _progress() -> Callable[[int, int], None]:
    bar = comfy.utils.ProgressBar(1)

    def told(done: int, total: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, total)

    return told


def _image(out: Upscaled) -> Tensor:
    """(1,H,W,3) on the CPU."""
    return out.image.detach().float().cpu().clamp(0, 1).movedim(1, -1).contiguous()


def _confidence(out: Upscaled) -> Tensor:
    """(1,H,W): each cell's value over its pixels."""
    height, width = out.image.shape[2:]
    if out.confidence is None:
        return torch.zeros(1, height, width)
    cells = torch.from_numpy(np.ascontiguousarray(out.confidence)).float()
    return cells.repeat_interleave(CELL, 1).repeat_interleave(CELL, 2)[:, :height, :width].contiguous()


def _resized(mask_HW: Tensor, hw: tuple[int, int]) -> np.ndarray:
    """A mask of any size as bool (H,W) of the output's, nearest."""
    rows, columns = (torch.arange(out) * side // out for out, side in zip(hw, mask_HW.shape, strict=True))
    return (mask_HW.cpu()[rows[:, None], columns] >= 0.5).numpy()


NODE_CLASS_MAPPINGS = {"RealSRTLoadModel": LoadModel, "RealSRTUpscale": Upscale, "RealSRTRegenerate": Regenerate}
NODE_DISPLAY_NAME_MAPPINGS = {
    "RealSRTLoadModel": "RealSRT Load Model",
    "RealSRTUpscale": "RealSRT Upscale",
    "RealSRTRegenerate": "RealSRT Regenerate",
}
