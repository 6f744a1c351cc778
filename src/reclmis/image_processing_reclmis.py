"""Images and masks -> tensors, and logits -> masks at the original size."""

from typing import Any, Literal

import numpy as np
import torch
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as tvF
from transformers import BatchFeature
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_utils import ChannelDimension, PILImageResampling, SizeDict
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
    normalize_per_image (`bool`):
        Whether each channel of an image is shifted and scaled to mean 0 and standard deviation 1 over that image, which
        takes differences of stain and exposure away. In place of `do_normalize`.
    num_channels (`int`):
        3 for colour, 1 for grey images.
    num_labels (`int`):
        K of the model. Masks that hold other classes are refused; `None` leaves them unchecked.
    """

    channel_order: Literal["rgb", "bgr"]
    pad_size_divisor: int
    antialias: bool
    normalize_per_image: bool
    num_channels: int
    num_labels: int | None


class RecLMISImageProcessor(TorchvisionBackend):
    """Turns images of any mode into `pixel_values` `[B, C, H, W]`, float32.

    Images become 8-bit RGB (see [`reclmis.images.to_rgb8`]) and are resized to `size`, or left at their size
    (`do_resize=False`). Either way they are padded with black on the right and at the bottom to multiples of
    `pad_size_divisor`, and images of different sizes to the largest. Values are divided by 255, and normalised with
    `image_mean` and `image_std`, in `channel_order`, where a pretrained backbone asks for it, or with each image's own
    (`normalize_per_image`); padding is 0 after that.
    Masks follow their image by nearest neighbour; their padding is background (class 0), as there is nothing to find.

    Raises:
        ValueError: options that contradict each other, at construction and on every call.
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
    normalize_per_image = False
    num_channels = 3
    num_labels = None
    model_input_names = ["pixel_values"]  # noqa: RUF012

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        names = ("size", "channel_order", "pad_size_divisor", "num_channels", "image_mean", "image_std",
                 "do_normalize", "normalize_per_image", "do_center_crop")  # fmt: skip
        _check_options(**{name: getattr(self, name, None) for name in names})

    def preprocess(self, images: Any, segmentation_maps: Any = None, **kwargs: Any) -> BatchFeature:
        """Images, and masks of the same sizes -> `pixel_values` `[B, C, H, W]`, and `labels` `[B, H, W]` int64.

        Args:
            images: one or many: PIL images, arrays, tensors (see [`reclmis.images.to_rgb8`]) or paths of files.
            segmentation_maps: one or many `[H, W]` of class indices: PIL images, arrays or tensors.
            kwargs: options for this call. A call that changes `do_resize` or `size` must tell
                [`post_process_semantic_segmentation`] as well.

        Raises:
            ValueError: an image whose values have no 8-bit meaning, or a mask that does not fit its image.
        """
        return super().preprocess(_as_list(images, ndim=3), segmentation_maps, **kwargs)

    def process_image(  # type: ignore[override]
        self, image: Any, *, num_channels: int = 3, input_data_format=None, device=None, **kwargs: Any
    ) -> torch.Tensor:
        """One image -> uint8 `[C, H, W]`. transformers' own conversion turns 16-bit images white, and floating point
        images in [0, 1] black."""
        if input_data_format is not None and getattr(image, "ndim", 0) == 3:
            image = image.detach().cpu().numpy() if isinstance(image, torch.Tensor) else image
            image = np.moveaxis(image, 0, 2) if input_data_format == ChannelDimension.FIRST else image
        converted = to_rgb8(image)
        if num_channels == 1:
            tensor = torch.from_numpy(np.array(converted.convert("L")))[None]
        else:
            tensor = torch.from_numpy(np.array(converted)).permute(2, 0, 1).contiguous()
        return tensor.to(device) if device is not None else tensor

    def _validate_preprocess_kwargs(self, **kwargs: Any) -> None:  # type: ignore[override]
        super()._validate_preprocess_kwargs(**kwargs)
        _check_options(**kwargs)

    def _preprocess_image_like_inputs(  # type: ignore[override]
        self, images: list, segmentation_maps: Any, *args: Any, return_tensors=None, device=None, **kwargs: Any
    ) -> BatchFeature:
        tensors = [self.process_image(image, device=device, **kwargs) for image in images]
        data = {"pixel_values": self._preprocess(tensors, **kwargs)}
        if segmentation_maps is not None:
            labels = [_label_tensor(mask, device) for mask in _as_list(segmentation_maps, ndim=2)]
            _check_labels(tensors, labels, kwargs.get("num_labels"))
            data["labels"] = self._preprocess_labels(labels, **kwargs)
        return BatchFeature(data=data, tensor_type=return_tensors)

    def _preprocess(self, images: list[torch.Tensor], **kwargs: Any) -> list[torch.Tensor]:  # type: ignore[override]
        return self._pad_to_common([self._one_image(image, **kwargs) for image in images], **kwargs)

    def _one_image(
        self, image: torch.Tensor, *, do_resize, size, resample, antialias, channel_order, do_rescale, rescale_factor,
        do_normalize, image_mean, image_std, normalize_per_image=False, **kwargs: Any,
    ) -> torch.Tensor:  # fmt: skip
        if do_resize:
            image = self.resize(image, size=size, resample=resample, antialias=antialias)
        if channel_order == "bgr":
            image = image.flip(0)
        image = image.float()
        if do_rescale:
            image = image * rescale_factor
        if do_normalize:
            image = tvF.normalize(image, list(image_mean), list(image_std))
        if normalize_per_image:
            deviation, mean = torch.std_mean(image, dim=(1, 2), keepdim=True, correction=0)
            # A flat image becomes 0, not noise: one grey level is the least deviation that counts.
            image = (image - mean) / deviation.clamp(min=rescale_factor if do_rescale else 1.0)
        return image

    def _preprocess_labels(
        self, labels: list[torch.Tensor], *, do_resize, size: SizeDict, **kwargs: Any
    ) -> list[torch.Tensor]:
        if do_resize:
            target = (size["height"], size["width"])
            # In float64: exact for every class index that could be written down.
            labels = [
                F.interpolate(mask[None, None].double(), size=target, mode="nearest-exact")[0, 0].long()
                for mask in labels
            ]
        return self._pad_to_common(labels, **kwargs)

    def _pad_to_common(self, tensors, *, do_pad=None, pad_size_divisor=1, **kwargs: Any) -> list[torch.Tensor]:
        if not do_pad:
            return tensors
        height, width = (_round_up(max(t.shape[dim] for t in tensors), pad_size_divisor) for dim in (-2, -1))
        return [F.pad(t, (0, width - t.shape[-1], 0, height - t.shape[-2])) for t in tensors]

    def post_process_semantic_segmentation(
        self,
        outputs: Any,
        target_sizes: Any = None,
        threshold: float = 0.5,
        return_probabilities: bool = False,
        do_resize: bool | None = None,
        size: dict[str, int] | None = None,
        presence_threshold: float = 0.5,
    ) -> list[torch.Tensor]:
        """Masks at the images' own sizes.

        Padding is cut off and what is left of the logits is resized (bilinear) to the target; then one logit becomes
        foreground (1) where its sigmoid is at least `threshold`, and several become the index of the largest.

        Args:
            outputs: the model's, with `logits` `[B, K, H, W]`.
            target_sizes: `(height, width)` of each image before preprocessing; `None` keeps the logits' size, padding
                included.
            threshold: for K = 1.
            return_probabilities: return float32 `[H, W]` foreground probabilities (K = 1) or `[K, H, W]` instead.
            presence_threshold: where the outputs have `presence_logits`, a mask (and its foreground probability) is emptied
                if the probability that the image shows what the note describes is below this. 0 leaves masks alone.
            do_resize: as given to the call that made the inputs, where it differed from the processor's own.
            size: likewise.

        Returns:
            One int64 `[H, W]` per image.

        Raises:
            ValueError: as many predictions as target sizes are needed, and logits of the size of the model's inputs.
        """
        logits = outputs.logits if hasattr(outputs, "logits") else outputs
        sizes = [None] * len(logits) if target_sizes is None else [(int(h), int(w)) for h, w in target_sizes]
        if len(sizes) != len(logits):
            raise ValueError(f"{len(logits)} predictions, but {len(sizes)} target sizes.")
        was_resized = self.do_resize if do_resize is None else do_resize
        resized = (self.size if size is None else size) if was_resized else None
        presence = getattr(outputs, "presence_logits", None)
        absent = [False] * len(logits) if presence is None else (presence.sigmoid() < presence_threshold).tolist()
        results = []
        for logit, target, nothing in zip(logits, sizes, absent, strict=True):
            logit = logit.float()
            probability = _probability(logit if target is None else self._at_size(logit, target, resized))
            if nothing:
                probability = _background(probability)
            if return_probabilities:
                results.append(probability)
            elif probability.ndim == 2:
                results.append((probability >= threshold).long())
            else:
                results.append(probability.argmax(dim=0))
        return results

    def _at_size(self, logit: torch.Tensor, target: tuple[int, int], resized: Any) -> torch.Tensor:
        """One `[K, H, W]` of logits, its padding cut off, at the target size. `resized` is the size that images were
        given, `None` where they kept their own."""
        present = tuple(logit.shape[-2:])
        content = target if resized is None else (resized["height"], resized["width"])
        divisor = self.pad_size_divisor if self.do_pad else 1
        padded = tuple(_round_up(side, divisor) for side in content)
        # Images that kept their size were padded to the largest of their batch, which may be any size above.
        fits = padded == present if resized is not None else all(p >= c for p, c in zip(present, padded, strict=True))
        if not fits:
            raise ValueError(
                f"Logits of {present[0]} x {present[1]} are not of an image prepared as {padded[0]} x {padded[1]}. "
                "If the processor was called with `do_resize` or `size`, pass the same here."
            )
        logit = logit[:, : content[0], : content[1]]
        if content == target:
            return logit
        return F.interpolate(logit[None], size=target, mode="bilinear", align_corners=False)[0]


