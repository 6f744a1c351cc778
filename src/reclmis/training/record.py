"""What a run must write down so that somebody can repeat it."""

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("reclmis", "torch", "torchvision", "transformers", "timm", "datasets", "accelerate", "numpy", "Pillow")


def run_record(seed: int, **more: Any) -> dict[str, Any]:
    """Command line, versions, commit and seed of this process, with whatever else belongs to the run."""
    return {
        "command": shlex.join([sys.argv[0], *sys.argv[1:]]),
        "seed": seed,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": {name: version(name) for name in PACKAGES},
        "commit": _commit(),
        **more,
    }


def portable_command(command: str) -> str:
    """A command line without the folders of the machine it ran on: programs and paths keep their last parts."""
    words = []
    for word in shlex.split(command):
        path = Path(word)
        if path.suffix == ".py":
            word = f"{path.parent.name}/{path.name}" if path.parent.name else path.name
        elif path.is_absolute() or word.startswith(".."):
            word = f"path/to/{path.name}"
        words.append(word)
    return shlex.join(words)


def _commit() -> str | None:
    """The commit of the checkout that the library runs from, with `-dirty` where Python files differ from it.

    `None` for an installed package, also one that is installed inside a checkout of something else.
    """
    package = Path(__file__).resolve().parents[1]
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit = _git(package, "rev-parse", "HEAD")
    if commit is None:
        return None
    changes = _git(package, "status", "--porcelain", "--", ":(top)*.py")
    return commit if changes == "" else f"{commit}-dirty"


def _git(folder: Path, *arguments: str) -> str | None:
    """What git answers in this folder, `None` where it cannot."""
    command = ["git", "-C", str(folder), *arguments]
    # Reading must not lock the index: somebody may be committing.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
