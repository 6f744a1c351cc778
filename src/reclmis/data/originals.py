"""QaTa-COV19, MosMedData+ and MoNuSeg as their makers publish them, with the notes that others wrote for them.

The downloads have images and masks but no notes. Those come in tables (Li et al., LViT), which also say what is training
and what is validation; or they are written from the masks.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..notes import Orientation, note_from_mask
from ..registry import register_data_source
from .image_note_mask import split_of
from .inventory import Inventory, OnError, split_names
from .masks import MaskFormat
from .pairing import IMAGE_SUFFIXES, DataError, Pair, canonical, list_images, pair_split, read_pair
from .tables import IMAGE_COLUMNS, TABLE_SUFFIXES, iterate_records, scan_note_table

if TYPE_CHECKING:
    from datasets import DatasetDict, IterableDatasetDict

FROM_MASKS = "from_masks"
_DEEPEST = 4


@dataclass(frozen=True)
class Pool:
    """Images and masks of a download that belong to one split, unless a table of notes says otherwise."""

    split: str
    images: Path
    masks: Path


def find_qata(root: Path) -> list[Pool]:
    """`Train Set` and `Test Set`, each with `Images` and `Ground-truths` (QaTa-COV19-v2 on Kaggle)."""
    return [Pool(split, images, masks) for images, masks in _side_by_side(root, "Images", "Ground-truths")
            if (split := split_of(images.parent.name))]  # fmt: skip


def find_mosmed(root: Path) -> list[Pool]:
    """`frames` and `masks` (COVID-19 CT scan lesion segmentation on Kaggle, of which MosMedData+ consists)."""
    return [Pool("train", images, masks) for images, masks in _side_by_side(root, "frames", "masks")]


def find_monuseg(root: Path) -> list[Pool]:
    """`Tissue Images` and `Annotations` of the training data, and the test data with both in one folder."""
    training = [Pool("train", images, masks) for images, masks in _side_by_side(root, "Tissue Images", "Annotations")]
    test = [Pool("test", folder, folder) for folder in _folders(root) if _is_test_data(folder)]
    return [replace(pool, split=split_of(pool.images.parent.name) or "train") for pool in training] + test


def _is_test_data(folder: Path) -> bool:
    return "testdata" in folder.name.lower().replace(" ", "") and any(folder.glob("*.xml"))


LAYOUTS: dict[str, Callable[[Path], list[Pool]]] = {"qata": find_qata, "mosmed": find_mosmed, "monuseg": find_monuseg}


@register_data_source("qata")
def load_qata(root: str | Path, splits: Iterable[str] | None = None, **options) -> "DatasetDict | IterableDatasetDict":
    """QaTa-COV19-v2 from its original download; see [`load_original`] for the options."""
    return load_original("qata", root, splits, **options)


@register_data_source("mosmed")
def load_mosmed(
    root: str | Path, splits: Iterable[str] | None = None, **options
) -> "DatasetDict | IterableDatasetDict":
    """MosMedData+ from its original download; see [`load_original`] for the options."""
    return load_original("mosmed", root, splits, **options)


@register_data_source("monuseg")
def load_monuseg(
    root: str | Path, splits: Iterable[str] | None = None, **options
) -> "DatasetDict | IterableDatasetDict":
    """MoNuSeg from its original download, outlines drawn as masks; see [`load_original`] for the options."""
    return load_original("monuseg", root, splits, **options)


def load_original(
    layout: str,
    root: str | Path,
    splits: Iterable[str] | None = None,
    *,
    notes: str | Path | None = None,
    missing_notes: str | None = None,
    orientation: Orientation = "image",
    on_error: OnError = "raise",
    verify: bool = True,
    streaming: bool = False,
    cache_dir: str | Path | None = None,
) -> "DatasetDict | IterableDatasetDict":
    """An original download with notes.

        QaTa-COV19-v2/{Train Set,Test Set}/{Images,Ground-truths}/           qata
        {frames,masks}/                                                      mosmed
        MoNuSeg 2018 Training Data/{Tissue Images,Annotations}/, MoNuSegTestData/   monuseg

    The folders may lie deeper within `root`. Tables of notes are those within `notes` (or `root`); one whose name says
    train, validation or test (`Val_text.xlsx`, `val.csv`) puts its images into that split, so that the split is that of
    the notes' authors. A table of names alone (`Val_ID.xlsx`) does so as well.

    Args:
        layout: `"qata"`, `"mosmed"` or `"monuseg"`.
        root: the unpacked download; [`reclmis.data.unpack`] unpacks it.
        splits: by default all that are there.
        notes: a table or a folder of tables.
        missing_notes: for images that no table names: a sentence for all of them, or `"from_masks"` to write what each
            mask shows (chest images only). By default they are an error.
        orientation: whose left such notes mean, see [`reclmis.notes.note_from_mask`].
        on_error, verify, streaming: as of [`load_lvit`].
        cache_dir: where masks drawn from outlines are kept, in place of HF datasets' own.

    Raises:
        DataError: everything wrong with the data.
        FileNotFoundError: the folders of the layout are not there.
    """
    inventory = scan_original(
        layout, root, splits, notes=notes, missing_notes=missing_notes, orientation=orientation, verify=verify
    )
    return inventory.load(on_error, streaming=streaming, cache_dir=cache_dir)


def scan_original(
    layout: str,
    root: str | Path,
    splits: Iterable[str] | None = None,
    *,
    notes: str | Path | None = None,
    missing_notes: str | None = None,
    orientation: Orientation = "image",
    verify: bool = True,
) -> Inventory:
    """What [`load_original`] loads, with a line for everything wrong instead of an error."""
    root = Path(root)
    pools = LAYOUTS[layout](root)
    if not pools:
        raise FileNotFoundError(f"{root} does not hold {(LAYOUTS[layout].__doc__ or '').split('(')[0].rstrip('. ')}.")
    tables = _Tables.read(Path(notes) if notes is not None else root)
    inventory = Inventory({}, list(tables.problems))
    for pool in pools:
        masks = _masks(pool)
        for split, images in _dealt(pool, tables).items():
            own = {canonical(path.name) for path in images}
            taken = [path for path in masks if canonical(path.name) in own]
            masks = [path for path in masks if canonical(path.name) not in own]
            pairs, problems = _scan(split, images, taken, tables, missing_notes, orientation, verify)
            inventory.splits.setdefault(split, []).extend(pairs)
            inventory.problems += problems
        inventory.problems += [
            f"{pool.split}: mask {path.name} has no image; add it, or remove what is left over." for path in masks
        ]
    inventory.problems += tables.left_over({canonical(path.name) for pool in pools for path in _images(pool)})
    return _chosen(inventory, splits, root).keep_apart()


@dataclass(frozen=True)
class _Tables:
    """The notes of all tables by [`canonical`] name, and the split that each name is put into."""

    notes: dict[str, list[tuple[str, str]]]
    splits: dict[str, str]
    problems: list[str]

    @classmethod
    def read(cls, place: Path) -> "_Tables":
        files = [place] if place.is_file() else sorted(
            path for path in _within(place) if path.suffix.lower() in TABLE_SUFFIXES and path.name[0] not in "~."
        )  # fmt: skip
        found = cls({}, {}, [])
        for path in files:
            found._add(path)
        return found

    def _add(self, path: Path) -> None:
        try:
            rows, problems = scan_note_table(path)
        except (OSError, ValueError) as error:
            rows, problems = [], []
            names = _names_alone(path)
            if not names:
                self.problems.append(str(error))
        else:
            names = [name for name, _ in rows]
        self.problems.extend(problems)
        for name, note in rows:
            self.notes.setdefault(canonical(name), []).append((name, note))
        # One table for training and validation says neither of an image.
        split = split_of(path.name) if "train_val" not in path.stem.lower() else None
        if split in ("validation", "test"):
            self.splits.update((canonical(name), split) for name in names)

    def left_over(self, names: set[str]) -> list[str]:
        unknown = sorted(set(self.notes) - names)
        return [f"the note of {name!r} has no image; add it, or remove the row." for name in unknown]


def _names_alone(path: Path) -> list[str]:
    """Names of a table that has no notes, such as `Val_ID.xlsx`."""
    try:
        return [row["image"] for row in iterate_records(path, {"image": IMAGE_COLUMNS}) if isinstance(row, dict)]
    except (OSError, ValueError):
        return []


def _dealt(pool: Pool, tables: _Tables) -> dict[str, list[Path]]:
    """The images of a pool by split."""
    found: dict[str, list[Path]] = {}
    for path in _images(pool):
        split = tables.splits.get(canonical(path.name), pool.split)
        found.setdefault(split, []).append(path)
    return found


def _scan(
    split: str,
    images: list[Path],
    masks: list[Path],
    tables: _Tables,
    missing_notes: str | None,
    orientation: Orientation,
    verify: bool,
) -> tuple[list[Pair], list[str]]:
    names = {canonical(path.name) for path in images}
    rows = [row for name in sorted(names) for row in tables.notes.get(name, [])]
    without = [path for path in images if canonical(path.name) not in tables.notes] if missing_notes else []
    # Written below, when the mask is known to be one.
    rows += [(path.name, missing_notes or "") for path in without]
    pairs, problems = pair_split(split, images, masks, rows, verify=verify)
    if missing_notes == FROM_MASKS:
        pairs, wrong = _with_written_notes(split, pairs, {path.stem for path in without}, orientation)
        problems += wrong
    return pairs, problems


def _with_written_notes(
    split: str, pairs: list[Pair], without: set[str], orientation: Orientation
) -> tuple[list[Pair], list[str]]:
    written, problems = [], []
    for pair in pairs:
        try:
            written.append(replace(pair, note=_written(pair, orientation)) if pair.id in without else pair)
        except ValueError as error:
            problems.append(f"{split}: no note can be written for {pair.image.name}: {error}")
    return written, problems


def _written(pair: Pair, orientation: Orientation) -> str:
    _, mask = read_pair(pair, MaskFormat())
    return note_from_mask(np.asarray(mask), orientation=orientation)


def _images(pool: Pool) -> list[Path]:
    files = list_images(pool.images)
    return [path for path in files if _is_image(path)] if pool.images == pool.masks else files


def _masks(pool: Pool) -> list[Path]:
    files = list_images(pool.masks)
    return [path for path in files if not _is_image(path)] if pool.images == pool.masks else files


def _is_image(path: Path) -> bool:
    """What tells images from annotations that share their folder."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def _chosen(inventory: Inventory, splits: Iterable[str] | None, root: Path) -> Inventory:
    order = [split for split in ("train", "validation", "test") if split in inventory.splits]
    wanted = order if splits is None else split_names(splits)
    missing = [split for split in wanted if split not in inventory.splits]
    if missing or not wanted:
        raise DataError([
            f"{root} has no split {missing[0] if missing else wanted!r}; it has {', '.join(order)}. Validation images are "
            "those that a table named *val* lists."
        ])  # fmt: skip
    inventory.splits = {split: sorted(inventory.splits[split], key=lambda pair: pair.id) for split in wanted}
    return inventory


def _side_by_side(root: Path, images: str, masks: str) -> Iterator[tuple[Path, Path]]:
    """Folders with two subfolders of these names, in any case."""
    for folder in _folders(root):
        inside = {path.name.lower(): path for path in folder.iterdir() if path.is_dir()}
        if images.lower() in inside and masks.lower() in inside:
            yield inside[images.lower()], inside[masks.lower()]


def _folders(root: Path) -> list[Path]:
    """The folder and those within, as deep as archives nest them."""
    if not root.is_dir():
        return []
    found, level = [root], [root]
    for _ in range(_DEEPEST):
        level = sorted(path for folder in level for path in folder.iterdir() if path.is_dir())
        found += level
    return found


def _within(root: Path) -> list[Path]:
    """Tables lie beside the data; images are many, so their folders are not searched."""
    images = {"images", "ground-truths", "frames", "masks", "tissue images", "annotations"}
    folders = [folder for folder in _folders(root) if folder.name.lower() not in images]
    return [path for folder in folders for path in folder.iterdir() if path.is_file()]
