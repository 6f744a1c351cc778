"""A model that is looked at, and is afterwards as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Evaluation mode inside; every part goes back to the mode that it was in."""
    # An exported model has no mode but this one.
    modes = [(part, part.training) for part in model.modules()] if isinstance(model, nn.Module) else []
    model.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


__all__ = ["evaluating"]