def _check_options(
    *, size=None, channel_order="rgb", pad_size_divisor=1, num_channels=3, image_mean=None, image_std=None,
    do_normalize=False, normalize_per_image=False, do_center_crop=None, **others: Any,
) -> None:  # fmt: skip
    if size is None or not (size.get("height") and size.get("width")):
        raise ValueError(f"`size` must give 'height' and 'width', got {size}.")
    if channel_order not in ("rgb", "bgr"):
        raise ValueError(f"`channel_order` must be 'rgb' or 'bgr', got {channel_order!r}.")
    if not isinstance(pad_size_divisor, int) or pad_size_divisor < 1:
        raise ValueError(f"`pad_size_divisor` must be an integer of at least 1, got {pad_size_divisor!r}.")
    if num_channels not in (1, 3):
        raise ValueError(f"`num_channels` must be 3 (colour) or 1 (grey), got {num_channels!r}.")
    if do_center_crop:
        raise ValueError("`do_center_crop` would cut off what the mask must cover; resize or pad instead.")
    if normalize_per_image and do_normalize:
        raise ValueError("`normalize_per_image` and `do_normalize` are two ways to normalise: choose one.")
    for name, values in (("image_mean", image_mean), ("image_std", image_std)):
        if do_normalize and len(values) != num_channels:
            raise ValueError(f"`{name}` has {len(values)} values for {num_channels} channel(s): {list(values)}.")


