"""The folder of a run: whether it may be gone on with or overwritten, and the records beside the checkpoints.

best/ last/       checkpoints, see `checkpoint.py`
epochs/00007/     with --keep
run.json          how the run was begun, and each of its sessions
metrics.json      one row per epoch
logs/             of the tracker
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.manifest import MANIFEST, read_manifest
from ..files import replacing
from .checkpoint import COMPLETE, STATE, finish_exchange, latest_complete, read_record, remove

RECORD, METRICS, EPOCHS, LOGS = "run.json", "metrics.json", "epochs", "logs"
TRACKED = "reclmis"  # name of the run for trackers, and so of their folder
CHECKPOINTS = ("best", "last")

# Options that change no number of a run, so a session may have others than the one before: where it reads and writes, what
# it shows, when it stops, how it spends memory and processes of the loader. Data are compared by content, not by path.
FREE = frozenset({
    "config", "dataset", "output_dir", "resume", "overwrite", "max_minutes", "patience", "workers", "cache_gigabytes",
    "keep", "pictures", "tracker", "gradient_checkpointing",
})  # fmt: skip
# What may differ from session to session, for the record.
SESSION = ("command", "commit", "versions", "python", "machine", "threads")


class RunFolderError(ValueError):
    """A folder holds a run that this one would overwrite, or that went otherwise. The message says what to do."""


def refuse_occupied(output_dir: Path) -> None:
    """For a run that begins anew.

    Raises:
        RunFolderError: the folder holds epochs of a run.
    """
    found = [name for name in CHECKPOINTS if latest_complete(output_dir, name)]
    found += [EPOCHS] if any((output_dir / EPOCHS).glob(f"*/{COMPLETE}")) else []
    if found:
        raise RunFolderError(
            f"{output_dir} holds a run already ({', '.join(found)}). Go on with it by --resume, remove it by --overwrite, "
            "or give another --output_dir."
        )


def tidy(output_dir: Path, overwrite: bool = False) -> None:
    """Gives the checkpoints of a run that was killed around a save their names.

    Args:
        overwrite: removes what a run wrote instead, and nothing else that lies in its folder.

    Raises:
        RunFolderError: what is to be overwritten has a run's names, but no run wrote it.
    """
    if not overwrite:
        for name in CHECKPOINTS:
            finish_exchange(output_dir / name)
        return
    if not (output_dir / RECORD).is_file() and not any(output_dir.glob(f"**/{COMPLETE}")):
        foreign = [name for name in (*CHECKPOINTS, EPOCHS, LOGS, METRICS) if (output_dir / name).exists()]
        if foreign:
            raise RunFolderError(
                f"{output_dir} holds {', '.join(foreign)}, but neither {RECORD} nor a complete checkpoint says that a run "
                "wrote them. Move them away, or give another --output_dir."
            )
    for name in CHECKPOINTS:
        for folder in (f".{name}.new", f".{name}.old", name):
            remove(output_dir / folder)
    for kept in (output_dir / EPOCHS).glob("[0-9]*"):
        if (kept / COMPLETE).is_file():
            shutil.rmtree(kept)
    for half in (output_dir / EPOCHS).glob(".[0-9]*"):  # of a save that was killed
        if half.suffix in (".new", ".old"):
            remove(half)
    if (output_dir / LOGS / TRACKED).is_dir():
        shutil.rmtree(output_dir / LOGS / TRACKED)
    for name in (EPOCHS, LOGS):
        if (output_dir / name).is_dir() and not any((output_dir / name).iterdir()):
            (output_dir / name).rmdir()
    for name in (RECORD, METRICS):
        (output_dir / name).unlink(missing_ok=True)


def resumable(output_dir: Path, options: Mapping[str, Any], processes: int, data: Mapping[str, Any]) -> Path | None:
    """The checkpoint that a session with these options, processes and data goes on from; `None` where there is none.

    Args:
        options: by name, as [`check_options`] takes them.
        data: of each split `images` and `sha256`, see [`reclmis.data.manifest.summary`].

    Raises:
        RunFolderError: the run in this folder went otherwise, or its checkpoint cannot be gone on from.
    """
    checkpoint = latest_complete(output_dir)
    if checkpoint is None:
        return None
    if not (checkpoint / STATE).is_file():
        raise RunFolderError(
            f"{checkpoint} has no {STATE}, as DeepSpeed keeps it to itself. Start another run from its weights: "
            f"--init {checkpoint}."
        )
    then = _recorded_options(output_dir, read_record(checkpoint))
    check_options(then, {**options, "processes": processes}, output_dir)
    _check_data(checkpoint, data, output_dir)
    return checkpoint


def _recorded_options(output_dir: Path, progress: Mapping[str, Any]) -> dict[str, Any]:
    """The options a run was begun with: from its checkpoint's record, or, of an older checkpoint, from `run.json`."""
    if "options" in progress:
        return {**progress["options"], "processes": progress["processes"]}
    record = _read_run(output_dir)
    if record is None or "arguments" not in record:
        raise RunFolderError(
            f"Nothing in {output_dir} says with which options its run was begun, so it cannot be gone on with. Start "
            f"another run from its weights: --init {output_dir / 'last'}."
        )
    return {**record["arguments"], "processes": record["processes"]}


