"""Images and masks -> tensors, and logits -> masks at the original size."""

from typing import Any, Literal

import numpy as np
import torch
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as tvF
from transformers import BatchFeature
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_utils import PILImageResampling, SizeDict
from transformers.processing_utils import ImagesKwargs

from .images import to_rgb8


class RecLMISImageProcessorKwargs(ImagesKwargs, total=False):
    r"""
    channel_order (`"rgb"` or `"bgr"`):
        Order of the channels in `pixel_values`; released checkpoints read BGR.
    pad_size_divisor (`int`):
        With `do_pad`, height and width are padded on the right and at the bottom to multiples of this.
    antialias (`bool`):
        Whether shrinking averages over the pixels it skips; released checkpoints do not.
    num_channels (`int`):
        3 for colour, 1 for grey images.
    """

    channel_order: Literal["rgb", "bgr"]
    pad_size_divisor: int
    antialias: bool
    num_channels: int


class RecLMISImageProcessor(TorchvisionBackend):
    """Turns images of any mode into `pixel_values` `[B, C, H, W]`, float32.

    Images are resized to `size`, or left at their size (`do_resize=False`) and padded with zeros on the right and at
    the bottom to multiples of `pad_size_divisor`; images of different sizes are padded to the largest. Values are
    divided by 255, and normalised with `image_mean` and `image_std` where a pretrained backbone asks for it.
    `labels` follow their image, by nearest neighbour; padding is background (class 0).
    """

    valid_kwargs = RecLMISImageProcessorKwargs
    resample = PILImageResampling.BILINEAR
    image_mean = (0.0, 0.0, 0.0)
    image_std = (1.0, 1.0, 1.0)
    size = {"height": 224, "width": 224}  # noqa: RUF012
    default_to_square = True
    do_resize = True
    do_rescale = True
    rescale_factor = 1 / 255
    do_normalize = False
    do_convert_rgb = True
    do_pad = True
    pad_size_divisor = 16
    channel_order = "rgb"
    antialias = True
    num_channels = 3
    model_input_names = ["pixel_values"]  # noqa: RUF012

    def preprocess(self, images: Any, segmentation_maps: Any = None, **kwargs: Any) -> BatchFeature:
        """Images, and masks `[H, W]` of class indices of the same sizes -> `pixel_values`, and `labels` `[B, H, W]`.

        Raises:
            ValueError: an image whose values have no 8-bit meaning, or a mask that does not fit its image.
        """
        return super().preprocess(_as_list(images), segmentation_maps, **kwargs)

    def process_image(self, image: Any, device: torch.device | None = None, **kwargs: Any) -> torch.Tensor:
        # Pillow's and torchvision's own conversions turn 16-bit images white and rescale [0, 1] floats twice.
        tensor = torch.from_numpy(np.array(to_rgb8(image))).permute(2, 0, 1).contiguous()
        return tensor.to(device) if device is not None else tensor

    def _preprocess_image_like_inputs(
        self, images: Any, segmentation_maps: Any, *args: Any, return_tensors=None, device=None, **kwargs: Any
    ) -> BatchFeature:
        tensors = [self.process_image(image, device=device) for image in images]
        labels = None
        if segmentation_maps is not None:
            labels = [_label_tensor(mask, device) for mask in _as_list(segmentation_maps)]
            _check_sizes(tensors, labels)
        data = {"pixel_values": self._preprocess(tensors, **kwargs)}
        if labels is not None:
            data["labels"] = self._preprocess_labels(labels, **kwargs)
        return BatchFeature(data=data, tensor_type=return_tensors)

    def _preprocess(self, images: list[torch.Tensor], **kwargs: Any) -> list[torch.Tensor]:
        return self._pad_to_common([self._one_image(image, **kwargs) for image in images], **kwargs)

    def _one_image(
        self, image: torch.Tensor, *, do_resize, size, resample, antialias, channel_order, num_channels, do_rescale,
        rescale_factor, do_normalize, image_mean, image_std, **kwargs: Any,
    ) -> torch.Tensor:  # fmt: skip
        if do_resize:
            image = self.resize(image, size=size, resample=resample, antialias=antialias)
        if num_channels == 1:
            image = tvF.rgb_to_grayscale(image)
        elif channel_order == "bgr":
            image = image.flip(0)
        image = image.float()
        if do_rescale:
            image = image * rescale_factor
        if do_normalize:
            image = tvF.normalize(image, list(image_mean), list(image_std))
        return image

    def _preprocess_labels(self, labels, *, do_resize, size: SizeDict, **kwargs: Any) -> list[torch.Tensor]:
        if do_resize:
            target = (size.height, size.width)
            labels = [
                F.interpolate(mask[None, None].float(), size=target, mode="nearest-exact")[0, 0].long()
                for mask in labels
            ]
        return self._pad_to_common(labels, **kwargs)

    def _pad_to_common(self, tensors, *, do_pad=None, pad_size_divisor=1, **kwargs: Any) -> list[torch.Tensor]:
        if not do_pad:
            return tensors
        height, width = (
            -(-max(tensor.shape[dim] for tensor in tensors) // pad_size_divisor) * pad_size_divisor for dim in (-2, -1)
        )
        return [F.pad(t, (0, width - t.shape[-1], 0, height - t.shape[-2])) for t in tensors]

    def post_process_semantic_segmentation(
        self,
        outputs: Any,
        target_sizes: list[tuple[int, int]] | None = None,
        threshold: float = 0.5,
        return_probabilities: bool = False,
    ) -> list[torch.Tensor]:
        """Masks at the images' own sizes.

        Padding is cut off and what is left of the logits is resized (bilinear) to the target; then one logit becomes
        foreground (1) where its sigmoid is at least `threshold`, and several become the index of the largest.

        Args:
            outputs: the model's, with `logits` `[B, K, H, W]`.
            target_sizes: `(height, width)` of each image before preprocessing; `None` keeps the logits' size.
            threshold: for K = 1.
            return_probabilities: return `[H, W]` foreground probabilities (K = 1) or `[K, H, W]` instead of masks.

        Returns:
            One int64 `[H, W]` per image.
        """
        logits = outputs.logits if hasattr(outputs, "logits") else outputs
        sizes = [None] * len(logits) if target_sizes is None else [tuple(map(int, size)) for size in target_sizes]
        if len(sizes) != len(logits):
            raise ValueError(f"{len(logits)} predictions, but {len(sizes)} target sizes.")
        results = []
        for logit, size in zip(logits, sizes, strict=True):
            probability = _probability(self._at_size(logit.float(), size))
            if return_probabilities:
                results.append(probability)
            elif probability.ndim == 2:
                results.append((probability >= threshold).long())
            else:
                results.append(probability.argmax(dim=0))
        return results

    def _at_size(self, logit: torch.Tensor, target: tuple[int, int] | None) -> torch.Tensor:
        if target is None:
            return logit
        content = (self.size["height"], self.size["width"]) if self.do_resize else target
        if content[0] > logit.shape[-2] or content[1] > logit.shape[-1]:
            raise ValueError(
                f"The logits are {logit.shape[-2]} x {logit.shape[-1]}, smaller than the image they are for "
                f"({content[0]} x {content[1]}). Use the processor that made the model's inputs."
            )
        logit = logit[:, : content[0], : content[1]]
        if content == target:
            return logit
        return F.interpolate(logit[None], size=target, mode="bilinear", align_corners=False)[0]


def _probability(logit: torch.Tensor) -> torch.Tensor:
    return logit[0].sigmoid() if len(logit) == 1 else logit.softmax(dim=0)


def _as_list(images: Any) -> list:
    """One image or many -> many. A 4-D array is a batch; a 3-D one is an image; nested lists are flattened."""
    if isinstance(images, list | tuple):
        return [image for entry in images for image in (_as_list(entry) if isinstance(entry, list | tuple) else [entry])]
    if getattr(images, "ndim", 0) == 4:
        return list(images)
    return [images]


def _label_tensor(mask: Any, device: torch.device | None) -> torch.Tensor:
    array = torch.as_tensor(np.asarray(mask.cpu() if isinstance(mask, torch.Tensor) else mask).astype(np.int64))
    if array.ndim != 2:
        raise ValueError(f"A mask must be [H, W] class indices, got shape {tuple(array.shape)}.")
    return array.to(device) if device is not None else array


def _check_sizes(images: list[torch.Tensor], labels: list[torch.Tensor]) -> None:
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images, but {len(labels)} masks.")
    for index, (image, mask) in enumerate(zip(images, labels, strict=True)):
        if image.shape[-2:] != mask.shape:
            raise ValueError(
                f"Image {index} is {image.shape[-2]} x {image.shape[-1]} pixels, but its mask is "
                f"{mask.shape[0]} x {mask.shape[1]}. A mask must be drawn on its image."
            )


__all__ = ["RecLMISImageProcessor"]
