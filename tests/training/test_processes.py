"""What one process decides, all obey, and what all saw is averaged: in two processes, for real."""

import copy

import pytest
import torch
from torch import distributed, nn

from reclmis.training.finite import NonFiniteModelError, check_finite
from reclmis.training.processes import SIZES, LaunchError, check_launch, from_all, from_main, means, share_buffers
from tests.processes import in_two_processes
from tests.test_distributed import start


def agree(rank, folder):
    """Two processes of different opinions: batch norm saw other batches, and the second has a broken statistic."""
    start(rank, folder)
    norm = nn.BatchNorm1d(2)
    for _ in range(rank + 1):
        norm(torch.randn(4, 2) + rank)
    share_buffers(norm)
    found = {
        "state": copy.deepcopy(norm.state_dict()),
        "stop": from_main("time is up" if rank == 0 else None),
        "all": from_all([f"image {rank}"] * (rank + 1)),
        "means": means({"loss": torch.tensor(1.0 + rank)}),
    }
    if rank == 1:
        norm.running_mean[0] = float("nan")
    try:
        check_finite(norm, 1)
    except NonFiniteModelError as error:
        found["error"] = str(error)
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_agree(tmp_path):
    in_two_processes(agree, str(tmp_path))
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert all(torch.equal(value, second["state"][name]) for name, value in first["state"].items())
    assert first["state"]["num_batches_tracked"] == 1
    for found in (first, second):
        assert found["stop"] == "time is up"
        assert found["all"] == ["image 0", "image 1", "image 1"]
        assert found["means"] == {"loss": 1.5}
        assert "running_mean" in found["error"]


def test_one_process_agrees_with_itself():
    assert from_main(3) == 3 and from_all([1]) == [1] and means({"loss": torch.tensor(2.0)}) == {"loss": 2.0}
    share_buffers(nn.BatchNorm1d(2))


@pytest.mark.parametrize(
    ("environment", "processes", "message"),
    [
        ({}, 1, None),
        ({"WORLD_SIZE": "1", "MASTER_ADDR": "10.0.0.1", "ACCELERATE_MIXED_PRECISION": "no"}, 1, None),
        ({"WORLD_SIZE": "2"}, 2, None),
        ({"MASTER_ADDR": "10.0.0.1"}, 1, None),
        ({"WORLD_SIZE": "4"}, 1, "WORLD_SIZE is 4"),
        ({"SLURM_STEP_NUM_TASKS": "2"}, 1, "SLURM_STEP_NUM_TASKS is 2"),
        # What accelerate launch --cpu --num_processes 2 leaves.
        (
            {"MASTER_ADDR": "127.0.0.1", "ACCELERATE_MIXED_PRECISION": "no"},
            1,
            "accelerate launch was asked for several",
        ),
    ],
)
def test_processes_that_were_asked_for_and_are_not_there_are_an_error(monkeypatch, environment, processes, message):
    for name in (*SIZES, "MASTER_ADDR", "ACCELERATE_MIXED_PRECISION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if message is None:
        check_launch(processes)
        return
    with pytest.raises(LaunchError, match=f"{message}.*torchrun"):
        check_launch(processes)
