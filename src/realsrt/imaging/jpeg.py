"""What saving as JPEG does to an image, with one quality a sample, on any device.

kornia's codec (extra `train`, imported on first use): 4:2:0 chroma, the standard tables. It rounds coefficients by a
smooth polynomial, so its errors are a little smaller than a real file's.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from realsrt.errors import needs
from realsrt.imaging.resize import stack_padded, unstack


def jpeg(x_BCHW: Tensor, quality_B: Tensor | float) -> Tensor:
    """Compress and decompress each sample; x: RGB, clamped to [0,1]; quality 1…100; result in [0,1], same shape.

    Differentiable. Raises UsageError when kornia is not installed.
    """
    with needs("train", "JPEG degradation"):
        from kornia.enhance import jpeg_codec_differentiable
    height, width = x_BCHW.shape[2:]
    # qualities on the CPU stay there: kornia reads them, for which it would otherwise wait for the GPU
    quality_B = torch.as_tensor(quality_B).to(x_BCHW.dtype).expand(x_BCHW.shape[0])
    x_BCHW = F.pad(x_BCHW.clamp(0, 1), (0, -width % 16, 0, -height % 16), mode="replicate")
    return jpeg_codec_differentiable(x_BCHW, quality_B)[:, :, :height, :width].clamp(0, 1)


def jpeg_each(images: Sequence[Tensor], qualities: Sequence[float]) -> list[Tensor]:
    """`jpeg` for images (1,3,H,W) of different sizes, one quality each, in one call."""
    done = jpeg(stack_padded(images, mode="replicate"), torch.tensor(qualities))
    return unstack(done, [image.shape[2:] for image in images])
