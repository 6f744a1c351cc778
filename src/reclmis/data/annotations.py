"""Outlines of objects, as ImageScope writes them (MoNuSeg's original annotations), drawn as a mask."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

ANNOTATION_SUFFIX = ".xml"
# MoNuSeg's largest file has 3 MB and 1900 outlines.
_LARGEST_FILE = 64 * 2**20
_FINER = 8


class AnnotationError(ValueError):
    """A file of outlines that cannot be read. The message names the path."""


def read_annotation(path: str | Path, size: tuple[int, int]) -> np.ndarray:
    """The areas within all outlines as a binary mask, uint8 `[H, W]`.

    Args:
        path: XML with `Region` elements, each with `Vertex` elements whose `X` and `Y` count pixels from the image's
            upper left. Outlines of fewer than three corners, which ImageScope leaves behind where somebody clicked, have
            no area.
        size: (height, width) of the image, which the file does not say. What lies outside is cut off.

    Raises:
        AnnotationError: missing, empty, too large or damaged, with entities or a document type (as files made to harm
            have), without any region, or with an outline that lies wholly outside the image, as another image's would.
    """
    mask = np.zeros(size, dtype=np.uint8)
    for number, corners in enumerate(_outlines(Path(path)), start=1):
        if len(corners) < 3:
            continue
        if size != (1, 1) and not _touches(corners, size):
            raise AnnotationError(
                f"{path}: outline {number} around {tuple(corners.mean(axis=0).round().tolist())} lies outside the image of "
                f"{size[1]} x {size[0]} pixels; give the annotation of this image."
            )
        _fill(mask, corners)
    return mask


def _fill(mask: np.ndarray, corners: np.ndarray) -> None:
    """Sets the pixels of which an outline covers at least half.

    Pillow colours every pixel that the line touches, which would make a nucleus a pixel wider; so it draws a finer grid.
    """
    limits = np.array(mask.shape[::-1])
    low = np.floor(corners.min(axis=0)).clip(0, limits).astype(int)
    high = np.ceil(corners.max(axis=0)).clip(0, limits).astype(int)
    width, height = (high - low).tolist()
    if not width or not height:
        return
    fine = Image.new("L", (width * _FINER, height * _FINER))
    # Corners are points in the plane; Pillow's coordinates are those of pixels' middles.
    ImageDraw.Draw(fine).polygon([tuple(corner) for corner in ((corners - low) * _FINER - 0.5).tolist()], fill=1)
    covered = np.asarray(fine).reshape(height, _FINER, width, _FINER).mean(axis=(1, 3)) >= 0.5
    mask[low[1] : high[1], low[0] : high[0]] |= covered.astype(np.uint8)


def _outlines(path: Path) -> list[np.ndarray]:
    from defusedxml import ElementTree

    if not path.is_file() or path.stat().st_size == 0:
        raise AnnotationError(f"{path} is {'empty (0 bytes)' if path.is_file() else 'missing'}; copy it again.")
    if path.stat().st_size > _LARGEST_FILE:
        raise AnnotationError(
            f"{path} has {path.stat().st_size} bytes, more than {_LARGEST_FILE}; split it into tiles."
        )
    try:
        root = ElementTree.parse(path, forbid_dtd=True).getroot()
        regions = [[(float(vertex.get("X")), float(vertex.get("Y"))) for vertex in region.iter("Vertex")]
                   for region in root.iter("Region")]  # fmt: skip
    except Exception as error:
        # Parsers of XML raise their own errors, and a missing attribute is a TypeError.
        raise AnnotationError(f"{path} is no annotation ({type(error).__name__}: {error}); copy it again.") from error
    if not regions:
        raise AnnotationError(f"{path} has no Region; is it an annotation of ImageScope?")
    outlines = [np.array(region, dtype=np.float64).reshape(-1, 2) for region in regions]
    if not all(np.isfinite(outline).all() for outline in outlines):
        raise AnnotationError(f"{path} has corners that are nan or infinite; copy it again.")
    return outlines


def _touches(corners: np.ndarray, size: tuple[int, int]) -> bool:
    low, high = corners.min(axis=0), corners.max(axis=0)
    return bool((high >= 0).all() and (low <= (size[1], size[0])).all())
