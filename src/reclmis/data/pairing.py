"""Images, masks and notes brought together by name, with a line for everything that does not fit."""

import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from PIL.Image import Image

from ..images import UnreadableImageError, read_image
from .annotations import ANNOTATION_SUFFIX, AnnotationError, read_annotation
from .masks import MaskFormat
from .volumes import VolumeFormat, read_slice

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".dcm")
MASK_SUFFIXES = (*IMAGE_SUFFIXES, ANNOTATION_SUFFIX)
MASK_PREFIX = "mask_"
_IGNORED = ("thumbs.db", "desktop.ini")

T = TypeVar("T")


class DataError(ValueError):
    """Everything wrong with a dataset, at once. `problems` has one line each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__(
            f"{len(problems)} problem(s) in the data:\n{_bulleted(problems)}\nMend them, or leave the samples out with "
            "on_error='skip'."
        )

    def __reduce__(self):
        return type(self), (self.problems,)


class SkippedDataWarning(UserWarning):
    """Samples were left out; the message lists why."""


@dataclass(frozen=True)
class Pair:
    """One sample on disk.

    Attributes:
        id: the stem of the image's file name, unless its source has other names.
        image, mask: files.
        note: as written.
        patient: whom or which scan it shows, where the source says so.
        slice: number of the slice, where image and mask are volumes; `None` for pictures.
        volume_format: how those are to be cut and windowed.
    """

    id: str
    image: Path
    mask: Path
    note: str
    patient: str = ""
    slice: int | None = None
    volume_format: VolumeFormat | None = None


@dataclass
class _Named(Generic[T]):
    """Things by the name that an image, its mask and its note share. Contested names are in `names` alone."""

    items: dict[str, T] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)


def pair_split(
    split: str,
    images: Iterable[Path],
    masks: Iterable[Path],
    notes: list[tuple[str, str]],
    *,
    mask_format: MaskFormat | None = None,
    verify: bool = True,
    notes_elsewhere: Collection[str] = (),
) -> tuple[list[Pair], list[str]]:
    """Pairs of one split, sorted by id, and a line for every problem, which names split, file and mend.

    Names are compared without extension and without the prefix `mask_`; a name in a note table may be the image's or
    the mask's. They must agree in case: what pairs on one computer must pair on all.

    Args:
        split: its name, for the messages.
        images, masks: files, in any order.
        notes: rows `(name, note)`.
        mask_format: how masks are read; by default as binary ones.
        verify: decode every image and mask, whether it found its partners or not.
        notes_elsewhere: [`canonical`] names whose notes belong to another split of the same table.
    """
    problems: list[str] = []
    image_files = _by_name(split, "image", images, IMAGE_SUFFIXES, problems)
    mask_files = _by_name(split, "mask", masks, MASK_SUFFIXES, problems)
    note_rows = _notes_by_name(split, notes, problems)
    pairs = []
    for name, image in sorted(image_files.items.items()):
        mask, note = mask_files.items.get(name), note_rows.items.get(name)
        if name not in mask_files.names:
            problems.append(f"{split}: image {image.name} has no mask{_close(name, mask_files.names)}.")
        if name not in note_rows.names:
            problems.append(f"{split}: image {image.name} has no note{_close(name, note_rows.names)}.")
        if note is not None and not note.strip():
            problems.append(f"{split}: the note of {image.name} is empty; write what the mask shows.")
        elif mask is not None and note is not None:
            pairs.append(Pair(image.stem, image, mask, note))
    for name in sorted(mask_files.names - image_files.names):
        problems.append(f"{split}: mask {_label(mask_files, name)} has no image{_close(name, image_files.names)}.")
    for name in sorted(note_rows.names - image_files.names - mask_files.names - set(notes_elsewhere)):
        problems.append(f"{split}: the note of {name!r} has no image{_close(name, image_files.names)}.")
    if verify:
        names = sorted({*image_files.items, *mask_files.items})
        files = [(image_files.items.get(name), mask_files.items.get(name)) for name in names]
        findings = verify_files(files, mask_format or MaskFormat())
        problems += [f"{split}: {line}" for lines in findings for line in lines]
        broken = {name for name, lines in zip(names, findings, strict=True) if lines}
        pairs = [pair for pair in pairs if canonical(pair.image.name) not in broken]
    return sorted(pairs, key=lambda pair: pair.id), problems


def settle(problems: list[str], on_error: str, stacklevel: int = 3) -> None:
    """Raises all problems as one error, or warns of what is skipped."""
    if not problems:
        return
    if on_error == "raise":
        raise DataError(problems)
    message = f"{len(problems)} problem(s); the samples concerned are left out:\n{_bulleted(problems)}"
    warnings.warn(message, SkippedDataWarning, stacklevel=stacklevel)


def list_images(folder: Path) -> list[Path]:
    """Files of a folder, in order of name; hidden ones and thumbnails of file managers are left out."""
    return sorted(
        path for path in folder.iterdir()
        if path.is_file() and not path.name.startswith(".") and path.name.lower() not in _IGNORED
    )  # fmt: skip


def canonical(name: str) -> str:
    """What an image, its mask and its note have in common: no folder, no image extension, no `mask_`."""
    name = name.replace("\\", "/").rsplit("/", 1)[-1]
    stem, dot, suffix = name.rpartition(".")
    if dot and f".{suffix.lower()}" in MASK_SUFFIXES:
        name = stem
    return name.removeprefix(MASK_PREFIX)


def _by_name(
    split: str, kind: str, files: Iterable[Path], suffixes: Sequence[str], problems: list[str]
) -> _Named[Path]:
    known, usual = [], _usual_suffixes(files := sorted(files))
    for path in files:
        if path.suffix.lower() not in suffixes:
            problems.append(f"{split}: {kind} {path.name} has an unknown extension; use {', '.join(suffixes)}.")
        else:
            known.append(path)
    # Two names that differ only in case are one file on half of all computers.
    sharing: dict[str, list[Path]] = defaultdict(list)
    for path in known:
        sharing[canonical(path.name).casefold()].append(path)
    items = {}
    for paths in sharing.values():
        path, suffix = paths[0], usual[paths[0].suffix.lower()]
        if len(paths) > 1:
            listed = ", ".join(path.name for path in paths)
            name = canonical(path.name)
            problems.append(f"{split}: {len(paths)} {kind}s share the name {name!r} ({listed}); keep one.")
        elif path.suffix != suffix:
            problems.append(
                f"{split}: {kind} {path.name} has its extension in another case than the {suffix} beside it; rename it "
                f"to {path.stem}{suffix}."
            )
        else:
            items[canonical(path.name)] = path
    return _Named(items, {canonical(path.name) for path in known})


def _usual_suffixes(files: list[Path]) -> dict[str, str]:
    """How a folder mostly writes an extension, by its lower case. A lone `.PNG` among `.png` is an accident that breaks
    on another computer; a folder of `.JPG` is a camera's habit."""
    counts = Counter(path.suffix for path in files)
    # From the rarest to the commonest, lower case last of equals: the last one stays.
    return {suffix.lower(): suffix for suffix in sorted(counts, key=lambda suffix: (counts[suffix], suffix))}


