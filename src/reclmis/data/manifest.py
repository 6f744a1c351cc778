"""What a dataset consists of, as hashes: enough to recognise a split or an image again, and nobody's name."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

MANIFEST = "data_manifest.json"
# 64 bits: among a million images, two share their first 16 digits with a chance of 3 in 100 million.
_DIGITS = 16


def build_manifest(splits: Mapping[str, Any]) -> dict[str, Any]:
    """Hashes of every split of a HF dataset, from its files as they are.

    Returns:
        By split: `images`, their number; `sha256` over ids, notes, images and masks in order, by which figures name their
        split; `notes`, the number of different notes; and `samples`, the first 16 digits of the SHA-256 of each image's
        file, sorted. Neither names nor notes are in it, so that it can be published with a model.
    """
    return {split: summarise(_digests(rows)) for split, rows in splits.items()}


def summarise(samples: Iterable[tuple[str, str, bytes, bytes]]) -> dict[str, Any]:
    """The entry of one split, of samples as (id, note, SHA-256 of the image's file, of the mask's file)."""
    digest = hashlib.sha256()
    images, notes = [], set()
    for name, note, image, mask in samples:
        digest.update(f"{name}\0{note}\0".encode())
        digest.update(image)
        digest.update(mask)
        images.append(sample_key(image))
        notes.add(note)
    return {"images": len(images), "sha256": digest.hexdigest(), "notes": len(notes), "samples": sorted(images)}


def summary(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest without its samples, as a run's record and the model's card have it."""
    return {
        split: {key: value for key, value in entry.items() if key != "samples"} for split, entry in manifest.items()
    }


def dataset_hash(dataset: Any) -> str:
    """SHA-256 over ids, notes, and the encoded bytes of images and masks: the same hash is the same split."""
    return summarise(_digests(dataset))["sha256"]


def sample_key(image: bytes) -> str:
    """An image's entry in `samples`, of the SHA-256 of its file."""
    return image.hex()[:_DIGITS]


def write_manifest(manifest: Mapping[str, Any], path: str | Path) -> Path:
    path = Path(path)
    path.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    return path


def read_manifest(path: str | Path) -> dict[str, Any]:
    """A manifest, or that of a checkpoint's folder.

    Raises:
        FileNotFoundError: no such file, or a checkpoint without one.
        ValueError: no manifest.
    """
    path = Path(path)
    path = path / MANIFEST if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"No manifest of data at {path}.")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        complete = all({"images", "sha256", "samples"} <= set(entry) for entry in manifest.values())
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} is no manifest of data: {error}. Write it anew.") from error
    if not complete:
        raise ValueError(f"{path} is no manifest of data: a split lacks its hashes. Write it anew.")
    return manifest


def digest_of(value: Any) -> bytes:
    """The SHA-256 of a file as HF datasets has it: a path, or its content."""
    if isinstance(value, Mapping) and value.get("bytes") is not None:
        return hashlib.sha256(value["bytes"]).digest()
    return hashlib.sha256(Path(value["path"] if isinstance(value, Mapping) else value).read_bytes()).digest()


def _digests(dataset: Any) -> Iterator[tuple[str, str, bytes, bytes]]:
    from datasets import Image

    for row in dataset.cast_column("image", Image(decode=False)).cast_column("mask", Image(decode=False)):
        yield row["id"], row["note"], digest_of(row["image"]), digest_of(row["mask"])
