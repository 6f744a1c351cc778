"""Whole weights and optimiser states of models whose parameters several processes share out (FSDP)."""

from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor


def is_sharded(model: nn.Module) -> bool:
    """Whether no process holds all of the model."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def whole_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Any]]:
    """`model` and `optimizer` state, as one process could load them.

    With shards, every process must ask; the first gets all of it, in its memory and not on its device, the others nothing.
    """
    if not is_sharded(model):
        return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return {
        "model": get_model_state_dict(model, options=options),
        "optimizer": get_optimizer_state_dict(model, optimizer, options=options),
    }


def load_whole_state(model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, dict[str, Any]]) -> None:
    """Puts back what [`whole_state`] gave; with shards, each process takes its part of the whole."""
    if not is_sharded(model):
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        return
    options = StateDictOptions(full_state_dict=True)
    set_model_state_dict(model, state["model"], options=options)
    set_optimizer_state_dict(model, optimizer, state["optimizer"], options=options)


__all__ = ["is_sharded", "load_whole_state", "whole_state"]
