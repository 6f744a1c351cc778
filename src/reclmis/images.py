"""Reading images: whatever a hospital or a camera wrote becomes 8-bit RGB, with the right pixels or an error."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import UnreadableImageError
from .medical.detection import is_dicom

# Pillow knows more, and hands some of them (EPS) to other programs, which run what is in the file.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "DIB", "WEBP", "GIF", "PPM", "JPEG2000")
_WIDER_THAN_8_BIT = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_TRANSPARENT = ("RGBA", "RGBa", "LA", "La", "PA")
# What resampling in floating point overshoots by.
_TOLERANCE = 1e-3


def read_image(path: str | Path | bytes, name: str = "", max_pixels: int | None = None) -> Image.Image:
    """Reads a file as an 8-bit RGB image, turned as its EXIF orientation says, or windowed as its DICOM header says. Safe
    to call from several threads.

    Args:
        path: the file, or its content.
        name: what errors call it, in place of the path.
        max_pixels: a lower limit than `PIL.Image.MAX_IMAGE_PIXELS`, for files of strangers.

    Raises:
        UnreadableImageError: the file is missing, empty, truncated, no image, a stack of several images, or would
            unpack to more pixels than `PIL.Image.MAX_IMAGE_PIXELS` or `max_pixels`.
    """
    image = open_image(path, name, max_pixels)
    try:
        return to_rgb8(image)
    except ValueError as error:
        raise UnreadableImageError(f"{_called(path, name)}: {error}") from error


def open_image(path: str | Path | bytes, name: str = "", max_pixels: int | None = None) -> Image.Image:
    """Decodes a file completely, in the mode that it was written in, turned as its EXIF orientation says.

    Raises:
        UnreadableImageError: as [`read_image`].
    """
    name = _called(path, name)
    file = _checked_file(path, name)
    if is_dicom(file):
        return _opened_dicom(file, name, max_pixels)
    try:
        with Image.open(file, formats=FORMATS) as image:
            _check_extent(image, name, max_pixels)
            image.load()
            turned = ImageOps.exif_transpose(image)
            # A copy forgets it, and masks want to know whether theirs smears edges.
            turned.format = image.format
            return turned
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError(
            f"{name} is no image of a kind that is read ({', '.join(FORMATS)}, DICOM); convert it to PNG."
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImageError(f"{name} is refused: {error} {_TOO_LARGE}") from error
    except Exception as error:
        # Pillow's format plugins raise whatever a broken byte leads them to: OSError, SyntaxError, KeyError, ...
        raise UnreadableImageError(f"{name} is damaged ({type(error).__name__}: {error}); copy it again.") from error


def _opened_dicom(file: Path | BytesIO, name: str, max_pixels: int | None) -> Image.Image:
    """A DICOM file of one frame, windowed as it says itself."""
    from .medical.dicom import grey_or_colours, read_header

    header = read_header(file, name)
    # Before they are decoded: a small file may hold many.
    frames = int(header.get("NumberOfFrames") or 1)
    if frames > 1:
        raise UnreadableImageError(f"{name} holds {frames} frames; read it with `reclmis.medical.read_volume`.")
    _check_pixels(int(header.Columns), int(header.Rows), name, max_pixels)
    return Image.fromarray(grey_or_colours(header, None, name)[0])


def _called(path: str | Path | bytes, name: str) -> str:
    return name or ("An image" if isinstance(path, bytes) else str(path))


def _checked_file(path: str | Path | bytes, name: str) -> Path | BytesIO:
    if isinstance(path, bytes):
        size = len(path)
    else:
        path = Path(path)
        if not path.is_file():
            raise UnreadableImageError(f"{name} is {'a folder' if path.is_dir() else 'missing'}; give an image file.")
        size = path.stat().st_size
    if size == 0:
        raise UnreadableImageError(f"{name} is empty (0 bytes); copy it again.")
    return BytesIO(path) if isinstance(path, bytes) else path


_TOO_LARGE = "Cut it into tiles, or raise `PIL.Image.MAX_IMAGE_PIXELS` if you trust the file."


def _check_pixels(width: int, height: int, name: str, max_pixels: int | None) -> None:
    if max_pixels is not None and width * height > max_pixels:
        raise UnreadableImageError(
            f"{name} has {width} x {height} pixels, {width * height} in all; at most {max_pixels} are read. Cut it into "
            "tiles, or make it smaller."
        )


def _check_extent(image: Image.Image, name: str, max_pixels: int | None) -> None:
    _check_pixels(image.width, image.height, name, max_pixels)
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise UnreadableImageError(
            f"{name} would unpack to {image.width} x {image.height} pixels, more than {limit}. {_TOO_LARGE}"
        )
    # An MPO is a photograph with previews of itself; other formats of several frames are stacks. Counting the frames of a
    # TIFF would take time that grows with their square, so it is only asked whether there is a second one.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise UnreadableImageError(f"{name} holds more than one image; save the one you mean as a file of its own.")


def to_rgb8(image: Any) -> Image.Image:
    """An image of any kind as 8-bit RGB.

    - Paths are read, see [`read_image`].
    - PIL images of every mode. Transparency is laid over black, the background of a radiograph.
    - 16-bit integers fill the whole range: 65535 becomes 255. Pixels that use 12 of 16 bits come out dark; window them
      first. Wider integers, and Pillow's mode `I`, count as 8-bit where no value is above 255, and as 16-bit otherwise.
    - Floating point arrays lie in [0, 1] or in [0, 255]; one whose maximum is at most 1 counts as the former. Between 1
      and 2 the maximum could mean either, and is refused.
    - Arrays are `[H, W]`, `[H, W, C]` or `[C, H, W]`, tensors `[H, W]`, `[C, H, W]` or `[H, W, C]`, in case of doubt
      the one named first; C is 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha).

    Raises:
        UnreadableImageError: a path that [`read_image`] cannot read.
        ValueError: values outside these ranges, not a number, or a shape that is no image.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if not isinstance(image, Image.Image):
        return _array_to_rgb8(image)
    if 0 in image.size:
        raise ValueError(f"An image of {image.width} x {image.height} pixels holds nothing.")
    if image.mode in _WIDER_THAN_8_BIT:
        # Pillow itself would clip these at 255: a 16-bit radiograph comes out white.
        return _array_to_rgb8(np.asarray(image))
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        layered = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layered.size, (0, 0, 0, 255)), layered).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _array_to_rgb8(image: Any) -> Image.Image:
    is_tensor = hasattr(image, "detach")
    if is_tensor:
        # NumPy has no bfloat16.
        image = image.detach().cpu()
        image = image.float() if image.is_floating_point() else image
    pixels = _to_uint8(_channels_last(np.asarray(image), channels_first=is_tensor))
    channels = pixels.shape[2]
    colours = np.repeat(pixels[:, :, :1], 3, axis=2) if channels <= 2 else pixels[:, :, :3]
    if channels in (2, 4):
        colours = np.rint(colours * (pixels[:, :, -1:] / 255.0)).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(colours))


