import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch import nn
from torch.utils.data import DataLoader

from reclmis.training import build_optimizer, build_schedule
from reclmis.training.optim import accumulation_weights, optimizer_steps
from tests.parts import tiny_model


def rates(name, steps, **options):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = build_schedule(optimizer, name, **options)
    values = []
    for _ in range(steps):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return values


def test_cosine_after_a_warm_up():
    values = rates("cosine", 11, total_steps=10, warmup_steps=2)
    assert values[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert values[6] == pytest.approx(0.5) and values[10] == pytest.approx(0.0)


def test_restarts_as_released():
    values = rates("restarts", 41, total_steps=40, steps_per_epoch=2, restart_epochs=10, final_ratio=0.1)
    assert values[0] == values[20] == values[40] == 1.0
    assert values[10] == pytest.approx(0.55) and min(values) > 0.1


def test_constant():
    assert rates("constant", 4, total_steps=4, warmup_steps=1) == pytest.approx([0.5, 1.0, 1.0, 1.0])


def test_groups():
    model = tiny_model()
    optimizer = build_optimizer(model, 1e-3, name="adamw", weight_decay=0.1, text_learning_rate=1e-5)
    of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    named = dict(model.named_parameters())
    assert len(of) == len(named)
    assert of[id(named["decoder.head.weight"])]["weight_decay"] == 0.1
    assert of[id(named["decoder.head.bias"])]["weight_decay"] == 0.0
    assert of[id(named["interaction.patch_embedding.position_embedding"])]["weight_decay"] == 0.0
    assert of[id(named["text_encoder.token_embedding.weight"])]["lr"] == 1e-5
    assert of[id(named["visual_backbone.stem.conv.weight"])]["lr"] == 1e-3


def test_frozen_parameters_are_left_out():
    model = tiny_model(text_frozen=True)
    optimizer = build_optimizer(model)
    count = sum(len(group["params"]) for group in optimizer.param_groups)
    assert count == sum(p.requires_grad for p in model.parameters()) < len(list(model.parameters()))
    with pytest.raises(ValueError, match="no trainable parameter"):
        build_optimizer(model.requires_grad_(False))


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="No optimiser 'sgd'"):
        build_optimizer(tiny_model(), name="sgd")
    with pytest.raises(ValueError, match="No schedule 'linear'"):
        rates("linear", 1, total_steps=1)


def test_steps_of_an_epoch_round_up():
    assert optimizer_steps(5, 2) == 3


@pytest.mark.parametrize(
    ("sizes", "accumulation", "weights"),
    [
        ([4, 4, 4, 4], 2, [1, 1, 1, 1]),
        ([4, 4, 1], 1, [1, 1, 1]),
        ([4, 4, 4], 2, [1, 1, 2]),  # the last group has one batch
        ([4, 4, 4, 1], 2, [1, 1, 1.6, 0.4]),  # its last batch has one sample: 2 x 4/5 and 2 x 1/5
        ([4, 1], 3, [2.4, 0.6]),
    ],
)
def test_every_step_goes_by_the_mean_over_its_own_samples(sizes, accumulation, weights):
    assert accumulation_weights(sizes, accumulation) == pytest.approx(weights, rel=1e-12)


def test_accumulated_steps_are_those_of_large_batches_to_the_end_of_an_epoch():
    """Nine samples by twos, three batches per step, through Accelerate: its last group has two batches, one of them of
    one sample. The large batches have six samples and three."""
    data, weights = torch.arange(9.0).view(9, 1).double(), []
    try:
        for size, accumulation in ((2, 3), (6, 1)):
            AcceleratorState._reset_state(reset_partial_state=True)
            GradientState._reset_state()
            accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulation)
            layer = nn.Linear(1, 1, bias=False).double()
            nn.init.ones_(layer.weight)
            optimizer = torch.optim.SGD(layer.parameters(), lr=1e-3)
            layer, optimizer, loader = accelerator.prepare(layer, optimizer, DataLoader(data, batch_size=size))
            shares = accumulation_weights([len(batch) for batch in loader], accumulation)
            for share, batch in zip(shares, loader, strict=True):
                with accelerator.accumulate(layer):
                    accelerator.backward(layer(batch).square().mean() * share)
                    optimizer.step()
                    optimizer.zero_grad()
            weights.append(layer.weight.item())
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
    assert weights[0] == pytest.approx(weights[1], rel=1e-12)
