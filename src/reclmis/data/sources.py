"""Datasets by name, folder or Hub id. Every source gives the features `image`, `mask`, `note` and `id`."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..registry import data_sources, register_data_source
from .image_note_mask import is_image_note_mask, load_image_note_mask, scan_image_note_mask
from .inventory import COLUMNS, Inventory, chosen_splits
from .lvit import is_lvit, load_lvit, scan_lvit
from .originals import LAYOUTS, load_original, scan_original
from .tables import TABLE_SUFFIXES

if TYPE_CHECKING:
    from datasets import DatasetDict, IterableDatasetDict


def load_dataset_by_name(name_or_path: str | Path, **options: Any) -> "DatasetDict | IterableDatasetDict":
    """A dataset by the name of a registered source (`"synthetic"`), as `source:argument`, or from a folder or table.

    A folder is recognised by what it holds: LViT's layout, an original download of QaTa-COV19, MosMedData+ or MoNuSeg,
    `metadata.csv` or folders of images and masks, Parquet files, or what `save_to_disk` wrote. `hub:org/name` is a dataset
    of the Hub. A name comes before a folder of that name; write `./synthetic` for the folder.

    Args:
        name_or_path: the dataset.
        **options: of the source, see [`load_lvit`], [`load_image_note_mask`], [`load_original`], [`load_hub`] and
            [`synthetic_dataset`].

    Raises:
        ValueError: neither a registered source nor a folder or table that is recognised.
        DataError: everything wrong with the data.
    """
    name = str(name_or_path)
    if name in data_sources:
        argument = name.partition(":")[2]
        return data_sources.get(name)(*([argument] if argument else []), **options)
    path = Path(name)
    kind = _kind(path)
    return load_original(kind, path, **options) if kind in LAYOUTS else _LOADERS[kind](path, **options)


def scan_by_name(name_or_path: str | Path, splits: Iterable[str] | None = None, **options: Any) -> Inventory:
    """The files of a folder or table, as [`load_dataset_by_name`] recognises it, with a line for everything wrong.

    Raises:
        ValueError: not a source of files.
    """
    kind, path = _file_source(name_or_path)
    if kind in LAYOUTS:
        return scan_original(kind, path, splits, **options)
    if kind not in _SCANNERS:
        raise ValueError(f"{path} holds no files of images and masks ({kind}). Give the folder that it was made from.")
    return _SCANNERS[kind](path, splits, **options)


def is_original(name_or_path: str | Path) -> bool:
    """Whether this is an original download, which takes tables of notes from elsewhere."""
    return _file_source(name_or_path)[0] in LAYOUTS


def _file_source(name_or_path: str | Path) -> tuple[str, Path]:
    """The kind of a source of files, and where they are."""
    source, _, argument = str(name_or_path).partition(":")
    if argument and source in data_sources:
        return source, Path(argument)
    return _kind(Path(name_or_path)), Path(name_or_path)


@register_data_source("hub")
def load_hub(name: str, splits: Iterable[str] | None = None, *, streaming: bool = False, **options: Any):
    """A dataset of the Hub, `org/name`, with the columns `image`, `mask`, `note` and `id`.

    Args:
        splits: by default all that are there.
        streaming: fetch samples as they are asked for.
        **options: of `datasets.load_dataset`, such as `revision` or `token`.

    Raises:
        ValueError: columns or splits that are not there.
    """
    from datasets import load_dataset

    return _checked(load_dataset(name, streaming=streaming, **options), splits, name)


def load_parquet(folder: str | Path, splits: Iterable[str] | None = None, *, streaming: bool = False, **options: Any):
    """Parquet files in a folder, or one file, as [`write_parquet`] writes them: `train-*.parquet`, `validation-*.parquet`,
    ..., also within a folder `data`. For the arguments see [`load_hub`].
    """
    from datasets import load_dataset

    path = Path(folder)
    if path.is_file():
        options = {"data_files": str(path), **options}
        return _checked(load_dataset("parquet", streaming=streaming, **options), splits, str(path))
    return _checked(load_dataset(str(path), streaming=streaming, **options), splits, str(path))


def load_saved(folder: str | Path, splits: Iterable[str] | None = None, *, streaming: bool = False):
    """What a `DatasetDict` wrote with `save_to_disk`. For the arguments see [`load_hub`]."""
    from datasets import IterableDatasetDict, load_from_disk

    found = load_from_disk(str(folder))
    if streaming:
        found = IterableDatasetDict({split: rows.to_iterable_dataset() for split, rows in found.items()})
    return _checked(found, splits, str(folder))


_SCANNERS: dict[str, Callable[..., Inventory]] = {"lvit": scan_lvit, "image-note-mask": scan_image_note_mask}
_LOADERS: dict[str, Callable[..., Any]] = {
    "lvit": load_lvit,
    "image-note-mask": load_image_note_mask,
    "saved": load_saved,
    "parquet": load_parquet,
}


def _checked(found: Any, splits: Iterable[str] | None, name: str):
    wanted = chosen_splits(found, splits, name)
    for split, rows in wanted.items():
        columns = rows.column_names
        lacking = [column for column in COLUMNS if columns is not None and column not in columns]
        if lacking:
            raise ValueError(
                f"{name}, {split}: columns {columns}, but no {', '.join(lacking)}. Rename them with `rename_column`."
            )
    return type(found)(wanted)


def _kind(path: Path) -> str:
    if path.is_file() and path.suffix.lower() in TABLE_SUFFIXES:
        return "image-note-mask"
    if path.is_file() and path.suffix.lower() == ".parquet":
        return "parquet"
    if path.is_file() and path.suffix.lower() in (".zip", ".tar", ".gz", ".tgz"):
        raise ValueError(f"{path} is an archive; unpack it first with `reclmis data unpack {path.name} FOLDER`.")
    if path.is_dir():
        if is_lvit(path):
            return "lvit"
        if (path / "dataset_dict.json").is_file():
            return "saved"
        if any(path.glob("*.parquet")) or any((path / "data").glob("*.parquet")):
            return "parquet"
        for layout, find in LAYOUTS.items():
            if find(path):
                return layout
        if is_image_note_mask(path):
            return "image-note-mask"
        raise ValueError(
            f"{path} has no layout that is known: Train_Folder/ (LViT), an original download of {', '.join(LAYOUTS)}, "
            "metadata.csv, or images/ beside masks/. List the files in a table with the columns image, mask and note."
        )
    raise ValueError(
        f"No dataset {str(path)!r}: not a folder or table, and not a registered source ({', '.join(data_sources)}). Check "
        "the path, or register the source with `reclmis.registry.register_data_source`."
    )


@register_data_source("synthetic")
def _load_synthetic(**options: Any) -> "DatasetDict":
    from .synthetic import synthetic_dataset

    return synthetic_dataset(**options)
