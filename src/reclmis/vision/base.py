"""The contract that every visual backbone keeps."""

from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from ..registry import visual_backbones


@runtime_checkable
class VisualBackbone(Protocol):
    """What the model needs of a visual backbone; any `nn.Module` with these members will do.

    Attributes:
        channels: width of each returned map, fine to coarse.
        strides: pixels per cell of each returned map, strictly increasing, each a multiple of the one before.
        input_size: `(height, width)` in pixels when the network accepts one size only, else `None`.

    A registered builder is called as `builder(name, *, num_channels, image_size, **visual_config)`, where `name` is the
    part of the id behind the colon. It allocates and never reads weights: those come from the checkpoint, or from
    `load_pretrained(source)`, which a backbone may define and [`RecLMISModel.from_parts`] calls.
    A builder may carry an attribute `pretrained_statistics(name, num_channels) -> (mean, deviation)`, lists per channel,
    with which the processor of a pretrained backbone normalises images.
    Non-persistent buffers must be rebuilt by a method `init_non_persistent_buffers()` of the module that owns them,
    since a model is loaded without running its constructor's arithmetic.
    """

    channels: list[int]
    strides: list[int]
    input_size: tuple[int, int] | None

    def __call__(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """`[B, num_channels, H, W]` -> one `[B, channels[i], H / strides[i], W / strides[i]]` per stage."""
        ...


def build_visual_backbone(part_id: str, *, num_channels: int, image_size: int, **visual_config: Any) -> nn.Module:
    """Builds the backbone registered as `part_id` and holds it to the contract.

    Raises:
        ValueError: unknown id, or `channels` and `strides` that no decoder could use.
    """
    builder = visual_backbones.get(part_id)
    visual_config.pop("pretrained", None)
    backbone = builder(part_id.partition(":")[2], num_channels=num_channels, image_size=image_size, **visual_config)
    if not isinstance(backbone, VisualBackbone):
        raise ValueError(f"The visual backbone {part_id!r} lacks `channels`, `strides` or `input_size`.")
    channels, strides = list(backbone.channels), list(backbone.strides)
    steps = [coarse % fine or coarse <= fine for fine, coarse in pairwise(strides)]
    if not strides or len(channels) != len(strides) or any(steps):
        raise ValueError(
            f"The visual backbone {part_id!r} declares channels {channels} at strides {strides}; they need equal length, "
            "and each stride must be a larger multiple of the one before. Choose other stages (`out_indices` for timm)."
        )
    return backbone  # type: ignore[return-value]
