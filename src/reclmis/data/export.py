"""HF datasets with their files inside, to be saved, pushed or carried to another computer."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import replacing

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


def embed_files(dataset: "Dataset | DatasetDict") -> "Dataset | DatasetDict":
    """The dataset with the bytes of its images and masks in place of paths.

    `save_to_disk` and `to_parquet` write paths as they are, so that what they wrote is lost with the files; `push_to_hub`
    embeds by itself.

    Raises:
        FileNotFoundError: a file that is no longer there.
    """
    from datasets import DatasetDict, Image

    if isinstance(dataset, DatasetDict):
        return DatasetDict({split: embed_files(rows) for split, rows in dataset.items()})
    names = [name for name, feature in dataset.features.items() if isinstance(feature, Image)]
    features, raw = dataset.features, dataset
    for name in names:
        raw = raw.cast_column(name, Image(decode=False))
    return raw.map(_with_bytes, fn_kwargs={"names": names}, desc="embed").cast(features)


def write_parquet(dataset: "DatasetDict", folder: str | Path, rows_per_file: int = 5000) -> list[Path]:
    """Writes every split as `<split>-00000-of-00003.parquet`, files inside; [`load_dataset_by_name`] reads the folder.

    Args:
        dataset: the splits.
        folder: it must not hold Parquet files already.
        rows_per_file: so many samples at most.

    Raises:
        FileExistsError: the folder holds Parquet files.
    """
    folder = Path(folder)
    if folder.is_dir() and any(folder.glob("*.parquet")):
        raise FileExistsError(
            f"{folder} holds Parquet files already; give another folder, so that no old split mixes in."
        )
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for split, rows in dataset.items():
        count = max(-(-len(rows) // rows_per_file), 1)
        for number in range(count):
            path = folder / f"{split}-{number:05d}-of-{count:05d}.parquet"
            part = embed_files(rows.shard(count, number, contiguous=True))
            with replacing(path) as temporary:
                part.to_parquet(str(temporary))
            written.append(path)
    return written


def _with_bytes(row: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {name: _embedded(row[name]) for name in names}


def _embedded(value: dict[str, Any]) -> dict[str, Any]:
    if value["bytes"] is not None:
        return value
    return {"bytes": Path(value["path"]).read_bytes(), "path": Path(value["path"]).name}