def check_options(then: Mapping[str, Any], now: Mapping[str, Any], output_dir: Path) -> None:
    """A run is one run, however many sessions it takes: what changes its course stays.

    `epochs` may change where the learning rate does not depend on their number, that is under any schedule but the cosine.

    Args:
        then, now: options by name. One that `then` lacks is newer than the run, and not compared.

    Raises:
        RunFolderError: with each option that differs, its old value and its new one.
    """
    free = FREE if then.get("schedule") == "cosine" else FREE | {"epochs"}
    if then.get("init"):  # what it sees is the checkpoint's
        free = free | {"image_size"}
    names = [name for name in now if name in then and name not in free]
    changed = [f"{name} {_shown(then[name])}, not {_shown(now[name])}" for name in names
               if _meant(name, then[name]) != _meant(name, now[name])]  # fmt: skip
    if changed:
        raise RunFolderError(
            f"The run in {output_dir} was begun with {'; '.join(changed)}. Give the same to go on with it, or start another "
            f"run from its weights: --init {output_dir / 'last'}."
        )


def _check_data(checkpoint: Path, data: Mapping[str, Any], output_dir: Path) -> None:
    if not (checkpoint / MANIFEST).is_file():
        return
    before = read_manifest(checkpoint)
    for split, entry in data.items():
        old = before.get(split, {"images": 0, "sha256": ""})
        if old["sha256"] != entry["sha256"]:
            raise RunFolderError(
                f"The run in {output_dir} was begun with other data for {split}: {old['images']} images (sha256 "
                f"{old['sha256'][:12]}), not the {entry['images']} ({entry['sha256'][:12]}) of this --dataset. Give the "
                f"same to go on with it, or start another run from its weights: --init {output_dir / 'last'}."
            )


def write_run(output_dir: Path, record: Mapping[str, Any], epoch: int) -> None:
    """Writes `run.json`: the record of the first session, and under `sessions` what can differ of each.

    Args:
        record: of this session, see [`reclmis.training.record.run_record`].
        epoch: complete epochs before it; 0 begins a run.
    """
    first = _read_run(output_dir) if epoch else None
    sessions: list[Any] = []
    if first is not None:
        sessions = first.get("sessions") or [_session(first, 0)]
    _write(output_dir / RECORD, {**(first or record), "sessions": [*sessions, _session(record, epoch)]})


def write_metrics(output_dir: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Writes `metrics.json`, one row per epoch."""
    _write(output_dir / METRICS, history)


def _read_run(output_dir: Path) -> dict[str, Any] | None:
    """`run.json`, `None` where there is none.

    Raises:
        RunFolderError: it is damaged.
    """
    path = output_dir / RECORD
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise RunFolderError(f"{path} is damaged ({error}); remove it, and --resume writes another.") from error


def _session(record: Mapping[str, Any], epoch: int) -> dict[str, Any]:
    return {"after_epoch": epoch, **{key: record[key] for key in SESSION if key in record}}


def _write(path: Path, content: Any) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def _meant(name: str, value: Any) -> Any:
    """`--set` and `--data` in any order and spelling of their values."""
    if name not in ("set", "data"):
        return value
    return {key: json.loads(text) for key, _, text in (entry.partition("=") for entry in value)}


def _shown(value: Any) -> str:
    return (" ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)
