"""The same mask with less arithmetic: what a trained network no longer needs to keep apart is computed together.

Batch norms become part of the convolutions before them. In the decoder, a 3x3 convolution over a map that was upsampled by
2 (nearest) sees only four different values in each 3x3 window, so it equals a transposed convolution of the small map: 4
instead of 9 multiply-adds per output pixel and channel, and the large map is never made.
"""

import copy
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .decoder import PixelLevelAttention, UpBlock, gate_pixels, is_plain, subpixel_weight
from .modeling_reclmis import TRAINING_ONLY_MODULES
from .vision.unet import ConvBNReLU


class FoldedPixelLevelAttention(nn.Module):
    """[`PixelLevelAttention`] whose two 1x1 convolutions are one."""

    both: torch.Tensor

    def __init__(self, attention: PixelLevelAttention) -> None:
        super().__init__()
        self.average, self.maximum = attention.average, attention.maximum
        both = torch.cat([attention.average.weight, attention.maximum.weight]).detach()
        self.register_buffer("both", both, persistent=False)
        self.expand, self.gate = attention.expand, attention.gate

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        if torch.compiler.is_exporting():
            # Other runtimes copy a map in order to split it.
            average, maximum = self.average(feature), self.maximum(feature)
        else:
            average, maximum = F.conv2d(feature, self.both).chunk(2, dim=1)
        return gate_pixels(feature, average, maximum, self.expand, self.gate)


class FoldedUpBlock(nn.Module):
    """An [`UpBlock`] of factor 2 that never makes the upsampled map.

    Its first convolution is a sum: 3x3 over the skip, which no note changes, and 4x4 transposed over the small map.
    """

    def __init__(self, block: UpBlock) -> None:
        super().__init__()
        first, second = (_folded(conv) for conv in block.convs)  # type: ignore[arg-type]
        skips = block.attention.average.in_channels if block.attention is not None else 0
        weight = first.weight.detach()
        self.attention = FoldedPixelLevelAttention(block.attention) if block.attention is not None else None
        self.skip_conv = None
        if skips:
            self.skip_conv = nn.Conv2d(skips, first.out_channels, kernel_size=3, padding=1, bias=False)
            self.skip_conv.weight.data = weight[:, :skips].clone()
        self.coarse_conv = nn.ConvTranspose2d(
            first.in_channels - skips, first.out_channels, kernel_size=4, stride=2, padding=1
        )
        self.coarse_conv.weight.data = subpixel_weight(weight[:, skips:])
        self.coarse_conv.bias.data = first.bias.detach().clone()  # type: ignore[union-attr]
        self.second = second

    def forward(self, coarse: torch.Tensor, skip: torch.Tensor | None = None) -> torch.Tensor:
        return self.merge(coarse, None if skip is None else self.prepare(skip))

    def prepare(self, skip: torch.Tensor) -> torch.Tensor:
        return self.skip_conv(self.attention(skip))  # type: ignore[misc]

    def merge(self, coarse: torch.Tensor, prepared: torch.Tensor | None = None) -> torch.Tensor:
        full = self.coarse_conv(coarse)
        if prepared is not None:
            full = full.add_(prepared)
        return F.relu_(self.second(F.relu_(full)))


@torch.no_grad()
def optimize_for_inference(model: Any) -> Any:
    """A copy of a [`RecLMISModel`] for inference alone; see its method of this name."""
    model = without_training(model)
    with torch.autocast(model.device.type, enabled=False):  # weights stay what they are
        _fold_convolutions(model)
        for index, block in enumerate(model.decoder.blocks):
            if _folds(block):
                model.decoder.blocks[index] = FoldedUpBlock(block)
    model.requires_grad_(False)
    model.is_optimized_for_inference = True
    return model.to(memory_format=torch.channels_last).eval()


def without_training(model: Any) -> Any:
    """A copy that only predicts. What training needs is not copied first, so that memory never holds more than it must."""
    parts = [part for name, part in model.named_modules() if name in TRAINING_ONLY_MODULES]
    lean = copy.deepcopy(model, {id(part): None for part in parts})
    lean.config.prune_reconstruction = True
    return lean


def _fold_convolutions(module: nn.Module) -> None:
    for name, child in module.named_children():
        if _folds(child):
            continue  # folded as a whole
        if isinstance(child, ConvBNReLU) and is_plain(child):
            setattr(module, name, nn.Sequential(_folded(child), nn.ReLU(inplace=True)))
        else:
            _fold_convolutions(child)


def _folds(module: nn.Module) -> bool:
    """Whether a module is an up-block that can be folded as a whole: one whose convolutions are their weights alone."""
    if not isinstance(module, UpBlock) or module.factor != 2:
        return False
    gates: list[Any] = [] if module.attention is None else [module.attention.average, module.attention.maximum]
    return all(is_plain(part) for part in (*gates, *module.convs))


def _folded(block: ConvBNReLU) -> nn.Conv2d:
    return fuse_conv_bn_eval(copy.deepcopy(block.conv).eval(), block.norm.eval())


__all__ = ["optimize_for_inference", "without_training"]
