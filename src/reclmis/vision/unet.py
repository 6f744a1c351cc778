"""The paper's visual backbone: a U-Net encoder (its PLAM gates sit in the decoder, on the skips)."""

from itertools import pairwise

import torch
from torch import nn

from ..recompute import recomputable
from ..registry import register_visual_backbone


class ConvBNReLU(nn.Sequential):
    """3x3 convolution, batch norm, ReLU. The convolution keeps a bias, as released weights carry one."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU(inplace=True)


class DownBlock(nn.Sequential):
    """Max-pool by 2, and two convolutions."""

    gradient_checkpointing = False

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(nn.MaxPool2d(2), ConvBNReLU(in_channels, out_channels), ConvBNReLU(out_channels, out_channels))

    @recomputable
    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        return super().forward(feature)


class UNetEncoder(nn.Module):
    """Stem at stride 1, then a down-block per further width: max-pool by 2 and two convolutions (paper 3.1).

    Args:
        num_channels: channels of the image.
        widths: width at stride 1, 2, 4, ...; the paper's are 64, 128, 256, 512, 512.
    """

    input_size: tuple[int, int] | None = None

    def __init__(self, num_channels: int = 3, widths: tuple[int, ...] = (64, 128, 256, 512, 512)) -> None:
        super().__init__()
        self.channels = list(widths)
        self.strides = [2**level for level in range(len(widths))]
        self.stem = ConvBNReLU(num_channels, widths[0])
        self.down_blocks = nn.ModuleList(DownBlock(narrow, wide) for narrow, wide in pairwise(widths))

    def forward(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        features = [self.stem(pixel_values)]
        for block in self.down_blocks:
            features.append(block(features[-1]))
        return features


@register_visual_backbone("unet")
def build_unet(name: str, *, num_channels: int, image_size: int, widths: list[int] | None = None) -> UNetEncoder:
    if name:
        raise ValueError(f"The visual backbone 'unet' takes no name, got {name!r}; set `visual_config['widths']`.")
    return UNetEncoder(num_channels, tuple(widths or (64, 128, 256, 512, 512)))
