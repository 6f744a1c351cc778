"""What a run must write down so that somebody can repeat it."""

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
    """The checkout's commit, `None` where there is none (an installed package)."""
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None
