"""From a HF dataset to batches of tensors."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset

from ..images import open_image, to_rgb8
from ..notes import Orientation, contradicting_note
from ..notes.contradiction import DENIALS, NotePool
from ..tiling import Box, check_tiling, tiles_of
from .augment import Augmentation, Sample, sample_generator
from .inventory import COLUMNS
from .masks import read_mask

ABSENT = "absent_note"


class SampleError(ValueError):
    """A sample cannot be read, or does not fit together. The message begins with its id."""


class _Samples:
    """What a dataset and a stream have in common: how a row becomes a sample.

    Args:
        dataset: of HF datasets, with `image`, `mask`, `note` and `id`.
    """

    # Notes of other images that may be false of one; a stream does not know them.
    _pool: NotePool | None = None

    def __init__(
        self,
        dataset: Any,
        augmentation: Augmentation | None,
        num_labels: int,
        size: tuple[int, int] | None,
        seed: int,
        note: str | None,
        absent_share: float,
    ) -> None:
        if not 0 <= absent_share <= 1:
            raise ValueError(f"`absent_share` is a share of the samples, between 0 and 1, got {absent_share}.")
        self.absent_share = absent_share
        self.dataset = _undecoded(dataset, with_absent=absent_share > 0)
        self.augmentation = augmentation
        self.num_labels = num_labels
        self.size = size
        self.seed = seed
        self.note = note
        # Shared memory: workers that outlive an epoch must see the next one.
        self._epoch = torch.zeros((), dtype=torch.long).share_memory_()

    def _decode(self, row: dict[str, Any], box: Box | None = None) -> Sample:
        sample = decode_sample(row, self.num_labels, self.size, box)
        if self.absent_share and row.get(ABSENT):
            sample[ABSENT] = row[ABSENT]
        return sample if self.note is None else {**sample, "note": self.note}

    def _augment(self, sample: Sample, epoch: int) -> Sample:
        if self.absent_share:
            sample = self._contradicted(sample, epoch)
        return sample if self.augmentation is None else self.augmentation(sample, seed=self.seed, epoch=epoch)

    def _contradicted(self, sample: Sample, epoch: int) -> Sample:
        """The sample or, by chance, its image under a note of which it shows nothing: a function of (seed, epoch, id)."""
        sample = dict(sample)
        known = sample.pop(ABSENT, None)
        draw = sample_generator(self.seed, epoch, f"absent:{sample['id']}")
        if draw.random() >= self.absent_share:
            return sample
        denies = draw.random() < DENIALS
        note = None if denies else known
        if note is None and not denies and self._pool is not None:
            note = self._pool.false_of(sample["mask"], draw, orientation=self.orientation)
        if note is None:
            note = contradicting_note(
                sample["mask"], draw, orientation=self.orientation, denial=float(denies), like=sample["note"]
            )
        return {**sample, "note": note, "mask": np.zeros_like(sample["mask"])}

    @property
    def orientation(self) -> Orientation:
        """Whose left the notes mean, as the augmentation has it."""
        return "image" if self.augmentation is None else self.augmentation.orientation


class NotedSegmentationDataset(_Samples, Dataset):
    """Samples of a HF dataset with `image`, `mask`, `note` and `id`, decoded, checked and augmented.

    Args:
        dataset: the HF dataset.
        augmentation: policy, or `None`.
        num_labels: classes of the masks.
        size: `(height, width)` to resize to before augmentation (bilinear, masks by nearest neighbour), or `None`.
        seed: of the augmentation.
        cache_bytes: keep decoded samples in memory, at `size`, until they take this much; each is decoded once per process.
            The rest is decoded every time, so that a set of any size fits.
        note: a sentence that replaces every note, for control experiments.
        absent_share: share of the samples that get a note of which the image shows nothing, and an empty mask: the dataset's
            own `absent_note`, or that of another image which names only places where this one shows nothing, or, where
            there is none, one that [`reclmis.notes.contradicting_note`] writes; both take it that the mask shows all of the
            finding. One in four denies the finding altogether.
        tile: side in pixels of overlapping squares that images are cut into, before they are resized: each is a sample then,
            whose id names its place, under the note of the whole image. For large images whose details the model's size
            would lose; [`reclmis.prediction.predict`] asks by tiles too. Outside of the cache, the whole image is read for
            each of its tiles.
        overlap: share of a tile that its neighbour covers too, from 0 to below 1.

    Raises:
        ValueError: a tile, overlap or share out of range; an image whose size cannot be read, where it is cut.

    Raises (on access):
        ValueError: a file that cannot be read, a mask that does not have its image's size, or whose values tell no class;
            the sample is named.
    """

    def __init__(
        self,
        dataset: Any,
        augmentation: Augmentation | None = None,
        *,
        num_labels: int = 1,
        size: tuple[int, int] | None = None,
        seed: int = 0,
        cache_bytes: int = 0,
        note: str | None = None,
        absent_share: float = 0.0,
        tile: int | None = None,
        overlap: float = 0.25,
    ) -> None:
        check_tiling(tile, overlap)
        super().__init__(dataset, augmentation, num_labels, size, seed, note, absent_share)
        if absent_share and ABSENT not in self.dataset.column_names:
            self._pool = NotePool(self.dataset["note"])
        self._cache: dict[int, Sample] = {}
        self._cache_left = cache_bytes
        # Row and part of it, for each sample.
        self._parts: list[tuple[int, Box | None]] = [(row, None) for row in range(len(self.dataset))]
        if tile is not None:
            self._parts = [
                (number, box) for number, row in enumerate(self.dataset) for box in tiles_of(*_size(row), tile, overlap)
            ]

    def __len__(self) -> int:
        return len(self._parts)

    def set_epoch(self, epoch: int) -> None:
        """Makes the augmentation draw for this epoch, in workers that live on as well. Call it between epochs: workers
        fetch ahead."""
        self._epoch.fill_(epoch)

    @property
    def notes(self) -> list[str]:
        """The notes, in order, without decoding an image."""
        if self.note is not None:
            return [self.note] * len(self)
        notes = list(self.dataset["note"])
        return [notes[row] for row, _ in self._parts]

    def __getitem__(self, index: int) -> Sample:
        return self._augment(self._decoded(index), int(self._epoch))

    def _decoded(self, index: int) -> Sample:
        if index in self._cache:
            # A copy of the dictionary, so that no caller renames the next epoch's note. Arrays are never written to.
            return dict(self._cache[index])
        row, box = self._parts[index]
        sample = self._decode(self.dataset[row], box)
        size = sample["image"].nbytes + sample["mask"].nbytes
        if size <= self._cache_left:
            self._cache_left -= size
            self._cache[index] = dict(sample)
        return sample


class NotedSegmentationStream(_Samples, IterableDataset):
    """[`NotedSegmentationDataset`] for a HF `IterableDataset`: samples as they come, none kept.

    Order and augmentation are functions of (seed, epoch): HF datasets shuffles shards and a buffer, and the augmentation
    of a sample depends on its id alone. Workers share the shards; what [`shard`] leaves to this process does not overlap
    with that of another.

    Args:
        dataset: the HF iterable dataset.
        augmentation, num_labels, size, seed, note, absent_share: as of [`NotedSegmentationDataset`].
        shuffle: size of the buffer to draw from, 0 to keep the order.

    Raises (on iteration):
        ValueError: as [`NotedSegmentationDataset`].
    """

    def __init__(
        self,
        dataset: Any,
        augmentation: Augmentation | None = None,
        *,
        num_labels: int = 1,
        size: tuple[int, int] | None = None,
        seed: int = 0,
        note: str | None = None,
        shuffle: int = 0,
        absent_share: float = 0.0,
    ) -> None:
        super().__init__(dataset, augmentation, num_labels, size, seed, note, absent_share)
        if shuffle:
            self.dataset = self.dataset.shuffle(seed=seed, buffer_size=shuffle)

    def shard(self, rank: int, world_size: int) -> "NotedSegmentationStream":
        """Keeps one process's part. Parts may differ in size by some samples; under Accelerate, which deals batches out
        evenly, leave this alone.
        """
        from datasets.distributed import split_dataset_by_node

        self.dataset = split_dataset_by_node(self.dataset, rank=rank, world_size=world_size)
        return self

    def set_epoch(self, epoch: int) -> None:
        """Another order and other draws, in workers that live on as well. Call it between epochs."""
        self._epoch.fill_(epoch)
        # Here and not in the workers: HF datasets adds to a number that they share, and two would add twice.
        self.dataset.set_epoch(epoch)

    def __iter__(self) -> Iterator[Sample]:
        epoch = int(self._epoch)
        for row in self.dataset:
            yield self._augment(self._decode(row), epoch)


def _undecoded(dataset: Any, *, with_absent: bool = False) -> Any:
    """The columns that a sample needs, files as files: [`decode_sample`] reads them and names what it cannot read."""
    from datasets import Image as ImageFeature

    columns = dataset.column_names
    if columns is None:
        raise ValueError("The dataset does not say its columns; give it `features`, or call `_resolve_features`.")
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise ValueError(
            f"The dataset has columns {columns}, but lacks {', '.join(missing)}. Rename them with `rename_column`."
        )
    # The other columns, such as a distractor's mask, would be decoded with every row.
    dataset = dataset.select_columns([*COLUMNS, *([ABSENT] if with_absent and ABSENT in columns else [])])
    for name in ("image", "mask"):
        if dataset.features is not None and isinstance(dataset.features[name], ImageFeature):
            dataset = dataset.cast_column(name, ImageFeature(decode=False))
    return dataset


def decode_sample(
    row: dict[str, Any], num_labels: int = 1, size: tuple[int, int] | None = None, box: Box | None = None
) -> Sample:
    """A row of the HF dataset as arrays: `image` uint8 `[H, W, 3]`, `mask` uint8 `[H, W]`, `note`, `id`, and
    `original_size` (height, width). Image and mask may be decoded, or files as HF datasets has them.

    Args:
        row: with `image`, `mask`, `note` and `id`.
        num_labels: classes of the mask.
        size: `(height, width)` to resize to.
        box: (left, top, right, bottom) of the part that is the sample, before it is resized; its id then ends in the place,
            as in `slide@448,224` (left, top).

    Raises:
        ValueError: a file that cannot be read, image and mask differ in size, or the mask's values tell no class; the id
            is named.
    """
    try:
        image = to_rgb8(_opened(row["image"], "its image"))
        mask = read_mask(_opened(row["mask"], "its mask"), num_labels)
    except (ValueError, OSError) as error:
        raise SampleError(f"Sample {row['id']!r}: {error}") from error
    _check_sizes(row["id"], (image.height, image.width), mask.shape)
    name = row["id"]
    if box is not None:
        left, top, right, bottom = box
        image, mask, name = image.crop(box), mask[top:bottom, left:right], f"{name}@{left},{top}"
    original = (image.height, image.width)
    if size is not None and size != original:
        image = image.resize(size[::-1], Image.Resampling.BILINEAR)
        mask = np.asarray(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))
    return {
        # Copies: Pillow hands out read-only views, which tensors must not share.
        "image": np.array(image),
        "mask": np.array(mask),
        "note": row["note"],
        "id": name,
        "original_size": original,
    }


def _size(row: dict[str, Any]) -> tuple[int, int]:
    """Height and width of the row's image, which the head of a file alone does not tell: it may have to be turned."""
    try:
        image = to_rgb8(_opened(row["image"], "its image"))
    except (ValueError, OSError) as error:
        raise SampleError(f"Sample {row['id']!r}: {error}") from error
    return image.height, image.width


