"""Optimisers and schedules of the paper and of the released configurations."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn


def build_optimizer(
    model: nn.Module,
    learning_rate: float = 3e-4,
    *,
    name: Literal["adam", "adamw"] = "adam",
    weight_decay: float = 0.0,
    text_learning_rate: float | None = None,
    backbone_learning_rate: float | None = None,
) -> torch.optim.Optimizer:
    """Adam (paper 4.2) or AdamW over the trainable parameters.

    Biases, norms and embeddings of positions are not decayed. Text encoder and visual backbone may have learning rates
    of their own. The update is the fused one: on a CPU it reads and writes the weights once instead of a dozen times.

    Raises:
        ValueError: nothing to train, or an unknown name.
    """
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    if name not in kinds:
        raise ValueError(f"No optimiser {name!r}; there are {', '.join(kinds)}.")
    rates = {"text_encoder.": text_learning_rate, "visual_backbone.": backbone_learning_rate}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for key, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        own = next((rate for prefix, rate in rates.items() if key.startswith(prefix) and rate is not None), None)
        decay = weight_decay if parameter.ndim > 1 and "position_embedding" not in key else 0.0
        groups.setdefault((own if own is not None else learning_rate, decay), []).append(parameter)
    if not groups:
        raise ValueError("The model has no trainable parameter.")
    return kinds[name](
        [{"params": members, "lr": rate, "weight_decay": decay} for (rate, decay), members in groups.items()],
        fused=True,
    )


def build_schedule(
    optimizer: torch.optim.Optimizer,
    name: Literal["cosine", "restarts", "constant"],
    *,
    total_steps: int,
    warmup_steps: int = 0,
    steps_per_epoch: int = 1,
    restart_epochs: int = 10,
    final_ratio: float = 0.0,
) -> torch.optim.lr_scheduler.LambdaLR:
    """Factor on the learning rate per optimiser step, after a linear warm-up.

    - `"cosine"`: from 1 to `final_ratio` over `total_steps` (paper 4.2).
    - `"restarts"`: from 1 to `final_ratio` every `restart_epochs` epochs (released MoNuSeg configuration: 10, 0.1).
    - `"constant"`.
    """
    if name not in ("cosine", "restarts", "constant"):
        raise ValueError(f"No schedule {name!r}; there are cosine, restarts and constant.")

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        if name == "constant":
            return 1.0
        if name == "cosine":
            share = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
        else:
            period = restart_epochs * steps_per_epoch
            share = (step - warmup_steps) % period / period
        return final_ratio + (1 - final_ratio) * (1 + math.cos(math.pi * min(share, 1.0))) / 2

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def optimizer_steps(batches: int, accumulation: int) -> int:
    """Optimiser steps of an epoch; the last one may have fewer batches."""
    return math.ceil(batches / accumulation)


def accumulation_weights(sizes: Sequence[int], accumulation: int) -> list[float]:
    """Factor on each batch's mean loss, so that every optimiser step of an epoch goes by the mean over its own samples.

    Accelerate takes `1 / accumulation` of each loss, also in an epoch's last group, which may have fewer batches, and from
    its last batch, which may have fewer samples.

    Args:
        sizes: of the batches of an epoch.
        accumulation: batches per optimiser step.
    """
    groups = [sizes[start : start + accumulation] for start in range(0, len(sizes), accumulation)]
    return [accumulation * size / sum(group) for group in groups for size in group]


def describe(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Learning rate, decay and number of weights of each group, for the record of a run."""
    return [
        {"lr": group["lr"], "weight_decay": group["weight_decay"], "weights": sum(p.numel() for p in group["params"])}
        for group in optimizer.param_groups
    ]
