import pytest
import torch

from reclmis.reconstruction import ConditionedReconstructor


def build(**changes):
    torch.manual_seed(0)
    return ConditionedReconstructor(8, 2, 2, 16, **changes).eval()


@pytest.mark.parametrize("conditioning", ["gate", "hadamard"])
@pytest.mark.parametrize("causal", [False, True])
def test_padding_of_source_and_target_changes_nothing(conditioning, causal):
    model = build(conditioning=conditioning, causal=causal)
    target, source = torch.randn(1, 6, 8), torch.randn(1, 5, 8)
    condition = torch.rand(1, 5)
    masks = {"masked_mask": torch.tensor([[1, 1, 1, 1, 0, 0]]), "source_mask": torch.tensor([[1, 1, 1, 0, 0]])}
    padded = model(target, source, condition, **masks)[:, :4]
    alone = model(target[:, :4], source[:, :3], condition[:, :3])
    assert torch.allclose(padded, alone, atol=1e-5)


def test_a_source_token_without_weight_is_not_seen_through_the_gate():
    model = build()
    target, source = torch.randn(1, 4, 8), torch.randn(1, 3, 8)
    condition = torch.tensor([[0.5, 0.5, 0.0]])
    changed = source.clone()
    changed[:, 2] += 1
    assert torch.allclose(model(target, source, condition), model(target, changed, condition), atol=1e-5)
    assert not torch.allclose(model(target, source, None), model(target, changed, None), atol=1e-3)


def test_causal_target_sees_no_later_token():
    model = build(causal=True)
    target, source = torch.randn(1, 4, 8), torch.randn(1, 3, 8)
    changed = target.clone()
    changed[:, 3] += 1
    before, after = model(target, source, None), model(changed, source, None)
    assert torch.allclose(before[:, :3], after[:, :3], atol=1e-5) and not torch.allclose(before, after, atol=1e-3)


@pytest.mark.parametrize("layers", [1, 4, 10])
def test_number_of_layers(layers):
    model = ConditionedReconstructor(8, 2, layers, 16)
    model(torch.randn(1, 2, 8), torch.randn(1, 3, 8), torch.rand(1, 3)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
