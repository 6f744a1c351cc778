"""Data: folders of images, masks and notes into HF Datasets, text-safe augmentation, and a synthetic set."""

from .augment import Augmentation, affine, flip_vertical, mirror, photometric, rotate90
from .collate import Collator, NotedSegmentationDataset
from .masks import read_mask
from .notes import mirror_note, note_count, note_survives, note_zones
from .pairing import DataError, SkippedDataWarning
from .sources import load_dataset_by_name, load_lvit
from .synthetic import make_sample, synthetic_dataset

__all__ = [
    "Augmentation",
    "Collator",
    "DataError",
    "NotedSegmentationDataset",
    "SkippedDataWarning",
    "affine",
    "flip_vertical",
    "load_dataset_by_name",
    "load_lvit",
    "make_sample",
    "mirror",
    "mirror_note",
    "note_count",
    "note_survives",
    "note_zones",
    "photometric",
    "read_mask",
    "rotate90",
    "synthetic_dataset",
]
