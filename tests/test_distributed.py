"""Two processes compute the contrastive loss of the global batch, values and gradients, as one process does."""

import os

import pytest
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import ProfilerActivity, profile

from reclmis.distributed import gather_batch, is_distributed
from reclmis.losses import contrastive_loss, similarity
from tests.parts import TINY_TEXT, make_inputs, tiny_model
from tests.processes import in_two_processes

TEMPERATURE = 0.1


def start(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    # Without a name gloo looks up the host's own, which need not resolve.
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)


def features(sizes):
    generator = torch.Generator().manual_seed(0)
    total = sum(sizes)
    patches = torch.randn(total, 5, 4, generator=generator)
    words = torch.randn(total, 3, 4, generator=generator)
    mask = torch.ones(total, 3, dtype=torch.bool)
    mask[::2, 2] = False
    return patches, words, mask


def gathered_loss(rank, folder, sizes):
    start(rank, folder)
    patches, words, mask = (part.split(sizes)[rank].clone() for part in features(sizes))
    patches.requires_grad_()
    words.requires_grad_()
    matrix = similarity(gather_batch(patches), gather_batch(words), None, None, gather_batch(mask))
    loss = contrastive_loss(matrix, TEMPERATURE)
    loss.backward()
    torch.save({"loss": loss.detach(), "patches": patches.grad / 2, "words": words.grad / 2}, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.parametrize("sizes", [[2, 2], [3, 2]])
def test_global_batch_equals_one_process(sizes, tmp_path):
    in_two_processes(gathered_loss, str(tmp_path), sizes)
    patches, words, mask = features(sizes)
    patches.requires_grad_()
    words.requires_grad_()
    loss = contrastive_loss(similarity(patches, words, None, None, mask), TEMPERATURE)
    loss.backward()
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for rank in ranks:
        assert torch.allclose(rank["loss"], loss, atol=1e-6)
    # DistributedDataParallel averages over processes, hence the division by two above.
    assert torch.allclose(torch.cat([rank["patches"] for rank in ranks]), patches.grad, atol=1e-6)
    assert torch.allclose(torch.cat([rank["words"] for rank in ranks]), words.grad, atol=1e-6)


def small_model(**changes):
    """Nothing in it depends on the other samples of a batch but the contrastive loss."""
    model = tiny_model(
        **{
            "visual_reconstruction": False,
            "language_reconstruction": False,
            "contrastive_temperature": TEMPERATURE,
            "text_config": {**TINY_TEXT, "dropout": 0.0},
            **changes,
        }
    )
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    model.interaction.word_refinement.norm.eval()
    return model


def inputs_with_one_note_missing():
    inputs = make_inputs(4, 32, 32, labels=True)
    inputs["attention_mask"][2] = 0
    return inputs


# A share so small that no note is dropped, for a model that has a null note.
BEYOND = {"note_dropout": 1e-9, "presence": True}


def train_in_two(rank, folder, changes):
    start(rank, folder)
    model = DistributedDataParallel(small_model(**changes))
    inputs = inputs_with_one_note_missing() if changes else make_inputs(4, 32, 32, labels=True)
    inputs = {key: value.chunk(2)[rank] for key, value in inputs.items()}
    outputs = model(**inputs)
    outputs.loss.backward()
    torch.save(
        {
            "contrastive": outputs.loss_terms["contrastive"].detach(),
            "gradients": {name: p.grad for name, p in model.module.named_parameters()},
        },
        f"{folder}/{rank}.pt",
    )
    distributed.destroy_process_group()


def count_waits(rank, folder):
    start(rank, folder)
    model = DistributedDataParallel(small_model(**BEYOND))
    inputs = {key: value.chunk(2)[rank] for key, value in make_inputs(4, 32, 32, labels=True).items()}
    model.module.defers_loss_check = True
    counts = []
    for equal in (False, True):
        model.module.has_equal_batches = equal
        with profile(activities=[ProfilerActivity.CPU]) as trace:
            model(**inputs).loss.backward()
        calls = {event.key: event.count for event in trace.key_averages()}
        counts.append((calls.get("aten::item", 0), calls.get("c10d::allgather_", 0)))
    torch.save(counts, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_processes_that_know_their_batches_are_equal_wait_for_no_sizes(tmp_path):
    in_two_processes(count_waits, str(tmp_path))
    for rank in range(2):
        (waits, gathers), (equal_waits, equal_gathers) = torch.load(tmp_path / f"{rank}.pt")
        assert equal_waits == 0 and equal_gathers == gathers - 1 > 0, (waits, gathers, equal_waits, equal_gathers)


@pytest.mark.parametrize("changes", [{}, BEYOND], ids=["paper", "one note missing"])
def test_a_model_in_two_processes_has_the_gradients_of_one(changes, tmp_path):
    in_two_processes(train_in_two, str(tmp_path), changes)
    model = small_model(**changes)
    outputs = model(**(inputs_with_one_note_missing() if changes else make_inputs(4, 32, 32, labels=True)))
    outputs.loss.backward()
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert torch.allclose(ranks[0]["contrastive"], outputs.loss_terms["contrastive"].detach(), atol=1e-5)
    for name, parameter in model.named_parameters():
        first, second = (rank["gradients"][name] for rank in ranks)
        assert torch.equal(first, second), name
        assert torch.allclose(first, parameter.grad, atol=1e-4, rtol=1e-3), name


def test_accumulation_equals_the_large_batch_where_no_loss_compares_samples():
    """The contrastive loss compares samples, the language loss averages over the words of all: both are left out."""
    changes = {"visual_reconstruction": True, "reconstruction_weighting": "interest", "contrastive": False,
               "mask_strategy": "topk"}  # fmt: skip
    inputs = make_inputs(4, 32, 32, labels=True)
    inputs["pixel_values"] = inputs["pixel_values"].double()
    gradients = []
    for size in (4, 1):
        model = small_model(**changes).double()
        for start in range(0, 4, size):
            part = {key: value[start : start + size] for key, value in inputs.items()}
            (model(**part).loss * size / 4).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], atol=1e-6), name


def test_one_process_gathers_nothing():
    values = torch.randn(2, 3)
    assert not is_distributed() and gather_batch(values) is values
