"""The mask decoder (paper Figure 3): up-blocks whose skips are gated pixel by pixel (PLAM)."""

# Shapes: features come fine to coarse; the decoder walks them coarse to fine.

from collections.abc import Sequence
from itertools import pairwise, zip_longest
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .recompute import recomputable
from .vision.unet import ConvBNReLU


class PixelLevelAttention(nn.Module):
    """PLAM: `x * gate(x)`, one gate per pixel from the mean and the maximum over channels.

    a = mean over channels of ReLU(conv1x1(x)), m = maximum over channels of ReLU(conv1x1'(x)),
    gate = Linear(6, 1)(ReLU(Linear(3, 6)([a, m, a + m]))). There is no sigmoid on the gate.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.average = nn.Conv2d(channels, channels, kernel_size=1, bias=False)
        self.maximum = nn.Conv2d(channels, channels, kernel_size=1, bias=False)
        self.expand = nn.Linear(3, 6)
        self.gate = nn.Linear(6, 1)

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        return gate_pixels(feature, self.average(feature), self.maximum(feature), self.expand, self.gate)


def gate_pixels(
    feature: torch.Tensor, average: torch.Tensor, maximum: torch.Tensor, expand: nn.Module, gate: nn.Module
) -> torch.Tensor:
    """PLAM after its two convolutions, whose outputs `average` and `maximum` are; all `[B, C, H, W]`."""
    average = F.relu(average).mean(dim=1)
    # ReLU is monotone: it may follow the maximum, on one channel instead of all.
    maximum = F.relu(maximum.amax(dim=1))
    pixels = torch.stack([average, maximum, average + maximum], dim=-1)
    return feature * gate(F.relu(expand(pixels))).squeeze(-1).unsqueeze(1)


class UpBlock(nn.Module):
    """Nearest upsample to the skip's size, PLAM on the skip, concatenation, two convolutions.

    Without a skip (between the finest feature and the image) it upsamples by `factor` and convolves.
    """

    gradient_checkpointing = False

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.attention = PixelLevelAttention(skip_channels) if skip_channels else None
        self.convs = nn.Sequential(
            ConvBNReLU(in_channels + skip_channels, out_channels), ConvBNReLU(out_channels, out_channels)
        )

    @recomputable
    def forward(self, coarse: torch.Tensor, skip: torch.Tensor | None = None) -> torch.Tensor:
        return self.merge(coarse, None if skip is None else self.prepare(skip))

    def prepare(self, skip: torch.Tensor) -> torch.Tensor:
        """What the block makes of the skip, whatever the note says."""
        return self.attention(skip)  # type: ignore[misc]

    def merge(self, coarse: torch.Tensor, prepared: torch.Tensor | None = None) -> torch.Tensor:
        """The rest of the block. One prepared skip may serve a whole batch."""
        if self.training and self.factor == 2 and is_plain(self.convs[0]):
            return self._merge_unjoined(coarse, prepared)
        upsampled = F.interpolate(coarse, scale_factor=float(self.factor), mode="nearest")
        if prepared is None:
            return self.convs(upsampled)
        return self.convs(torch.cat([prepared.expand(upsampled.shape[0], -1, -1, -1), upsampled], dim=1))

    def _merge_unjoined(self, coarse: torch.Tensor, skip: torch.Tensor | None) -> torch.Tensor:
        """The same up to rounding, without the upsampled map and the concatenation: a training step on a CPU would spend a
        tenth of its time on them, forward and backward."""
        first: Any
        second: Any
        first, second = self.convs
        skips = 0 if skip is None else skip.shape[1]
        weight = first.conv.weight
        full = F.conv_transpose2d(coarse, subpixel_weight(weight[:, skips:]), first.conv.bias, stride=2, padding=1)
        if skip is not None:
            full = full + F.conv2d(skip, weight[:, :skips], padding=1)
        return second(first.act(first.norm(full)))


def is_plain(module: nn.Module) -> bool:
    """Whether a convolution, or one with its norm and activation, is what it was built as, so that its weights say all of
    it: neither hooked, wrapped, adapted, replaced nor shared out."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    if any(hooks):
        return False
    if type(module) is ConvBNReLU:
        return is_plain(module.conv) and type(module.norm) is nn.BatchNorm2d and type(module.act) is nn.ReLU
    return type(module) is nn.Conv2d


def subpixel_weight(weight: torch.Tensor) -> torch.Tensor:
    """`[O, I, 3, 3]`, padded by 1, over a map upsampled by 2 -> `[I, O, 4, 4]` of a transposed convolution (stride 2,
    padding 1) over the map itself: 4 instead of 9 multiply-adds per output pixel and channel.

    Upsampling by 2 (nearest) is itself a transposed convolution, with a 2x2 kernel of ones; the two kernels, convolved,
    are one. That is linear in the weight, so it is a matrix: a training step takes it forward and backward.
    """
    unit = torch.eye(9, dtype=weight.dtype, device=weight.device).view(9, 1, 3, 3)
    spread = F.conv2d(unit.flip(2, 3), unit.new_ones(1, 1, 2, 2), padding=1).flatten(1)
    return (weight.flatten(2) @ spread).unflatten(2, (4, 4)).transpose(0, 1).contiguous()


class MaskDecoder(nn.Module):
    """V' and the skips -> mask logits `[B, num_labels, H, W]`.

    One up-block per skip, from the coarsest on, then blocks without a skip until stride 1.

    Args:
        in_channels: width of V'.
        skip_channels: widths of the backbone's features except the coarsest, fine to coarse.
        strides: strides of all the backbone's features, fine to coarse.
        widths: output widths of the up-blocks, coarse to fine; the last one serves any further blocks.
        num_labels: K.
    """

    def __init__(
        self, in_channels: int, skip_channels: list[int], strides: list[int], widths: list[int], num_labels: int
    ) -> None:
        super().__init__()
        skips = list(reversed(skip_channels))
        factors = [coarse // fine for fine, coarse in pairwise(strides)][::-1]
        remaining = strides[0]
        while remaining > 1:
            factor = 2 if remaining % 2 == 0 else remaining
            factors.append(factor)
            skips.append(0)
            remaining //= factor
        widths = [*widths[: len(skips)], *[widths[-1]] * (len(skips) - len(widths))]
        self.blocks = nn.ModuleList(
            UpBlock(wide, skip, narrow, factor)
            for wide, skip, narrow, factor in zip([in_channels, *widths], skips, widths, factors, strict=False)
        )
        self.head = nn.Conv2d(widths[-1] if widths else in_channels, num_labels, kernel_size=1)

    def forward(self, coarsest: torch.Tensor, skips: list[torch.Tensor]) -> torch.Tensor:
        feature = coarsest
        for block, skip in zip_longest(self.blocks, reversed(skips)):
            feature = block(feature, skip)
        return self.head(feature)

    def prepare(self, skips: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """The part of the work that no note changes, coarse to fine, for [`merge`]."""
        pairs = zip(self.blocks, reversed(skips), strict=False)
        return tuple(block.prepare(skip) for block, skip in pairs)  # type: ignore[operator]

    def merge(self, coarsest: torch.Tensor, prepared: Sequence[torch.Tensor]) -> torch.Tensor:
        """As calling the decoder, with prepared skips; those of one image serve any number of V'."""
        feature = coarsest
        for block, skip in zip_longest(self.blocks, prepared):
            feature = block.merge(feature, skip)  # type: ignore[operator]
        return self.head(feature)
