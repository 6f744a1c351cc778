"""Any timm network with feature maps, as `timm:<model>`."""

from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from typing import Any

import torch
from torch import nn

from ..registry import register_visual_backbone

# How timm networks of one input size can be opened to others, best first.
_SIZE_ARGUMENTS: tuple[dict[str, bool], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})


class TimmBackbone(nn.Module):
    """Feature maps of a timm network, channels first, fine to coarse.

    A network whose stages all share one stride (a plain ViT) gets a small feature pyramid, as its last map alone would
    leave the decoder without skips.

    Args:
        rebuild: makes the timm network; takes further arguments of `timm.create_model`.
    """

    network: Any

    def __init__(self, rebuild: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.rebuild = rebuild
        network: Any = rebuild()
        self.network = network
        self._checkpointing = False
        self._channels_last = str(getattr(network, "output_fmt", "NCHW")).endswith("NHWC")
        channels, strides = list(network.feature_info.channels()), list(network.feature_info.reduction())
        plain = len(strides) > 1 and len(set(strides)) == 1
        self.pyramid = SimplePyramid(channels[-1], strides[-1]) if plain else None
        self.channels = channels if self.pyramid is None else self.pyramid.channels
        self.strides = strides if self.pyramid is None else self.pyramid.strides
        traits = getattr(network, "_traits", {})
        self.input_size = tuple(traits["img_size"]) if traits.get("fixed_input_size") else None
        for module in network.modules():
            # timm initialises its own networks; see RecLMISModel._init_weights.
            module._keeps_own_init = True  # type: ignore[assignment]

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether the network recomputes its activations in the backward pass, in timm's own way. Its batch norms then
        count each batch twice in their running statistics; gradients are the same."""
        return self._checkpointing

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, enable: bool) -> None:
        self._checkpointing = enable
        self.network.set_grad_checkpointing(enable)

    def forward(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        features = self.network(pixel_values)
        if self._channels_last:
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        return self.pyramid(features[-1]) if self.pyramid is not None else list(features)

    def load_pretrained(self, source: bool | str = True) -> None:
        """Loads timm's weights (`True`), or those of a local file of the same network.

        Raises:
            ValueError: timm has no weights of that name, or the file does not fit the network.
        """
        overlay = {"file": source} if isinstance(source, str) else None
        try:
            # timm renames modules when it cuts a network into features, so weights must be loaded before the cut.
            donor = self.rebuild(pretrained=True, pretrained_cfg_overlay=overlay)
        except RuntimeError as error:
            raise ValueError(f"No weights for {self.network.pretrained_cfg['architecture']!r}: {error}") from error
        weights = donor.state_dict()
        if isinstance(source, str):
            # timm loads a file without complaint about what it lacks. Such weights are random, so a second donor differs.
            again = self.rebuild(pretrained=True, pretrained_cfg_overlay=overlay).state_dict()
            lacking = [key for key, value in weights.items() if not torch.equal(value, again[key])]
            if lacking:
                raise ValueError(f"{source} lacks weights of {self.network.pretrained_cfg['architecture']!r}: "
                                 f"{', '.join(lacking[:5])}{' ...' if len(lacking) > 5 else ''}.")  # fmt: skip
        self.network.load_state_dict(weights)


class SimplePyramid(nn.Module):
    """Finer maps out of one coarse map by transposed convolutions, down to stride 4 where the stride allows.

    The idea of a plain-backbone pyramid is from ViTDet (Li et al. 2022, arXiv 2203.16527), kept to what a U-shaped
    decoder needs.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels, self.strides = [channels], [stride]
        steps: list[nn.Module] = []
        while self.strides[0] % 2 == 0 and self.strides[0] > 4:
            wide, narrow = self.channels[0], max(self.channels[0] // 2, 16)
            steps.append(
                nn.Sequential(
                    nn.ConvTranspose2d(wide, narrow, kernel_size=2, stride=2), nn.GroupNorm(1, narrow), nn.GELU()
                )
            )
            self.channels.insert(0, narrow)
            self.strides.insert(0, self.strides[0] // 2)
        self.steps = nn.ModuleList(steps)

    def forward(self, feature: torch.Tensor) -> list[torch.Tensor]:
        features = [feature]
        for step in self.steps:
            features.insert(0, step(features[0]))
        return features


@register_visual_backbone("timm")
def build_timm_backbone(name: str, *, num_channels: int, image_size: int, **arguments: Any) -> TimmBackbone:
    """Builds `timm.create_model(name, features_only=True)` with random weights.

    Args:
        name: timm model name, with or without a weight tag.
        num_channels: channels of the image; timm adapts the stem.
        image_size: pixels; the size given to networks that are built for one size.
        arguments: further arguments of `timm.create_model`, for example `out_indices`.

    Raises:
        ValueError: timm does not know the name, or the network has no feature maps.
    """
    import timm

    if not timm.is_model(name):
        close = get_close_matches(name, timm.list_models(), n=5, cutoff=0.5)
        raise ValueError(
            f"timm {timm.__version__} has no model {name!r}. Close to it: {', '.join(close) or 'nothing'}."
        )
    common = {"features_only": True, "in_chans": num_channels, **arguments}
    fixed = getattr(timm.get_pretrained_cfg(name), "fixed_input_size", False)
    candidates = [{"img_size": image_size, **extra} for extra in _SIZE_ARGUMENTS] if fixed else [{}]
    for index, size_arguments in enumerate(candidates):
        try:
            return TimmBackbone(partial(timm.create_model, name, **{**size_arguments, **common}))
        except TypeError as error:
            # The network does not know this size argument: try the next, and let a real mistake speak.
            if index + 1 == len(candidates) or not any(argument in str(error) for argument in size_arguments):
                raise ValueError(f"timm cannot build {name!r} with {size_arguments | common}: {error}") from error
        except (RuntimeError, AttributeError, AssertionError) as error:
            raise ValueError(f"timm cannot give feature maps of {name!r}: {error}. Choose another model.") from error
    raise AssertionError("unreachable: the last candidate returns or raises")


def _pretrained_statistics(name: str, num_channels: int) -> tuple[list[float], list[float]]:
    """Mean and deviation per channel that timm's weights were trained with.

    Raises:
        ValueError: timm has no weights of that name.
    """
    import timm

    settings = timm.get_pretrained_cfg(name)
    if settings is None:
        raise ValueError(f"timm {timm.__version__} has no weights for {name!r}; leave `pretrained` out.")
    mean, std = list(settings.mean), list(settings.std)
    if num_channels == 1:
        # timm sums the stem's filters over the colours; a grey image is the mean of them.
        mean, std = [sum(mean) / len(mean)], [sum(std) / len(std)]
    return mean, std


build_timm_backbone.pretrained_statistics = _pretrained_statistics  # type: ignore[attr-defined]
