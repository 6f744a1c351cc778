"""From a HF dataset to batches of tensors."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from ..images import to_rgb8
from .augment import Augmentation, Sample
from .masks import read_mask

_COLUMNS = ("image", "mask", "note", "id")


class NotedSegmentationDataset(Dataset):
    """Samples of a HF dataset with `image`, `mask`, `note` and `id`, decoded, checked and augmented.

    Args:
        dataset: the HF dataset.
        augmentation: policy, or `None`.
        num_labels: classes of the masks.
        size: `(height, width)` to resize to before augmentation (bilinear, masks by nearest neighbour), or `None`.
        seed: of the augmentation.
        cache: keep decoded samples in memory, as bytes, at `size`; each is decoded once per process.
        note: a sentence that replaces every note, for control experiments.

    Raises (on access):
        ValueError: a mask that does not have its image's size, or whose values tell no class.
    """

    def __init__(
        self,
        dataset: Any,
        augmentation: Augmentation | None = None,
        *,
        num_labels: int = 1,
        size: tuple[int, int] | None = None,
        seed: int = 0,
        cache: bool = False,
        note: str | None = None,
    ) -> None:
        missing = [name for name in _COLUMNS if name not in dataset.column_names]
        if missing:
            raise ValueError(
                f"The dataset has columns {dataset.column_names}, but lacks {', '.join(missing)}. Rename them with "
                "`rename_column`."
            )
        # The other columns, such as a distractor's mask, would be decoded with every row.
        self.dataset = dataset.select_columns(list(_COLUMNS))
        self.augmentation = augmentation
        self.num_labels = num_labels
        self.size = size
        self.seed = seed
        self.note = note
        self._cache: dict[int, Sample] | None = {} if cache else None
        # Shared memory: workers that outlive an epoch must see the next one.
        self._epoch = torch.zeros((), dtype=torch.long).share_memory_()

    def __len__(self) -> int:
        return len(self.dataset)

    def set_epoch(self, epoch: int) -> None:
        """Makes the augmentation draw for this epoch, in workers that live on as well. Call it between epochs: workers
        fetch ahead."""
        self._epoch.fill_(epoch)

    @property
    def notes(self) -> list[str]:
        """The notes, in order, without decoding an image."""
        return [self.note] * len(self) if self.note is not None else list(self.dataset["note"])

    def __getitem__(self, index: int) -> Sample:
        sample = self._decoded(index)
        if self.augmentation is not None:
            sample = self.augmentation(sample, seed=self.seed, epoch=int(self._epoch))
        return sample

    def _decoded(self, index: int) -> Sample:
        if self._cache is None:
            return self._decode(index)
        if index not in self._cache:
            self._cache[index] = self._decode(index)
        # A copy of the dictionary, so that no caller renames the next epoch's note. Arrays are never written to.
        return dict(self._cache[index])

    def _decode(self, index: int) -> Sample:
        sample = decode_sample(self.dataset[index], self.num_labels, self.size)
        return sample if self.note is None else {**sample, "note": self.note}


def decode_sample(row: dict[str, Any], num_labels: int = 1, size: tuple[int, int] | None = None) -> Sample:
    """A row of the HF dataset as arrays: `image` uint8 `[H, W, 3]`, `mask` uint8 `[H, W]`, `note`, `id`, and
    `original_size` (height, width).

    Raises:
        ValueError: image and mask differ in size, or the mask's values tell no class; the id is named.
    """
    try:
        image, mask = to_rgb8(row["image"]), read_mask(row["mask"], num_labels)
    except ValueError as error:
        raise ValueError(f"Sample {row['id']!r}: {error}") from error
    _check_sizes(row["id"], (image.height, image.width), mask.shape)
    original = (image.height, image.width)
    if size is not None and size != original:
        image = image.resize(size[::-1], Image.Resampling.BILINEAR)
        mask = np.asarray(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))
    return {
        # Copies: Pillow hands out read-only views, which tensors must not share.
        "image": np.array(image),
        "mask": np.array(mask),
        "note": row["note"],
        "id": row["id"],
        "original_size": original,
    }


def _check_sizes(name: str, image: tuple[int, ...], mask: tuple[int, ...]) -> None:
    if image != mask:
        raise ValueError(
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
