"""Features of every process in one tensor, with gradients, so that a contrastive matrix can span the global batch."""

import torch
from torch import distributed


def is_distributed() -> bool:
    """Whether several processes train together."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def gather_batch(values: torch.Tensor) -> torch.Tensor:
    """Concatenates `[B_r, ...]` of all processes along the batch, in rank order; batches may differ in size.

    The gradient of each process's part is the sum of what all processes send to it. When every process computes the
    same loss from the gathered tensor and gradients are then averaged over processes, as DistributedDataParallel does,
    the result is the gradient of that loss in one process.
    """
    if not is_distributed():
        return values
    sizes = [torch.zeros(1, dtype=torch.long, device=values.device) for _ in range(distributed.get_world_size())]
    distributed.all_gather(sizes, torch.tensor([len(values)], device=values.device))
    counts = [int(size) for size in sizes]
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
