"""Reading images: whatever a hospital or a camera wrote becomes 8-bit RGB, with the right pixels or an error."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")


class UnreadableImageError(ValueError):
    """A file that is missing, damaged, too large, or no image. The message names the path."""


def read_image(path: str | Path) -> Image.Image:
    """Reads a file as an 8-bit RGB image, turned as its EXIF orientation says.

    Raises:
        UnreadableImageError: the file is missing, empty, truncated, no image, or would unpack to a size that Pillow
            regards as an attack.
    """
    path = Path(path)
    if not path.is_file():
        raise UnreadableImageError(f"No image at {path}.")
    if path.stat().st_size == 0:
        raise UnreadableImageError(f"{path} is empty (0 bytes); copy it again.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return to_rgb8(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise UnreadableImageError(f"{path} is no image that Pillow knows; convert it to PNG.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImageError(f"{path} is refused: {error} Cut it into tiles.") from error
    except (OSError, SyntaxError, EOFError) as error:
        raise UnreadableImageError(f"{path} is damaged: {error}. Copy it again.") from error
    except ValueError as error:
        raise UnreadableImageError(f"{path}: {error}") from error


def to_rgb8(image: Any) -> Image.Image:
    """An image of any kind as 8-bit RGB.

    - PIL images of every mode. Transparency is laid over black, the background of a radiograph.
    - 16-bit integers fill the whole range: 65535 becomes 255. Pixels that use 12 of 16 bits come out dark; window them
      first.
    - Floating point arrays lie in [0, 1] or in [0, 255]. One whose maximum is at most 1 counts as the former.
    - Arrays and tensors are `[H, W]`, `[H, W, C]` or `[C, H, W]` with 1, 2 (grey, alpha), 3 or 4 channels.

    Raises:
        ValueError: values outside these ranges, not a number, or a shape that is no image.
    """
    if not isinstance(image, Image.Image):
        return _array_to_rgb8(np.asarray(image.detach().cpu() if hasattr(image, "detach") else image))
    if image.mode in _SIXTEEN_BIT or image.mode in ("I", "F"):
        # Pillow itself would clip these at 255: a 16-bit radiograph comes out white.
        return _array_to_rgb8(np.asarray(image))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layered = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layered.size, (0, 0, 0, 255)), layered).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _array_to_rgb8(array: np.ndarray) -> Image.Image:
    pixels = _to_uint8(_channels_last(array))
    grey, alpha = pixels.shape[2] in (1, 2), pixels.shape[2] in (2, 4)
    colours = np.repeat(pixels[:, :, :1], 3, axis=2) if grey else pixels[:, :, :3]
    if alpha:
        colours = np.rint(colours * (pixels[:, :, -1:] / 255.0)).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(colours))


def _channels_last(array: np.ndarray) -> np.ndarray:
    if array.ndim == 2:
        return array[:, :, None]
    if array.ndim == 3 and array.shape[2] in (1, 2, 3, 4):
        return array
    if array.ndim == 3 and array.shape[0] in (1, 2, 3, 4):
        return np.moveaxis(array, 0, 2)
    raise ValueError(f"An array of shape {array.shape} is no image; pass [H, W], [H, W, C] or [C, H, W].")


def _to_uint8(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.size == 0:
        raise ValueError(f"An array of shape {array.shape} holds no pixel.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("The image holds values that are not finite; replace them before.")
    low, high = array.min(), array.max()
    if array.dtype.kind == "f":
        if low >= 0 and high <= 1:
            return np.rint(array * 255.0).astype(np.uint8)
        if low >= 0 and high <= 255:
            return np.rint(array).astype(np.uint8)
        raise ValueError(f"Floating point pixels from {low:g} to {high:g}; scale them to [0, 1] or [0, 255].")
    if low < 0 or high > 65535:
        raise ValueError(f"Integer pixels from {low} to {high}; scale them to 8 or 16 bits.")
    # The type tells the range for 16 bits. Wider integers (Pillow's mode I among them) are told by their values.
    if array.dtype == np.uint16 or high > 255:
        return np.rint(array / 257.0).astype(np.uint8)
    return array.astype(np.uint8)
