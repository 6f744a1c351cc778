"""Two processes that share out a model save and resume what one process would."""

import copy

import pytest
import torch
from torch import distributed
from torch.distributed.fsdp import fully_shard

from reclmis import RecLMISModel
from reclmis.training import build_optimizer, load_training_state, save_checkpoint
from reclmis.training.sharding import is_sharded, load_whole_state, whole_state
from tests.parts import make_inputs, tiny_model
from tests.processes import in_two_processes
from tests.test_distributed import start


class Nothing:
    def save_pretrained(self, folder):
        pass


def model_and_optimizer(shard):
    model = tiny_model(dropout=0.0).train()
    if shard:
        for block in (*model.decoder.blocks, model):
            fully_shard(block)
    return model, build_optimizer(model, 1e-2, name="adamw", weight_decay=0.01)


def steps(model, optimizer, seeds):
    for seed in seeds:
        torch.manual_seed(seed)
        inputs = make_inputs(2, labels=True)
        model(**inputs).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def train_in_shards(rank, folder):
    """A step, a checkpoint, another step; and the checkpoint resumed for the same other step."""
    start(rank, folder)
    model, optimizer = model_and_optimizer(shard=True)
    assert is_sharded(model)
    steps(model, optimizer, [0])
    state = whole_state(model, optimizer)
    if rank == 0:
        save_checkpoint(f"{folder}/checkpoint", model, Nothing(), state=state, weights=state["model"])
    distributed.barrier()
    steps(model, optimizer, [1])
    straight = whole_state(model, optimizer)
    model, optimizer = model_and_optimizer(shard=True)
    load_whole_state(model, optimizer, load_training_state(f"{folder}/checkpoint"))
    steps(model, optimizer, [1])
    resumed = whole_state(model, optimizer)
    if rank == 0:
        torch.save({"straight": straight["model"], "resumed": resumed["model"]}, f"{folder}/states.pt")
    else:
        assert not straight["model"]
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    in_two_processes(train_in_shards, str(folder))
    return folder


def test_a_resumed_run_gives_the_weights_of_one_without_a_break(folder):
    states = torch.load(folder / "states.pt")
    assert states["straight"].keys() == states["resumed"].keys()
    for name, value in states["straight"].items():
        assert torch.equal(value, states["resumed"][name]), name


def test_the_checkpoint_is_a_whole_model_of_one_process(folder):
    model = RecLMISModel.from_pretrained(folder / "checkpoint")
    fresh = tiny_model(dropout=0.0)
    assert model.state_dict().keys() == fresh.state_dict().keys()
    trained = [name for name, value in model.named_parameters() if not torch.equal(value, fresh.get_parameter(name))]
    assert "decoder.head.weight" in trained and len(trained) > 50


def test_one_process_needs_no_gathering():
    model, optimizer = model_and_optimizer(shard=False)
    steps(model, optimizer, [0])
    state = copy.deepcopy(whole_state(model, optimizer))
    again, other = model_and_optimizer(shard=False)
    load_whole_state(again, other, state)
    steps(model, optimizer, [1])
    steps(again, other, [1])
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
