"""Whether a model can be saved as one to go on from."""

import torch
from torch import distributed, nn
from torch.distributed.tensor import DTensor

from ..distributed import is_distributed


class NonFiniteModelError(ArithmeticError):
    """Weights, statistics or outputs of a model are nan or infinite. The message names the first of them."""


@torch.no_grad()
def check_finite(model: nn.Module, epoch: int) -> None:
    """Looks at every parameter and buffer, and waits for the device once.

    A step can break weights and still report a finite loss, its own: only the next one would show it.

    Args:
        model: in every process, also where they share it out.
        epoch: to be named.

    Raises:
        NonFiniteModelError: in every process, when one of them has a value that is nan or infinite.
    """
    tensors = {
        name: value.to_local() if isinstance(value, DTensor) else value
        for name, value in (*model.named_parameters(), *model.named_buffers())
        if value.is_floating_point()
    }
    flags = torch.stack([value.isfinite().all() for value in tensors.values()]).int()
    if is_distributed():
        distributed.all_reduce(flags, op=distributed.ReduceOp.MIN)
    broken = [name for name, flag in zip(tensors, flags.tolist(), strict=True) if not flag]
    if broken:
        raise NonFiniteModelError(
            f"After epoch {epoch}, {shortened(broken)} of the model hold(s) nan or infinite values."
        )


def shortened(names: list[str], limit: int = 3) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


__all__ = ["NonFiniteModelError", "check_finite", "shortened"]
