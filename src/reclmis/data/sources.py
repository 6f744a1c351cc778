"""Datasets by name or folder. Every source gives the features `image`, `mask`, `note` and `id`."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..registry import data_sources, register_data_source
from .pairing import Pair, canonical, list_images, pair_split, settle
from .tables import TABLE_SUFFIXES, scan_note_table

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

LVIT_SPLITS = {"train": "Train_Folder", "validation": "Val_Folder", "test": "Test_Folder"}
SHARED_TABLE = "Train_Val_text"
SHARED_SPLITS = ("train", "validation")


def load_dataset_by_name(name_or_path: str | Path, **options: Any) -> "DatasetDict":
    """A dataset by the name of a registered source (`"synthetic"`), as `source:argument`, or from a folder in LViT's
    layout. A name comes before a folder of that name; write `./synthetic` for the folder.

    Args:
        name_or_path: the dataset.
        **options: of the source, see [`load_lvit`] and [`synthetic_dataset`].

    Raises:
        ValueError: neither a registered source nor a folder.
        DataError: everything wrong with the data.
    """
    name = str(name_or_path)
    if name in data_sources:
        argument = name.partition(":")[2]
        return data_sources.get(name)(*([argument] if argument else []), **options)
    if Path(name).is_dir():
        return load_lvit(name, **options)
    raise ValueError(
        f"No dataset {name!r}: not a folder, and not a registered source ({', '.join(data_sources)}). Check the path, "
        "or register the source with `reclmis.registry.register_data_source`."
    )


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
        root/{Train,Val,Test}_Folder/*_text.xlsx   notes; or .csv, .tsv; or one `Train_Val_text.xlsx` for both, in the
                                                   root or in a folder

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
        DataError: everything wrong with the data. A split without any usable sample is an error even when skipping.
        FileNotFoundError: the folder has no split at all.
    """
    from datasets import DatasetDict

    if on_error not in ("raise", "skip"):
        raise ValueError(f"`on_error` must be 'raise' or 'skip', got {on_error!r}.")
    root = Path(root)
    wanted = _wanted_splits(root, splits)
    problems: list[str] = []
    found = {}
    for split in wanted:
        found[split], wrong = _load_split(root, split, num_labels, verify)
        problems += wrong
    problems += _leave_out_shared(found)
    problems += [f"{split}: no usable sample." for split, pairs in found.items() if not pairs]
    settle(problems, on_error if all(found.values()) else "raise")
    return DatasetDict({split: _to_dataset(pairs) for split, pairs in found.items()})


@register_data_source("synthetic")
def _load_synthetic(**options: Any) -> "DatasetDict":
    from .synthetic import synthetic_dataset

    return synthetic_dataset(**options)


def _wanted_splits(root: Path, splits: Iterable[str] | None) -> list[str]:
    present = [split for split, folder in LVIT_SPLITS.items() if (root / folder).is_dir()]
    if not present:
        folders = ", ".join(LVIT_SPLITS.values())
        raise FileNotFoundError(f"{root} has none of {folders}; is it the dataset's top folder?")
    if splits is None:
        return present
    wanted = [splits] if isinstance(splits, str) else list(dict.fromkeys(splits))
    unknown = [split for split in wanted if split not in LVIT_SPLITS]
    if unknown or not wanted:
        raise ValueError(f"No split {unknown[0] if unknown else wanted!r}; there are {', '.join(LVIT_SPLITS)}.")
    return wanted


def _load_split(root: Path, split: str, num_labels: int, verify: bool) -> tuple[list[Pair], list[str]]:
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
        num_labels=num_labels,
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


def _leave_out_shared(found: dict[str, list[Pair]]) -> list[str]:
    """Takes samples out of every split but the first that has their id, and says so."""
    problems: list[str] = []
    first: dict[str, str] = {}
    for split, pairs in found.items():
        for pair in pairs:
            if pair.id in first:
                problems.append(f"{split}: {pair.image.name} is also in {first[pair.id]}; keep it in one split.")
        found[split] = [pair for pair in pairs if pair.id not in first]
        first |= {pair.id: split for pair in found[split]}
    return problems


def _to_dataset(pairs: list[Pair]) -> "Dataset":
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