def _channels_last(array: np.ndarray, channels_first: bool) -> np.ndarray:
    if array.size and array.ndim == 2:
        return array[:, :, None]
    if array.size and array.ndim == 3:
        for axis in (0, 2) if channels_first else (2, 0):
            if array.shape[axis] in (1, 2, 3, 4):
                return np.moveaxis(array, axis, 2)
    raise ValueError(
        f"Shape {array.shape} is no image; pass [H, W], [H, W, C] or [C, H, W] with 1 to 4 channels and some pixels."
    )


def _to_uint8(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.dtype.kind == "f":
        return _float_to_uint8(array)
    if array.dtype.kind not in "iu":
        raise ValueError(f"Pixels of type {array.dtype} mean nothing here; pass integers or floating point numbers.")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 65535:
        raise ValueError(f"Integer pixels from {low} to {high}; scale them to 0 to 255, or to 0 to 65535.")
    unsigned_16_bit = array.dtype.kind == "u" and array.dtype.itemsize == 2
    if unsigned_16_bit or high > 255:
        return np.rint(array / 257.0).astype(np.uint8)
    return array.astype(np.uint8)


def _float_to_uint8(array: np.ndarray) -> np.ndarray:
    if not np.isfinite(array).all():
        raise ValueError(f"{(~np.isfinite(array)).sum()} pixels are nan or infinite; replace them before.")
    low, high = float(array.min()), float(array.max())
    if low >= -_TOLERANCE and high <= 1 + _TOLERANCE:
        return np.rint(array.clip(0, 1) * 255.0).astype(np.uint8)
    if low >= -_TOLERANCE and 2 <= high <= 255 + _TOLERANCE:
        return np.rint(array.clip(0, 255)).astype(np.uint8)
    raise ValueError(f"Floating point pixels from {low:g} to {high:g}; scale them to [0, 1] or to [0, 255].")
