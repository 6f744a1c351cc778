"""Processes of a test, forked from one that has imported what they need: importing takes longer than what they do."""

import multiprocessing
from collections.abc import Callable
from typing import Any

import torch.multiprocessing

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["accelerate", "datasets", "torchvision", "reclmis.modeling_reclmis", "reclmis.data",
                              "reclmis.evaluation", "reclmis.processing_reclmis", "reclmis.training",
                              "torch.utils.tensorboard"])  # fmt: skip


def in_two_processes(function: Callable[..., None], *arguments: Any) -> None:
    """Calls `function(rank, *arguments)` in two processes and waits for them; what one raises is raised here."""
    torch.multiprocessing.start_processes(function, arguments, nprocs=2, start_method="forkserver")
