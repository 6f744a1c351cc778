"""Checkpoints that are whole or not there at all."""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..data.manifest import MANIFEST, write_manifest

COMPLETE = "complete.json"
STATE = "training_state.pt"


def save_checkpoint(
    folder: str | Path,
    model: Any,
    processor: Any,
    *,
    state: dict[str, Any] | None = None,
    weights: dict[str, Any] | None = None,
    record: dict | None = None,
    manifest: Mapping[str, Any] | None = None,
) -> Path:
    """Writes model, processor and training state as one folder that `from_pretrained` can load.

    Everything goes into a folder beside it first and is flushed to disk; the marker that makes it count comes last, and
    then the names are exchanged. A process that dies at any moment leaves the old checkpoint or the new one, and
    [`latest_complete`] finds it.

    Args:
        folder: the checkpoint. One that is there is replaced.
        model, processor: with `save_pretrained`.
        state: tensors and plain containers needed to go on training.
        weights: the model's, where no process holds all of them, see [`reclmis.training.sharding`].
        record: what to write into the marker: epoch, step, metrics.
        manifest: of the data, see [`reclmis.data.build_manifest`]; it stays with the model.

    Raises:
        OSError: the disk is full, or whatever else kept the files from being written; the old checkpoint stays, and nothing
            of the new one.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = _fresh(folder), _old(folder)
    finish_exchange(folder)
    remove(fresh)
    with _whole_or_removed(fresh):
        # A copy, as saving takes what it has written out of the dictionary.
        model.save_pretrained(fresh, **({} if weights is None else {"state_dict": dict(weights)}))
        processor.save_pretrained(fresh)
        if manifest is not None:
            write_manifest(manifest, fresh / MANIFEST)
        if state is not None:
            # Through a file of Python, whose errors have numbers.
            with open(fresh / STATE, "wb") as file:
                torch.save(state, file)
        for path in fresh.rglob("*"):
            _flush(path)
        marker = fresh / f"{COMPLETE}.new"
        marker.write_text(json.dumps(record or {}, indent=2, sort_keys=True) + "\n")
        _flush(marker)
    os.replace(marker, fresh / COMPLETE)
    _flush(fresh)
    if folder.exists():
        os.replace(folder, old)
    os.replace(fresh, folder)
    _flush(folder.parent)
    remove(old)
    return folder


def keep_newest(folder: str | Path, count: int) -> list[Path]:
    """Removes all complete checkpoints of a folder but the newest, in order of their names, and returns those that stay."""
    complete = sorted(path.parent for path in Path(folder).glob(f"[!.]*/{COMPLETE}"))
    for path in complete[: max(len(complete) - count, 0)]:
        remove(path)
    return complete[max(len(complete) - count, 0) :]


def latest_complete(output_dir: str | Path, name: str = "last") -> Path | None:
    """The newest whole checkpoint of this name, `None` when there is none.

    A process killed around the exchange of names leaves the newest under its temporary name.
    """
    folder = Path(output_dir) / name
    return next((path for path in (_fresh(folder), folder, _old(folder)) if (path / COMPLETE).is_file()), None)


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


def finish_exchange(folder: Path) -> None:
    """Does what a killed save left undone: the newest checkpoint gets its name, and nothing else is in the way."""
    fresh, old = _fresh(folder), _old(folder)
    if (fresh / COMPLETE).is_file():
        if folder.exists():
            remove(old)
            os.replace(folder, old)
        os.replace(fresh, folder)
    elif not folder.exists() and (old / COMPLETE).is_file():
        os.replace(old, folder)
    remove(old)


def remove(folder: Path) -> None:
    """Removes a checkpoint, if it is there. The marker goes first: what is half removed must not count as whole."""
    (folder / COMPLETE).unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(folder)


def _fresh(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.new")


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


@contextmanager
def _whole_or_removed(fresh: Path) -> Iterator[None]:
    """Frees what a save that failed has taken, and tells the failure of the disk from others.

    Raises:
        OSError: the error of the system, whatever the writer made of it.
    """
    try:
        yield
    except Exception as error:
        shutil.rmtree(fresh, ignore_errors=True)
        number = _number_of(error)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(fresh)) from error


def _number_of(error: BaseException | None) -> int | None:
    """The system's number of an error: Rust's writers have it in their text, PyTorch's in what it came from."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        if found := re.search(r"\(os error (\d+)\)", str(error)):
            return int(found[1])
        error = error.__context__
    return None


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
