"""Images, masks and notes brought together by name, with everything that does not fit listed in one error."""

import warnings
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ..images import UnreadableImageError, read_image
from .masks import read_mask

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")
MASK_PREFIX = "mask_"
IGNORED = ("thumbs.db", "desktop.ini")


class DataError(ValueError):
    """Everything wrong with a dataset, at once. `problems` has one line each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        listed = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"{len(problems)} problem(s) in the data:\n{listed}\nMend them, or load with on_error='skip'.")


class SkippedDataWarning(UserWarning):
    """Samples were left out; the message lists why."""


@dataclass(frozen=True)
class Pair:
    """One sample on disk. `id` is the stem of the image."""

    id: str
    image: Path
    mask: Path
    note: str


def pair_split(
    split: str,
    images: Iterable[Path],
    masks: Iterable[Path],
    notes: list[tuple[str, str]],
    *,
    num_labels: int = 1,
    verify: bool = True,
    exclusive_notes: bool = True,
) -> tuple[list[Pair], list[str]]:
    """Pairs of one split, sorted by id, and a line for every problem.

    Names are compared without extension and without the prefix `mask_`; a name in a note table may be the image's or
    the mask's.

    Args:
        split: its name, for the messages.
        images, masks: files, in any order.
        notes: rows `(name, note)`.
        num_labels: classes that masks may hold.
        verify: decode every image and mask.
        exclusive_notes: whether a note without an image is a problem (not so for a table that serves several splits).
    """
    problems: list[str] = []
    image_files = _by_stem(split, "image", images, problems)
    mask_files = _by_stem(split, "mask", masks, problems)
    note_rows = _by_name(split, notes, problems)
    pairs = []
    for stem, image in sorted(image_files.items()):
        mask, note = mask_files.get(stem), note_rows.get(stem)
        if mask is None:
            problems.append(f"{split}: image {image.name} has no mask{_close(stem, mask_files)}.")
        if note is None:
            problems.append(f"{split}: image {image.name} has no note{_close(stem, note_rows)}.")
        elif not note.strip():
            problems.append(f"{split}: the note of {image.name} is empty.")
            note = None
        if mask is not None and note is not None:
            pairs.append(Pair(stem, image, mask, note))
    for stem in sorted(set(mask_files) - set(image_files)):
        problems.append(f"{split}: mask {mask_files[stem].name} has no image{_close(stem, image_files)}.")
    if exclusive_notes:
        for stem in sorted(set(note_rows) - set(image_files) - set(mask_files)):
            problems.append(f"{split}: the note of {stem!r} has no image{_close(stem, image_files)}.")
    if verify:
        with ThreadPoolExecutor(max_workers=4) as pool:
            findings = list(pool.map(lambda pair: _check(split, pair, num_labels), pairs))
        problems += [line for lines in findings for line in lines]
        pairs = [pair for pair, lines in zip(pairs, findings, strict=True) if not lines]
    return pairs, problems


def settle(problems: list[str], on_error: str) -> None:
    """Raises all problems as one error, or warns of what is skipped."""
    if not problems:
        return
    if on_error == "raise":
        raise DataError(problems)
    listed = "\n".join(f"  - {problem}" for problem in problems)
    warnings.warn(f"{len(problems)} problem(s); the samples concerned are left out:\n{listed}", SkippedDataWarning,
                  stacklevel=3)  # fmt: skip


def list_images(folder: Path) -> list[Path]:
    """Files of a folder, hidden ones and thumbnails of file managers left out."""
    return sorted(
        path for path in folder.iterdir()
        if path.is_file() and not path.name.startswith(".") and path.name.lower() not in IGNORED
    )  # fmt: skip


def canonical(name: str) -> str:
    """Stem shared by an image, its mask and its note: no folder, no image extension, no `mask_`."""
    name = name.replace("\\", "/").rsplit("/", 1)[-1]
    stem, dot, suffix = name.rpartition(".")
    if dot and f".{suffix.lower()}" in IMAGE_SUFFIXES:
        name = stem
    return name.removeprefix(MASK_PREFIX)


def _by_stem(split: str, kind: str, files: Iterable[Path], problems: list[str]) -> dict[str, Path]:
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(files):
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            problems.append(f"{split}: {kind} {path.name} has an unknown extension; use {', '.join(IMAGE_SUFFIXES)}.")
            continue
        found[canonical(path.name)].append(path)
    for stem, paths in found.items():
        if len(paths) > 1:
            names = ", ".join(path.name for path in paths)
            problems.append(f"{split}: {len(paths)} {kind}s share the name {stem!r} ({names}); keep one.")
    return {stem: paths[0] for stem, paths in found.items() if len(paths) == 1}


def _by_name(split: str, rows: list[tuple[str, str]], problems: list[str]) -> dict[str, str]:
    found: dict[str, list[str]] = defaultdict(list)
    for name, note in rows:
        if not name:
            problems.append(f"{split}: a note has no image name: {note[:60]!r}.")
            continue
        found[canonical(name)].append(note)
    for name, notes in found.items():
        if len(notes) > 1:
            problems.append(f"{split}: {len(notes)} rows of notes for {name!r}; keep one.")
    return {name: notes[0] for name, notes in found.items() if len(notes) == 1}


def _close(stem: str, others: Iterable[str]) -> str:
    same = [other for other in others if other.lower() == stem.lower() and other != stem]
    return f", but {same[0]!r} differs only in case" if same else ""


def _check(split: str, pair: Pair, num_labels: int) -> list[str]:
    """Decodes a pair. The mask is read even when the image is broken: both are reported."""
    problems, sizes = [], {}
    try:
        sizes["image"] = read_image(pair.image).size
    except UnreadableImageError as error:
        problems.append(f"{split}: {error}")
    try:
        read_image(pair.mask)
        mask = read_mask(pair.mask, num_labels)
        sizes["mask"] = (mask.shape[1], mask.shape[0])
    except (ValueError, OSError, Image.DecompressionBombError) as error:
        message = str(error) if str(pair.mask) in str(error) else f"{pair.mask}: {error}"
        problems.append(f"{split}: {message}")
    if len(sizes) == 2 and sizes["image"] != sizes["mask"]:
        problems.append(
            f"{split}: {pair.image.name} is {sizes['image'][0]} x {sizes['image'][1]} pixels, but its mask "
            f"{pair.mask.name} is {sizes['mask'][0]} x {sizes['mask'][1]}."
        )
    return problems
