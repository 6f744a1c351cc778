"""Grad-CAM on the first decoder layer (paper Figure 10; Selvaraju et al. 2017), computed by captum."""

# Shapes: h, w of the first decoder layer, H, W of the prepared image.

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from ..errors import MissingPackageError
from ..images import to_rgb8
from ..modeling_reclmis import foreground_logit
from .borrowing import evaluating
from .maps import check_note, content_size


def grad_cam(
    model: Any,
    processor: Any,
    image: Any,
    note: str | None,
    *,
    region: np.ndarray | None = None,
    threshold: float = 0.5,
) -> np.ndarray:
    """Where the first decoder layer speaks for the mask.

    The target is the sum of the foreground's logits (of any foreground class) over a region. Each channel counts by the
    mean gradient of the target over its map, and what speaks against the target is cut off: ReLU(sum of weight * channel).

    Args:
        model: a [`RecLMISModel`], pruned or not. It stays in the mode that it is in, and no gradient is left behind.
        processor: its processor.
        image: path, PIL image, array or tensor.
        note: what to look for; `None` for a model with a null note.
        region: bool `[H, W]` at the image's size; `None` takes the predicted mask, whatever a presence score says.
        threshold: of that mask's foreground probability, for binary models.

    Returns:
        float32 `[h, w]` of at least 0 over the prepared image, see [`Explanation.at_image`].

    Raises:
        MissingPackageError: `pip install reclmis[explain]` is due.
        ValueError: an empty region, one of another size than the image, an empty note, or a decoder without layers.
    """
    layer_grad_cam = _captum()
    check_note(note)
    if not len(model.decoder.blocks):
        raise ValueError("The decoder of this model has no layer but its head, so there is nothing to look at.")
    picture = to_rgb8(image)
    inputs = processor(images=picture, text=[note], return_tensors="pt").to(model.device)
    pixels = inputs.pop("pixel_values")
    content = content_size(processor, picture)

    def foreground(pixels: torch.Tensor) -> torch.Tensor:
        return foreground_logit(model(pixel_values=pixels, **inputs).logits.float())[:, 0]

    with evaluating(model):
        if region is None:
            inside = _predicted(model, pixels, inputs, content, threshold)
        else:
            inside = _prepared(region, (picture.height, picture.width), content, tuple(pixels.shape[-2:]))
        if not inside.any():
            raise ValueError("The region is empty, so no pixel speaks for it; give a `region`, or ask another note.")
        inside = inside.to(pixels.device)
        explainer = layer_grad_cam(
            lambda pixels: (foreground(pixels) * inside).sum(dim=(1, 2)), model.decoder.blocks[0]
        )
        # captum asks for a gradient of its input, and would warn that it had to.
        heat = explainer.attribute(pixels.clone().requires_grad_(), relu_attributions=True)
    return heat[0, 0].detach().float().cpu().numpy()


@torch.no_grad()
def _predicted(model, pixels, inputs, content: tuple[int, int], threshold: float) -> torch.Tensor:
    """The mask over the prepared image, bool `[H, W]`, empty in the padding."""
    logits = model(pixel_values=pixels, **inputs).logits[0].float()
    mask = logits[0].sigmoid() >= threshold if len(logits) == 1 else logits.argmax(dim=0) > 0
    mask[content[0] :] = False
    mask[:, content[1] :] = False
    return mask


def _prepared(
    region: np.ndarray, size: tuple[int, int], content: tuple[int, int], prepared: tuple[int, int]
) -> torch.Tensor:
    """A region of the image, over the prepared image."""
    region = np.asarray(region)
    if region.shape != size:
        raise ValueError(f"The image is {size[0]} x {size[1]}, but the region's shape is {region.shape}.")
    inside = torch.from_numpy(region != 0).float()[None, None]
    inside = F.interpolate(inside, size=content, mode="nearest-exact")[0, 0]
    return F.pad(inside, (0, prepared[1] - content[1], 0, prepared[0] - content[0])) > 0


def _captum() -> Any:
    try:
        from captum.attr import LayerGradCam
    except ImportError as error:
        raise MissingPackageError("Grad-CAM needs captum: `pip install reclmis[explain]` brings it.") from error
    return LayerGradCam


__all__ = ["grad_cam"]
