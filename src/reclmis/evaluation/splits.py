"""Which images are measured, and whether the model has learned them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data import load_dataset_by_name, read_manifest
from ..data.manifest import MANIFEST


def load_split(
    dataset: str, split: str, *, num_synthetic: int = 400, seed: int = 0, size: int = 224, **options: Any
) -> Any:
    """One split of a dataset by name or folder, as [`load_dataset_by_name`] takes it.

    Args:
        num_synthetic, seed, size: of the training that `"synthetic"` was drawn for; its validation part has a quarter of as
            many images, which no training with that seed saw.
        **options: of the source.

    Raises:
        ValueError: no such dataset or split, or data with mistakes in them.
    """
    if dataset != "synthetic":
        return load_dataset_by_name(dataset, splits=[split], **options)[split]
    drawn = load_dataset_by_name(
        dataset, num_train=num_synthetic, num_validation=max(num_synthetic // 4, 1), seed=seed, size=size, **options
    )
    if split not in drawn:
        raise ValueError(f"{dataset} has no split {split!r}; it has {', '.join(drawn)}.")
    return drawn[split]


def trained_on(model: str | Path, content: Mapping[str, Any]) -> int | None:
    """How many images of a split a checkpoint was trained on, by the hashes that it keeps of its data; `None` where it keeps
    none.

    Args:
        model: folder, or the name of a model elsewhere, whose hashes are not looked up.
        content: of the split, an entry of [`reclmis.data.build_manifest`].

    Raises:
        ValueError: hashes that cannot be read.
    """
    if not (Path(model) / MANIFEST).is_file():
        return None
    learned = read_manifest(model).get("train")
    return None if learned is None else len(set(content["samples"]) & set(learned["samples"]))


def training_warning(model: str | Path, content: Mapping[str, Any]) -> str | None:
    """A sentence where figures on a split are no test, or may be none, of a checkpoint; arguments as of [`trained_on`]."""
    seen = trained_on(model, content)
    if seen is None:
        return f"{model} has no {MANIFEST} here: whether it was trained on these images is not known."
    if seen:
        return f"{seen} of these {content['images']} images were trained on: the figures are no test."
    return None


__all__ = ["load_split", "trained_on", "training_warning"]
