"""What a source found on disk, before anything is decoded for good; and its way into HF datasets."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL.Image import Image

from ..medical.detection import DICOM_SUFFIX
from .annotations import ANNOTATION_SUFFIX
from .masks import MaskFormat
from .pairing import Pair, read_pair, settle

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict, Features, IterableDataset, IterableDatasetDict

OnError = Literal["raise", "skip"]

# What every dataset has.
COLUMNS = ("image", "mask", "note", "id")


@dataclass
class Inventory:
    """The samples of each split, and a line for everything that is wrong with the files.

    Attributes:
        splits: samples by split, sorted by id.
        problems: each names its split, file and mend. Samples concerned are not in `splits`.
        mask_format: how the masks are to be read.
    """

    splits: dict[str, list[Pair]]
    problems: list[str] = field(default_factory=list)
    mask_format: MaskFormat = field(default_factory=MaskFormat)

    def keep_apart(self) -> "Inventory":
        """Takes samples out of every split but the first that has their id, with a line for each."""
        first: dict[str, str] = {}
        for split, pairs in self.splits.items():
            self.problems += [
                f"{split}: {pair.image.name} is also in {first[pair.id]}; keep it in one split."
                for pair in pairs if pair.id in first
            ]  # fmt: skip
            self.splits[split] = [pair for pair in pairs if pair.id not in first]
            first |= {pair.id: split for pair in self.splits[split]}
        return self

    def load(
        self, on_error: OnError = "raise", *, streaming: bool = False, cache_dir: str | Path | None = None
    ) -> "DatasetDict | IterableDatasetDict":
        """The samples as HF datasets with `image`, `mask`, `note` and `id`, and `patient` where the source names it.

        `mask` is such that [`reclmis.data.read_mask`] reads it with nothing but the number of classes. Files that are so
        already stay where they are; others (outlines, painted or numbered masks, DICOM, slices) are written as PNG into HF
        datasets' cache, or converted as they are met when streaming.

        Args:
            on_error: `"raise"` everything wrong in one error, or `"skip"` the samples concerned with one warning.
            streaming: iterable datasets, which convert and read a sample only when it is asked for.
            cache_dir: in place of HF datasets' own.

        Raises:
            DataError: everything wrong. A split without any usable sample is an error even when skipping.
        """
        from datasets import DatasetDict, IterableDatasetDict

        if on_error not in ("raise", "skip"):
            raise ValueError(f"`on_error` must be 'raise' or 'skip', got {on_error!r}.")
        empty = [f"{split}: no usable sample." for split, pairs in self.splits.items() if not pairs]
        settle([*self.problems, *empty], "raise" if empty else on_error, stacklevel=4)
        if streaming:
            return IterableDatasetDict({split: self._stream(pairs) for split, pairs in self.splits.items()})
        return DatasetDict({split: self._dataset(pairs, cache_dir) for split, pairs in self.splits.items()})

    def _dataset(self, pairs: list[Pair], cache_dir: str | Path | None) -> "Dataset":
        from datasets import Dataset

        features = features_of(columns_of(pairs))
        if not any(_needs_conversion(pair, self.mask_format) for pair in pairs):
            return Dataset.from_list(list(_rows(pairs, self.mask_format, tuple(features))), features=features)
        # The stamps make a changed file another dataset; paths alone would bring yesterday's pixels out of the cache.
        stamps = tuple(
            (path.stat().st_size, path.stat().st_mtime_ns) for pair in pairs for path in (pair.image, pair.mask)
        )
        arguments = {"pairs": pairs, "mask_format": self.mask_format, "names": tuple(features), "stamps": stamps}
        options = {} if cache_dir is None else {"cache_dir": str(cache_dir)}
        return Dataset.from_generator(_rows, features=features, gen_kwargs=arguments, **options)

    def _stream(self, pairs: list[Pair]) -> "IterableDataset":
        from datasets import IterableDataset

        # A list is what HF datasets shares out among workers and processes.
        features = features_of(columns_of(pairs))
        arguments = {"pairs": pairs, "mask_format": self.mask_format, "names": tuple(features)}
        return IterableDataset.from_generator(_rows, features=features, gen_kwargs=arguments)


def features_of(names: tuple[str, ...]) -> "Features":
    """The HF features of these columns: images and masks as files, everything else as text."""
    from datasets import Features, Value
    from datasets import Image as ImageFeature

    return Features({name: ImageFeature() if name in ("image", "mask") else Value("string") for name in names})


def row_of(pair: Pair, mask_format: MaskFormat, names: tuple[str, ...]) -> dict[str, Any]:
    """A sample as a row of a HF dataset, its files converted where that is needed."""
    row = {**files_of(pair, mask_format), "note": pair.note, "id": pair.id, "patient": pair.patient}
    return {name: row[name] for name in names}


def columns_of(pairs: Iterable[Pair]) -> tuple[str, ...]:
    """`COLUMNS`, and `patient` where one is named."""
    return (*COLUMNS, "patient") if any(pair.patient for pair in pairs) else COLUMNS


def chosen_splits(found: Mapping[str, Any], splits: Iterable[str] | None, source: str | Path) -> dict[str, Any]:
    """What belongs to the splits asked for, in that order; by default all.

    Raises:
        ValueError: one that is not there, or none.
    """
    wanted = list(found) if splits is None else split_names(splits)
    missing = [split for split in wanted if split not in found]
    if missing or not wanted:
        raise ValueError(f"{source} has no split {missing[0] if missing else wanted!r}; it has {', '.join(found)}.")
    return {split: found[split] for split in wanted}


def split_names(splits: Iterable[str]) -> list[str]:
    """One name, or several, each once."""
    return [splits] if isinstance(splits, str) else list(dict.fromkeys(splits))


def _needs_conversion(pair: Pair, mask_format: MaskFormat) -> bool:
    return (
        not mask_format.is_plain or _is_foreign(pair) or pair.mask.suffix.lower() in (ANNOTATION_SUFFIX, DICOM_SUFFIX)
    )


def _is_foreign(pair: Pair) -> bool:
    """Whether the image is in a format that HF datasets does not decode."""
    return pair.slice is not None or pair.image.suffix.lower() == DICOM_SUFFIX


def _rows(
    pairs: list[Pair], mask_format: MaskFormat, names: tuple[str, ...], stamps: Any = None
) -> Iterator[dict[str, Any]]:
    for pair in pairs:
        yield row_of(pair, mask_format, names)


def files_of(pair: Pair, mask_format: MaskFormat, decoded: tuple[Image, np.ndarray] | None = None) -> dict[str, Any]:
    """Image and mask in the form of HF datasets: as paths, or converted.

    Args:
        decoded: what [`read_pair`] gave, where that has been asked already.
    """
    if not _needs_conversion(pair, mask_format):
        return {"image": str(pair.image), "mask": str(pair.mask)}
    image, mask = read_pair(pair, mask_format) if decoded is None else decoded
    return {
        "image": as_png(np.asarray(image)) if _is_foreign(pair) else str(pair.image),
        "mask": as_png(mask if mask_format.num_labels > 1 else mask * 255),
    }


def as_png(pixels: Any) -> dict[str, Any]:
    """Pixels uint8 `[H, W]` or `[H, W, 3]` as a file in memory, in the form of HF datasets."""
    from io import BytesIO

    from PIL.Image import fromarray

    file = BytesIO()
    fromarray(pixels).save(file, format="PNG")
    return {"bytes": file.getvalue(), "path": None}
