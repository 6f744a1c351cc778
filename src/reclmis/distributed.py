"""Features of every process in one tensor, with gradients, so that a contrastive matrix can span the global batch."""

from collections.abc import Sequence

import torch
from torch import distributed


def is_distributed() -> bool:
    """Whether several processes train together."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def batch_sizes(size: int, device: torch.device, equal: bool = False) -> list[int]:
    """How many samples every process has, in rank order.

    Args:
        size: of this process.
        device: where processes can reach each other.
        equal: every process is known to have as many. Otherwise they tell each other, and the device is waited for.
    """
    if not is_distributed():
        return [size]
    if equal:
        return [size] * distributed.get_world_size()
    sizes = torch.zeros(distributed.get_world_size(), dtype=torch.long, device=device)
    distributed.all_gather(list(sizes.split(1)), torch.tensor([size], device=device))
    return sizes.tolist()


def gather_batch(values: torch.Tensor, counts: Sequence[int] | None = None) -> torch.Tensor:
    """Concatenates `[B_r, ...]` of all processes along the batch, in rank order; batches may differ in size.

    Args:
        values: of this process.
        counts: of [`batch_sizes`], which several tensors of one batch share; asked for when left out.

    The gradient of each process's part is the sum of what all processes send to it. When every process computes the
    same loss from the gathered tensor and gradients are then averaged over processes, as DistributedDataParallel does,
    the result is the gradient of that loss in one process.
    """
    if not is_distributed():
        return values
    counts = batch_sizes(len(values), values.device) if counts is None else list(counts)
    largest = max(counts)
    padded = torch.cat([values, values.new_zeros(largest - len(values), *values.shape[1:])])
    gathered = _AllGather.apply(padded) if padded.is_floating_point() else _all_gather(padded)
    return torch.cat([part[:count] for part, count in zip(gathered.split(largest), counts, strict=True)])


def _all_gather(values: torch.Tensor) -> torch.Tensor:
    values = values.contiguous()
    parts = [torch.empty_like(values) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, values)
    return torch.cat(parts)


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values):
        ctx.size = len(values)
        return _all_gather(values)

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.contiguous().clone()
        distributed.all_reduce(gradient)
        start = distributed.get_rank() * ctx.size
        return gradient[start : start + ctx.size]