def _round_up(side: int, divisor: int) -> int:
    return -(-side // divisor) * divisor


def _probability(logit: torch.Tensor) -> torch.Tensor:
    return logit[0].sigmoid() if len(logit) == 1 else logit.softmax(dim=0)


def _background(probability: torch.Tensor) -> torch.Tensor:
    """No foreground anywhere, in the shape of these probabilities."""
    empty = torch.zeros_like(probability)
    if empty.ndim == 3:
        empty[0] = 1.0
    return empty


def _as_list(images: Any, ndim: int) -> list:
    """One or many -> many. An array of more than `ndim` dimensions is a batch; nested lists are flattened."""
    if isinstance(images, list | tuple):
        return [image for entry in images for image in _as_list(entry, ndim)]
    if getattr(images, "ndim", 0) > ndim:
        return list(images)
    return [images]


def _label_tensor(mask: Any, device: torch.device | None) -> torch.Tensor:
    array = np.asarray(mask.detach().cpu() if isinstance(mask, torch.Tensor) else mask)
    if array.ndim != 2:
        raise ValueError(f"A mask must be [H, W] class indices, got shape {array.shape}.")
    labels = array.astype(np.int64)
    if (labels != array).any() or labels.min(initial=0) < 0:
        raise ValueError(f"A mask must hold class indices, got values from {array.min():g} to {array.max():g}.")
    tensor = torch.from_numpy(labels)
    return tensor.to(device) if device is not None else tensor


def _check_labels(images: list[torch.Tensor], labels: list[torch.Tensor], num_labels: int | None) -> None:
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images, but {len(labels)} masks.")
    for index, (image, mask) in enumerate(zip(images, labels, strict=True)):
        if image.shape[-2:] != mask.shape:
            raise ValueError(
                f"Image {index} is {image.shape[-2]} x {image.shape[-1]} pixels, but its mask is "
                f"{mask.shape[0]} x {mask.shape[1]}. A mask must be drawn on its image."
            )
        highest = None if num_labels is None else max(num_labels, 2) - 1
        if highest is not None and mask.max() > highest:
            raise ValueError(
                f"Mask {index} holds the value {int(mask.max())}, but classes go from 0 to {highest}. "
                "Divide a mask of 0 and 255 by 255, or raise the model's `num_labels`."
            )


__all__ = ["RecLMISImageProcessor"]