def _opened(value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        return value
    if value.get("bytes") is not None:
        return open_image(value["bytes"], value.get("path") or name)
    path = value.get("path")
    if not path:
        raise ValueError(f"{name} is missing; leave the row out.")
    if "://" in path:
        # A file of a Hub dataset that is streamed.
        with fsspec.open(path, "rb") as file:
            return open_image(file.read(), path)
    return Path(path)


def _check_sizes(name: str, image: tuple[int, ...], mask: tuple[int, ...]) -> None:
    if image != mask:
        raise SampleError(
            f"Sample {name!r}: the image is {image[0]} x {image[1]} pixels, but its mask is "
            f"{' x '.join(map(str, mask))}. Give the mask of this image, at its size."
        )


class Collator:
    """Samples -> a batch.

    `pixel_values` float32 `[B, 3, H, W]`, `input_ids` and `attention_mask` int64 `[B, L]`, `labels` int64 `[B, H, W]`
    from the processor; lists `notes`, `ids` and `original_sizes` ((height, width) of the files).

    Args:
        processor: a [`RecLMISProcessor`].
        only_tensors: leave the lists out, for loops that hand the whole batch to the model, such as transformers' `Trainer`
            (with `remove_unused_columns=False`, as samples become the model's inputs here and not before).

    Raises (when called):
        ValueError: a mask that does not have its image's size; both sizes and the id are named.
    """

    def __init__(self, processor: Any, *, only_tensors: bool = False) -> None:
        self.processor = processor
        self.only_tensors = only_tensors

    def __call__(self, samples: list[Sample]) -> dict[str, Any]:
        images = [np.asarray(to_rgb8(sample["image"])) for sample in samples]
        masks = [np.asarray(sample["mask"]) for sample in samples]
        for sample, image, mask in zip(samples, images, masks, strict=True):
            _check_sizes(sample["id"], image.shape[:2], mask.shape)
        notes = [sample["note"] for sample in samples]
        batch = self.processor(images=images, text=notes, segmentation_maps=masks, return_tensors="pt")
        if self.only_tensors:
            return dict(batch)
        sizes = [sample.get("original_size", mask.shape) for sample, mask in zip(samples, masks, strict=True)]
        return {
            **batch,
            "notes": notes,
            "ids": [sample["id"] for sample in samples],
            "original_sizes": [tuple(size) for size in sizes],
        }
