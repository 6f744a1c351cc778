"""Data in the layout of LViT's users."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..registry import register_data_source
from .inventory import Inventory, OnError, split_names
from .masks import Colour, MaskFormat
from .pairing import Pair, canonical, list_images, pair_split
from .tables import TABLE_SUFFIXES, scan_note_table

if TYPE_CHECKING:
    from datasets import DatasetDict, IterableDatasetDict

LVIT_SPLITS = {"train": "Train_Folder", "validation": "Val_Folder", "test": "Test_Folder"}
SHARED_TABLE = "Train_Val_text"
SHARED_SPLITS = ("train", "validation")


@register_data_source("lvit")
def load_lvit(
    root: str | Path,
    splits: Iterable[str] | None = None,
    *,
    num_labels: int = 1,
    colours: tuple[Colour, ...] | None = None,
    instances: bool = False,
    on_error: OnError = "raise",
    verify: bool = True,
    streaming: bool = False,
) -> "DatasetDict | IterableDatasetDict":
    """QaTa-COV19, MosMedData+, MoNuSeg, or any data in the layout of LViT's users.

        root/{Train,Val,Test}_Folder/img/          images
        root/{Train,Val,Test}_Folder/labelcol/     masks, named like their image, with or without `mask_`
        root/{Train,Val,Test}_Folder/*_text.xlsx   notes; or .csv, .tsv, .jsonl; or one `Train_Val_text.xlsx` for both, in
                                                   the root or in a folder

    Extensions of image, mask and table row may differ. Notes stay as they are. Samples are sorted by id, whatever the
    order of the directory.

    Args:
        root: the folder.
        splits: out of `train`, `validation` and `test`; by default all that are there.
        num_labels, colours, instances: how masks are read, see [`MaskFormat`].
        on_error: `"raise"` everything wrong in one error, or `"skip"` the samples concerned with one warning.
        verify: decode every file now, so that no bad one is met hours later.
        streaming: iterable datasets.

    Returns:
        Splits with `image`, `mask` ([`read_mask`] turns it into class indices), `note` and `id`.

    Raises:
        DataError: everything wrong with the data. A split without any usable sample is an error even when skipping.
        FileNotFoundError: the folder has no split at all.
    """
    mask_format = MaskFormat(num_labels, colours, instances)
    return scan_lvit(root, splits, mask_format=mask_format, verify=verify).load(on_error, streaming=streaming)


def scan_lvit(
    root: str | Path,
    splits: Iterable[str] | None = None,
    *,
    mask_format: MaskFormat | None = None,
    verify: bool = True,
) -> Inventory:
    """What [`load_lvit`] loads, with a line for everything wrong instead of an error."""
    root, mask_format = Path(root), mask_format or MaskFormat()
    inventory = Inventory({}, [], mask_format)
    for split in _wanted_splits(root, splits):
        inventory.splits[split], wrong = _scan_split(root, split, mask_format, verify)
        inventory.problems += wrong
    return inventory.keep_apart()


def is_lvit(root: Path) -> bool:
    """Whether a folder has one of the layout's splits."""
    return any((root / folder).is_dir() for folder in LVIT_SPLITS.values())


def _wanted_splits(root: Path, splits: Iterable[str] | None) -> list[str]:
    present = [split for split, folder in LVIT_SPLITS.items() if (root / folder).is_dir()]
    if not present:
        folders = ", ".join(LVIT_SPLITS.values())
        raise FileNotFoundError(f"{root} has none of {folders}; is it the dataset's top folder?")
    if splits is None:
        return present
    wanted = split_names(splits)
    unknown = [split for split in wanted if split not in LVIT_SPLITS]
    if unknown or not wanted:
        raise ValueError(f"No split {unknown[0] if unknown else wanted!r}; there are {', '.join(LVIT_SPLITS)}.")
    return wanted


def _scan_split(root: Path, split: str, mask_format: MaskFormat, verify: bool) -> tuple[list[Pair], list[str]]:
    folder = root / LVIT_SPLITS[split]
    missing = [name for name in ("img", "labelcol") if not (folder / name).is_dir()]
    if missing:
        return [], [f"{split}: {folder} has no folder {' and no folder '.join(missing)}; add it."]
    try:
        table, others = _find_table(root, folder, split)
        notes, problems = scan_note_table(table)
    except (OSError, ValueError) as error:
        # Without notes, one line says it all; without this, every image would be reported.
        return [], [f"{split}: {error}"]
    problems = [f"{split}: {problem}" for problem in problems]
    pairs, wrong = pair_split(
        split,
        list_images(folder / "img"),
        list_images(folder / "labelcol"),
        notes,
        mask_format=mask_format,
        verify=verify,
        notes_elsewhere=_names_in(root, others),
    )
    return pairs, problems + wrong


def _find_table(root: Path, folder: Path, split: str) -> tuple[Path, list[str]]:
    """The split's table of notes, and the other splits that it serves.

    Raises:
        FileNotFoundError, ValueError: none, or several.
    """
    own = _tables_in(folder, lambda stem: stem.endswith("_text") and stem != SHARED_TABLE)
    if own:
        return _only(own), []
    if split in SHARED_SPLITS:
        places = dict.fromkeys([folder, root, *(root / LVIT_SPLITS[other] for other in SHARED_SPLITS)])
        for place in places:
            shared = _tables_in(place, lambda stem: stem == SHARED_TABLE)
            if shared:
                return _only(shared), [other for other in SHARED_SPLITS if other != split]
    raise FileNotFoundError(
        f"{folder} has no table of notes; add one named *_text with the extension {', '.join(TABLE_SUFFIXES)}"
        + (f", or {SHARED_TABLE}.xlsx for training and validation." if split in SHARED_SPLITS else ".")
    )


def _tables_in(folder: Path, fits) -> list[Path]:
    if not folder.is_dir():
        return []
    # "~$" and "." begin the lock files of office programs.
    files = (path for path in folder.iterdir() if path.suffix.lower() in TABLE_SUFFIXES and path.name[0] not in "~.")
    return sorted(path for path in files if fits(path.stem))


def _only(tables: list[Path]) -> Path:
    if len(tables) > 1:
        raise ValueError(f"several tables of notes ({', '.join(str(path) for path in tables)}); keep one.")
    return tables[0]


def _names_in(root: Path, splits: list[str]) -> set[str]:
    folders = [root / LVIT_SPLITS[split] / "img" for split in splits]
    return {canonical(path.name) for folder in folders if folder.is_dir() for path in list_images(folder)}
