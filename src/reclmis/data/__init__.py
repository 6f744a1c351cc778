"""Data: folders of images, masks and notes into HF Datasets, text-safe augmentation, and a synthetic set."""

from .archives import ArchiveError, unpack
from .audit import Audit, Issue, audit
from .augment import Augmentation, affine, flip_vertical, mirror, photometric, rotate90
from .collate import Collator, NotedSegmentationDataset, NotedSegmentationStream
from .export import embed_files, write_parquet
from .image_note_mask import load_image_note_mask
from .inventory import Inventory
from .lvit import load_lvit
from .manifest import build_manifest, dataset_hash, read_manifest
from .masks import MaskFormat, read_mask
from .notes import mirror_note, note_count, note_survives, note_zones
from .originals import load_monuseg, load_mosmed, load_original, load_qata
from .pairing import DataError, SkippedDataWarning
from .patients import patient_of
from .sources import load_dataset_by_name, load_hub, load_parquet, load_saved, scan_by_name
from .synthetic import make_sample, synthetic_dataset
from .volumes import VolumeFormat

__all__ = [
    "ArchiveError",
    "Audit",
    "Augmentation",
    "Collator",
    "DataError",
    "Inventory",
    "Issue",
    "MaskFormat",
    "NotedSegmentationDataset",
    "NotedSegmentationStream",
    "SkippedDataWarning",
    "VolumeFormat",
    "affine",
    "audit",
    "build_manifest",
    "dataset_hash",
    "embed_files",
    "flip_vertical",
    "load_dataset_by_name",
    "load_hub",
    "load_image_note_mask",
    "load_lvit",
    "load_monuseg",
    "load_mosmed",
    "load_original",
    "load_parquet",
    "load_qata",
    "load_saved",
    "make_sample",
    "mirror",
    "mirror_note",
    "note_count",
    "note_survives",
    "note_zones",
    "patient_of",
    "photometric",
    "read_manifest",
    "read_mask",
    "rotate90",
    "scan_by_name",
    "synthetic_dataset",
    "unpack",
    "write_parquet",
]