def _notes_by_name(split: str, rows: list[tuple[str, str]], problems: list[str]) -> _Named[str]:
    found: dict[str, list[str]] = defaultdict(list)
    for name, note in rows:
        if not name:
            problems.append(f"{split}: a note has no image name: {note[:60]!r}; name its image, or remove the row.")
            continue
        found[canonical(name)].append(note)
    for name, notes in found.items():
        if len(notes) > 1:
            problems.append(f"{split}: {len(notes)} rows of notes for {name!r}; keep one.")
    return _Named({name: notes[0] for name, notes in found.items() if len(notes) == 1}, set(found))


def _close(name: str, others: Iterable[str]) -> str:
    same = [other for other in others if other.casefold() == name.casefold() and other != name]
    return f", but {same[0]!r} differs only in case; rename one" if same else "; add it, or remove what is left over"


def _label(files: _Named[Path], name: str) -> str:
    return files.items[name].name if name in files.items else repr(name)


def _bulleted(problems: list[str]) -> str:
    return "\n".join(f"  - {problem}" for problem in problems)


def verify_files(files: Sequence[tuple[Path | None, Path | None]], mask_format: MaskFormat) -> list[list[str]]:
    """For each image and mask, a line for every reason why they cannot be used together; `None` is not looked at."""
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda pair: _check(pair[0], pair[1], mask_format), files))


def read_pair(pair: Pair, mask_format: MaskFormat) -> tuple[Image, np.ndarray]:
    """A sample's image as 8-bit RGB, and its mask as class indices uint8 `[H, W]`.

    Raises:
        UnreadableImageError: one of them cannot be decoded.
        ValueError: the mask's values tell no class.
    """
    if pair.slice is not None:
        return read_slice(pair.image, pair.mask, pair.slice, pair.volume_format or VolumeFormat(), mask_format)
    pixels = read_image(pair.image)
    return pixels, _read_mask(pair.mask, (pixels.height, pixels.width), mask_format)


def _read_mask(path: Path, size: tuple[int, int], mask_format: MaskFormat) -> np.ndarray:
    if path.suffix.lower() == ANNOTATION_SUFFIX:
        return read_annotation(path, size)
    return mask_format.read(path)


def _check(image: Path | None, mask: Path | None, mask_format: MaskFormat) -> list[str]:
    """Decodes an image and its mask. The mask is read even when the image is broken: both are reported."""
    problems: list[str] = []
    size = _size_of(image, _image_size, problems)
    mask_size = _size_of(mask, lambda path: _mask_size(path, size, mask_format), problems)
    if size and mask_size and size != mask_size:
        problems.append(
            f"{image} is {size[0]} x {size[1]} pixels, but its mask {mask} is {mask_size[0]} x {mask_size[1]}; give "
            "the mask of this image."
        )
    return problems


def _image_size(path: Path) -> tuple[int, int]:
    image = read_image(path)
    return image.height, image.width


def _mask_size(path: Path, size: tuple[int, int] | None, mask_format: MaskFormat) -> tuple[int, int]:
    """`size` is the image's, which outlines need; without an image they are only read."""
    height, width = _read_mask(path, size or (1, 1), mask_format).shape
    return height, width


def _size_of(
    path: Path | None, decode: Callable[[Path], tuple[int, int]], problems: list[str]
) -> tuple[int, int] | None:
    try:
        return decode(path) if path is not None else None
    except (UnreadableImageError, AnnotationError) as error:
        problems.append(str(error))
    except ValueError as error:
        problems.append(f"{path}: {error}")
    return None
