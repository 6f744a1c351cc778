"""Pieces of a training loop; the loop itself is `examples/train.py`."""

from .checkpoint import keep_newest, latest_complete, load_training_state, save_checkpoint
from .note_cache import NoteCache
from .optim import build_optimizer, build_schedule

__all__ = [
    "NoteCache",
    "build_optimizer",
    "build_schedule",
    "keep_newest",
    "latest_complete",
    "load_training_state",
    "save_checkpoint",
]
