"""From a HF dataset to batches of tensors."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from ..images import to_rgb8
from .augment import Augmentation, Sample
from .masks import read_mask


class NotedSegmentationDataset(Dataset):
    """Samples of a HF dataset with `image`, `mask`, `note` and `id`, decoded, checked and augmented.

    Args:
        dataset: the HF dataset.
        augmentation: policy, or `None`.
        num_labels: classes of the masks.
        size: `(height, width)` to resize to before augmentation (bilinear, masks by nearest neighbour), or `None`.
        seed: of the augmentation.
        cache: keep decoded samples in memory, as bytes; each is decoded once per process.
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
        self.dataset = dataset
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
        """Makes the augmentation draw for this epoch."""
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
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        sample = decode_sample(self.dataset[index], self.num_labels, self.size)
        if self.note is not None:
            sample["note"] = self.note
        if self._cache is not None:
            self._cache[index] = sample
        return sample


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
    if image.size != mask.shape[::-1]:
        raise ValueError(
            f"Sample {row['id']!r}: the image is {image.height} x {image.width} pixels, but its mask is "
            f"{mask.shape[0]} x {mask.shape[1]}."
        )
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


class Collator:
    """Samples -> a batch: the processor's tensors, and `notes`, `ids` and `original_sizes` as lists."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, samples: list[Sample]) -> dict[str, Any]:
        notes = [sample["note"] for sample in samples]
        batch = self.processor(
            images=[sample["image"] for sample in samples],
            text=notes,
            segmentation_maps=[sample["mask"] for sample in samples],
            return_tensors="pt",
        )
        return {
            **batch,
            "notes": notes,
            "ids": [sample["id"] for sample in samples],
            "original_sizes": [sample.get("original_size", sample["mask"].shape) for sample in samples],
        }
