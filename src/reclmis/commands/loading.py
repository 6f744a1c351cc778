"""Models for commands, with readable refusals."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import one_line
from . import CommandError


def load_model(name: str, *, prune: bool, device: str = "cpu") -> tuple[Any, Any]:
    """Model and processor of a folder or Hub id.

    Raises:
        CommandError: no such folder, no model in it, files that do not fit or are damaged, a Hub that cannot be
            reached, or a device that is not there.
    """
    from .. import RecLMISModel, RecLMISProcessor

    folder = Path(name).expanduser()
    looks_local = folder.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1
    if looks_local and not folder.is_dir():
        raise CommandError(f"there is no model folder {name!r}, and it is no Hub id of the form 'org/model'.")
    if looks_local and not (folder / "config.json").is_file():
        raise CommandError(
            f"{name!r} holds no model: config.json is missing. Give the folder that save_pretrained wrote."
        )
    source = str(folder) if looks_local else name
    options = {"prune_reconstruction": True} if prune else {}
    try:
        with without_loading_bar():
            model, processor = RecLMISModel.from_pretrained(source, **options), RecLMISProcessor.from_pretrained(source)
    except Exception as error:
        # Damaged files make every layer below raise its own kind; a command says it in one sentence all the same.
        where = "" if looks_local else " If this machine is offline, give a folder that holds the model."
        raise CommandError(f"the model {name!r} cannot be loaded: {one_line(error)}{where}") from error
    _check_vocabulary(name, model, processor)
    try:
        return model.to(device), processor
    except (RuntimeError, AssertionError) as error:
        raise CommandError(f"the device {device!r} cannot be used: {one_line(error)}") from error


def load_exported(name: str, backend: Any) -> tuple[Any, Any]:
    """Exported model and processor of a folder or Hub id.

    Raises:
        CommandError: no export there, files that are damaged, or a runtime that is not installed.
    """
    from .. import RecLMISProcessor
    from ..exported import ExportedModel

    folder = Path(name).expanduser()
    source = str(folder) if folder.is_dir() else name
    try:
        return ExportedModel.from_pretrained(source, backend), RecLMISProcessor.from_pretrained(source)
    except Exception as error:
        raise CommandError(f"the exported model {name!r} cannot be loaded: {one_line(error)}") from error


def add_backend_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backend", choices=("torch", "onnxruntime", "openvino"), default="torch",
                        help="what computes; all but torch need the folder that `reclmis export` wrote")  # fmt: skip


def load_any(name: str, backend: str, device: str, *, prune: bool) -> tuple[Any, Any]:
    """As [`load_model`] or, where another backend is asked for or the folder has an export's manifest, [`load_exported`].

    Raises:
        CommandError: as those, and an export on another device than the CPU.
    """
    from ..exporting import MANIFEST

    if backend == "torch" and not (Path(name).expanduser() / MANIFEST).is_file():
        return load_model(name, prune=prune, device=device)
    if device != "cpu":
        raise CommandError(f"exported models compute on the CPU; leave --device {device} out.")
    return load_exported(name, "onnxruntime" if backend == "torch" else backend)


@contextmanager
def without_loading_bar() -> Iterator[None]:
    """transformers draws a bar for every model that it loads; a command shows one for its images only."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _check_vocabulary(name: str, model: Any, processor: Any) -> None:
    known, used = model.text_encoder.vocab_size, len(processor.tokenizer)
    if used > known:
        raise CommandError(
            f"the tokenizer in {name!r} has {used} ids, but its text encoder knows {known}; they are not of one model."
        )
