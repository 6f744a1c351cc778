"""Images, masks and notes brought together by name, with a line for everything that does not fit."""

import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from ..images import UnreadableImageError, open_image, to_rgb8
from .masks import read_mask

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")
MASK_PREFIX = "mask_"
_IGNORED = ("thumbs.db", "desktop.ini")
# The same extension, spelled in two ways.
_SAME_SUFFIX = {".jpeg": ".jpg", ".tiff": ".tif"}

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
    """One sample on disk. `id` is the stem of the image's file name."""

    id: str
    image: Path
    mask: Path
    note: str


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
    num_labels: int = 1,
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
        num_labels: classes that masks may hold.
        verify: decode every image and mask, whether it found its partners or not.
        notes_elsewhere: [`canonical`] names whose notes belong to another split of the same table.
    """
    problems: list[str] = []
    image_files = _by_name(split, "image", images, problems)
    mask_files = _by_name(split, "mask", masks, problems)
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
        broken, findings = _verify(split, image_files.items, mask_files.items, num_labels)
        problems += findings
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
    if dot and f".{suffix.lower()}" in IMAGE_SUFFIXES:
        name = stem
    return name.removeprefix(MASK_PREFIX)


def _by_name(split: str, kind: str, files: Iterable[Path], problems: list[str]) -> _Named[Path]:
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(files):
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            problems.append(f"{split}: {kind} {path.name} has an unknown extension; use {', '.join(IMAGE_SUFFIXES)}.")
            continue
        found[canonical(path.name)].append(path)
    for name, paths in found.items():
        if len(paths) > 1:
            names = ", ".join(path.name for path in paths)
            problems.append(f"{split}: {len(paths)} {kind}s share the name {name!r} ({names}); keep one.")
    _report_case_of_names(split, kind, found, problems)
    _report_case_of_extensions(split, kind, [path for paths in found.values() for path in paths], problems)
    return _Named({name: paths[0] for name, paths in found.items() if len(paths) == 1}, set(found))


def _report_case_of_names(split: str, kind: str, found: dict[str, list[Path]], problems: list[str]) -> None:
    """Two names that differ only in case are one file on half of all computers."""
    folded: dict[str, list[str]] = defaultdict(list)
    for name in sorted(found):
        folded[name.casefold()].append(name)
    for names in folded.values():
        if len(names) > 1:
            files = ", ".join(path.name for name in names for path in found[name])
            problems.append(f"{split}: {kind}s {files} differ only in case; rename or remove one.")
            for name in names[1:]:
                # The first stays usable; the name stays known, so that its partners are not called orphans as well.
                found[name].append(found[name][0])


def _report_case_of_extensions(split: str, kind: str, paths: list[Path], problems: list[str]) -> None:
    """A lone `.PNG` among `.png` is an accident that breaks elsewhere; a folder of `.JPG` is a camera's habit."""
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for path in paths:
        lower = path.suffix.lower()
        spellings[_SAME_SUFFIX.get(lower, lower)][path.suffix] += 1
    for path in paths:
        lower = path.suffix.lower()
        same = Counter({s: n for s, n in spellings[_SAME_SUFFIX.get(lower, lower)].items() if s.lower() == lower})
        usual = max(sorted(same, reverse=True), key=lambda suffix: same[suffix])
        if path.suffix != usual:
            problems.append(
                f"{split}: {kind} {path.name} has its extension in another case than the {same[usual]} "
                f"{usual} beside it; rename it to {path.stem}{usual}."
            )


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


def _verify(
    split: str, images: dict[str, Path], masks: dict[str, Path], num_labels: int
) -> tuple[set[str], list[str]]:
    """Names of which a file is broken or the two do not match, and a line for each reason."""
    names = sorted({*images, *masks})
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        findings = list(pool.map(lambda name: _check(images.get(name), masks.get(name), num_labels), names))
    broken = {name for name, lines in zip(names, findings, strict=True) if lines}
    return broken, [f"{split}: {line}" for lines in findings for line in lines]


def _check(image: Path | None, mask: Path | None, num_labels: int) -> list[str]:
    """Decodes an image and its mask. The mask is read even when the image is broken: both are reported."""
    problems, sizes = [], []
    for path, decode in ((image, to_rgb8), (mask, lambda opened: read_mask(opened, num_labels))):
        if path is None:
            continue
        try:
            opened = open_image(path)
            decode(opened)
            sizes.append(opened.size)
        except UnreadableImageError as error:
            problems.append(str(error))
        except ValueError as error:
            problems.append(f"{path}: {error}")
    if image is not None and mask is not None and len(set(sizes)) == 2:
        (width, height), (mask_width, mask_height) = sizes
        problems.append(
            f"{image.name} is {height} x {width} pixels, but its mask {mask.name} is {mask_height} x {mask_width}; "
            "give the mask of this image."
        )
    return problems
