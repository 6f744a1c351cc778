"""Gradient checkpointing for blocks with batch norm: activations are computed again in the backward pass, statistics not."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import nn

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def recomputable(forward: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Decorates `forward` of a module so that `model.gradient_checkpointing_enable()` covers it.

    The module needs a class attribute `gradient_checkpointing = False`. transformers' `GradientCheckpointingLayer` would do,
    but for batch norm: its running statistics would move twice per step.
    """

    @wraps(forward)
    def run_or_checkpoint(self: Any, *inputs: torch.Tensor) -> torch.Tensor:
        if not (self.gradient_checkpointing and self.training):
            return forward(self, *inputs)
        again = False

        def run(*inputs: torch.Tensor) -> torch.Tensor:
            nonlocal again
            if again:
                with _statistics_kept(self):
                    return forward(self, *inputs)
            again = True
            return forward(self, *inputs)

        return self._gradient_checkpointing_func(run, *inputs)

    return run_or_checkpoint


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Batch norms inside normalise by the batch, as in training, and leave their running statistics as they are."""
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d) and module.track_running_stats]
    kept = [(norm, name, getattr(norm, name)) for norm in norms for name in _STATISTICS]
    for norm, name, value in kept:
        # Copies take the second update: without statistics the recomputed graph would not match the first.
        setattr(norm, name, value.clone())
    try:
        yield
    finally:
        for norm, name, value in kept:
            setattr(norm, name, value)


__all__ = ["recomputable"]
