"""Datasets by name or folder. Every source gives the features `image`, `mask`, `note` and `id`."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..registry import data_sources, register_data_source
from .pairing import DataError, Pair, list_images, pair_split, settle
from .tables import TABLE_SUFFIXES, read_note_table

if TYPE_CHECKING:
    from datasets import DatasetDict

LVIT_SPLITS = {"train": "Train_Folder", "validation": "Val_Folder", "test": "Test_Folder"}
SHARED_TABLE = "Train_Val_text"


def load_dataset_by_name(name_or_path: str | Path, **options: Any) -> "DatasetDict":
    """A dataset by the name of a registered source (`"synthetic"`), as `source:argument`, or from a folder in LViT's layout.

    Raises:
        ValueError: neither a registered source nor a folder.
        DataError: everything wrong with the data.
    """
    name = str(name_or_path)
    if Path(name).is_dir():
        return load_lvit(name, **options)
    if name in data_sources:
        argument = name.partition(":")[2]
        return data_sources.get(name)(*([argument] if argument else []), **options)
    raise ValueError(f"No dataset {name!r}: not a folder, and not a registered source ({', '.join(data_sources)}).")


@register_data_source("lvit")
def load_lvit(
    root: str | Path,
    splits: Iterable[str] | None = None,
    *,
    num_labels: int = 1,
    on_error: Literal["raise", "skip"] = "raise",
    verify: bool = True,
) -> "DatasetDict":
    """QaTa-COV19, MosMedData+, MoNuSeg, or any data in the layout of LViT's users.

        root/{Train,Val,Test}_Folder/img/          images
        root/{Train,Val,Test}_Folder/labelcol/     masks, named like their image, with or without `mask_`
        root/{Train,Val,Test}_Folder/*_text.xlsx   notes; or .csv, .tsv; or one `Train_Val_text.xlsx` for both

    Extensions of image, mask and table row may differ. Notes stay as they are. Samples are sorted by id, whatever the
    order of the directory.

    Args:
        root: the folder.
        splits: out of `train`, `validation` and `test`; by default all that are there.
        num_labels: classes that masks may hold, 1 for binary.
        on_error: `"raise"` everything wrong in one error, or `"skip"` the samples concerned with one warning.
        verify: decode every file now, so that no bad one is met hours later.

    Returns:
        Splits with `image`, `mask` (as files; [`read_mask`] turns them into class indices), `note` and `id`.

    Raises:
        DataError: everything wrong with the data.
        FileNotFoundError: no split folder at all, or one that was asked for is missing.
    """
    from datasets import DatasetDict

    if on_error not in ("raise", "skip"):
        raise ValueError(f"`on_error` must be 'raise' or 'skip', got {on_error!r}.")
    root = Path(root)
    wanted = _present_splits(root) if splits is None else list(splits)
    unknown = [split for split in wanted if split not in LVIT_SPLITS]
    if unknown:
        raise ValueError(f"No split {unknown[0]!r}; there are {', '.join(LVIT_SPLITS)}.")
    problems: list[str] = []
    found = {}
    for split in wanted:
        pairs, wrong = _load_split(root, split, num_labels, verify)
        problems += wrong
        found[split] = pairs
    problems += _shared_ids(found)
    settle(problems, on_error)
    empty = [split for split, pairs in found.items() if not pairs]
    if empty:
        raise DataError([f"{split}: no usable sample." for split in empty])
    return DatasetDict({split: _to_dataset(pairs) for split, pairs in found.items()})


@register_data_source("synthetic")
def _load_synthetic(**options: Any) -> "DatasetDict":
    from .synthetic import synthetic_dataset

    return synthetic_dataset(**options)


def _present_splits(root: Path) -> list[str]:
    present = [split for split, folder in LVIT_SPLITS.items() if (root / folder).is_dir()]
    if not present:
        raise FileNotFoundError(f"{root} has none of {', '.join(LVIT_SPLITS.values())}; is it the dataset's top folder?")
    return present


def _load_split(root: Path, split: str, num_labels: int, verify: bool) -> tuple[list[Pair], list[str]]:
    folder = root / LVIT_SPLITS[split]
    missing = [name for name in ("img", "labelcol") if not (folder / name).is_dir()]
    if missing:
        raise FileNotFoundError(f"{folder} has no folder {' and no folder '.join(missing)}.")
    table, shared = _find_table(root, folder, split)
    try:
        notes = read_note_table(table)
    except ValueError as error:
        return [], [f"{split}: {error}"]
    return pair_split(
        split,
        list_images(folder / "img"),
        list_images(folder / "labelcol"),
        notes,
        num_labels=num_labels,
        verify=verify,
        exclusive_notes=not shared,
    )


def _find_table(root: Path, folder: Path, split: str) -> tuple[Path, bool]:
    """The split's table of notes, and whether it serves several splits."""
    own = sorted(p for p in folder.iterdir() if p.suffix.lower() in TABLE_SUFFIXES and p.stem.endswith("_text"))
    separate = [path for path in own if path.stem != SHARED_TABLE]
    if len(separate) > 1:
        raise DataError([f"{split}: several tables of notes ({', '.join(p.name for p in separate)}); keep one."])
    if separate:
        return separate[0], False
    for place in (folder, root, root / LVIT_SPLITS["train"], root / LVIT_SPLITS["validation"]):
        for suffix in TABLE_SUFFIXES:
            path = place / f"{SHARED_TABLE}{suffix}"
            if path.is_file() and split != "test":
                return path, True
    raise FileNotFoundError(
        f"{folder} has no table of notes: expected *_text{' or *_text'.join(TABLE_SUFFIXES)}, or {SHARED_TABLE}.xlsx."
    )


def _shared_ids(found: dict[str, list[Pair]]) -> list[str]:
    problems, seen = [], {}
    for split, pairs in found.items():
        for pair in pairs:
            if pair.id in seen:
                problems.append(f"{split}: {pair.image.name} is also in {seen[pair.id]}; an image belongs to one split.")
            seen.setdefault(pair.id, split)
    return problems


def _to_dataset(pairs: list[Pair]):
    from datasets import Dataset, Features, Image, Value

    return Dataset.from_dict(
        {
            "image": [str(pair.image) for pair in pairs],
            "mask": [str(pair.mask) for pair in pairs],
            "note": [pair.note for pair in pairs],
            "id": [pair.id for pair in pairs],
        },
        features=Features({"image": Image(), "mask": Image(), "note": Value("string"), "id": Value("string")}),
    )
