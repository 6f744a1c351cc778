"""Models for commands, with readable refusals."""

from pathlib import Path
from typing import Any

from . import CommandError


def load_model(name: str, *, prune: bool) -> tuple[Any, Any]:
    """Model and processor of a folder or Hub id.

    Raises:
        CommandError: no such folder, no model in it, or a Hub that cannot be reached.
    """
    from .. import RecLMISModel, RecLMISProcessor

    folder = Path(name)
    looks_local = folder.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1
    if looks_local and not folder.is_dir():
        raise CommandError(f"there is no model folder {name!r}, and it is no Hub id of the form 'org/model'.")
    if looks_local and not (folder / "config.json").is_file():
        raise CommandError(f"{name!r} holds no model: config.json is missing. Give the folder that save_pretrained wrote.")
    try:
        options = {"prune_reconstruction": True} if prune else {}
        return RecLMISModel.from_pretrained(name, **options), RecLMISProcessor.from_pretrained(name)
    except (OSError, ValueError) as error:
        where = "" if looks_local else " If this machine is offline, give a folder that holds the model."
        raise CommandError(f"the model {name!r} cannot be loaded: {error}{where}") from error
