"""Checkpoints that are whole or not there at all."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch

COMPLETE = "complete.json"
STATE = "training_state.pt"


def save_checkpoint(
    folder: str | Path, model: Any, processor: Any, *, state: dict[str, Any] | None = None, record: dict | None = None
) -> Path:
    """Writes model, processor and training state as one folder that `from_pretrained` can load.

    Everything goes into a folder beside it first and is flushed to disk; the marker that makes it count comes last, and
    then the names are exchanged. A process that dies at any moment leaves the old checkpoint or the new one.

    Args:
        folder: the checkpoint. One that is there is replaced.
        model, processor: with `save_pretrained`.
        state: tensors and plain containers needed to go on training.
        record: what to write into the marker: epoch, step, metrics.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    shutil.rmtree(fresh, ignore_errors=True)
    model.save_pretrained(fresh)
    processor.save_pretrained(fresh)
    if state is not None:
        torch.save(state, fresh / STATE)
    for path in fresh.iterdir():
        _flush(path)
    marker = fresh / COMPLETE
    marker.write_text(json.dumps(record or {}, indent=2, sort_keys=True) + "\n")
    _flush(marker)
    _flush(fresh)
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(fresh, folder)
    _flush(folder.parent)
    shutil.rmtree(old, ignore_errors=True)
    return folder


def latest_complete(output_dir: str | Path, name: str = "last") -> Path | None:
    """The newest whole checkpoint of this name, `None` when there is none.

    A process killed between the two exchanges of names leaves it under its temporary name, so those count as well.
    """
    output_dir = Path(output_dir)
    for candidate in (output_dir / name, output_dir / f".{name}.new", output_dir / f".{name}.old"):
        if (candidate / COMPLETE).is_file():
            return candidate
    return None


def read_record(folder: str | Path) -> dict[str, Any]:
    """What [`save_checkpoint`] was given as `record`."""
    return json.loads((Path(folder) / COMPLETE).read_text())


def load_training_state(folder: str | Path) -> dict[str, Any]:
    """The training state of a checkpoint; nothing pickled is executed.

    Raises:
        FileNotFoundError: the checkpoint has no training state, or is not whole.
        ValueError: the file holds more than tensors and plain containers, or is damaged.
    """
    folder = Path(folder)
    if not (folder / COMPLETE).is_file():
        raise FileNotFoundError(f"{folder} is no complete checkpoint; resume from one that has {COMPLETE}.")
    path = folder / STATE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {STATE}, so a run cannot be resumed from it; it can be fine-tuned.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
