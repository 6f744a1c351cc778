"""What several training processes must agree on."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import distributed, nn

from ..distributed import is_distributed

# How launchers say how many processes they started: torchrun and most clusters, Open MPI, MPICH and Intel MPI, Slurm's srun.
SIZES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")


class LaunchError(RuntimeError):
    """Several processes were asked for, and each would train alone, or only one is there."""


def check_launch(processes: int) -> None:
    """Holds the processes that train together against what the environment says was asked for.

    Args:
        processes: number of them, as Accelerate found it.

    Raises:
        LaunchError: there are fewer. Without this, each would train the same model alone, into the same folder.
    """
    asked = {name: int(os.environ[name]) for name in SIZES if os.environ.get(name, "").isdecimal()}
    more = [f"{name} is {count}" for name, count in asked.items() if count > processes]
    # `accelerate launch --cpu --num_processes 2` says no number, and starts one process unless it is given MPI.
    if not asked and processes == 1 and {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= set(os.environ):
        more = ["accelerate launch was asked for several"]
    if more:
        raise LaunchError(
            f"Several processes were asked for ({', '.join(more)}), but {processes} train(s) together here. On CPUs, use "
            "accelerate launch --config_file examples/accelerate/cpu-two-processes.yaml, or torchrun --nproc_per_node 2. "
            "For one process, ask for one and unset those variables."
        )


def from_main(value: Any) -> Any:
    """The first process's value, in every process: what each would judge by its own clock, one has to decide."""
    if not is_distributed():
        return value
    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


def from_all(values: list[Any]) -> list[Any]:
    """The lists of all processes in one, in the order of their ranks."""
    if not is_distributed():
        return values
    everyone: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(everyone, values)
    return [value for part in everyone for value in part]


def means(values: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Scalars on one device, by name, as means over processes."""
    together = torch.stack([value.detach().float() for value in values.values()])
    if is_distributed():
        distributed.all_reduce(together)
        together /= distributed.get_world_size()
    return dict(zip(values, together.tolist(), strict=True))


@torch.no_grad()
def share_buffers(module: nn.Module) -> None:
    """Gives every process the buffers of the first, such as the statistics of batch norm.

    Each process gathers those from its own batches. The first one's are saved, so all validate with them too.
    """
    if is_distributed():
        for buffer in module.buffers():
            distributed.broadcast(buffer, src=0)


__all__ = ["LaunchError", "check_launch", "from_all", "from_main", "means", "share_buffers"]
