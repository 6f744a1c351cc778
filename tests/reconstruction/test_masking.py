import pytest
import torch

from reclmis.reconstruction import draw_mask

STRATEGIES = ["probability", "random", "topk"]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.3, 0.5, 0.9, 1.0])
def test_draws_the_ratio_of_the_real_tokens(strategy, ratio):
    interest = torch.rand(3, 10)
    mask = torch.tensor([[1] * 10, [1] * 5 + [0] * 5, [1] + [0] * 9]).bool()
    hidden = draw_mask(interest, ratio, strategy, token_mask=mask)
    assert hidden.sum(1).tolist() == [round(ratio * 10), int(ratio * 5 + 1e-6), int(ratio)]
    assert not (hidden & ~mask).any()


def test_probability_follows_the_interest():
    interest = torch.tensor([[0.7, 0.2, 0.1]]).expand(20000, 3)
    hidden = draw_mask(interest, 0.34, generator=torch.Generator().manual_seed(0)).float().mean(0)
    assert torch.allclose(hidden, torch.tensor([0.7, 0.2, 0.1]), atol=0.015)


def test_without_replacement_in_proportion_to_what_is_left():
    """P(second = c | first = a) for weights 0.5, 0.3, 0.2: the pair a, c comes up as 0.5 * 0.2/0.5 + 0.2 * 0.5/0.8."""
    interest = torch.tensor([[0.5, 0.3, 0.2]]).expand(20000, 3)
    hidden = draw_mask(interest, 0.67, generator=torch.Generator().manual_seed(0))
    pair = (hidden[:, 0] & hidden[:, 2]).float().mean().item()
    assert pair == pytest.approx(0.5 * 0.4 + 0.2 * 0.625, abs=0.015)


def test_random_ignores_the_interest():
    interest = torch.tensor([[0.98, 0.01, 0.01]]).expand(20000, 3)
    hidden = draw_mask(interest, 0.34, "random", generator=torch.Generator().manual_seed(0)).float().mean(0)
    assert torch.allclose(hidden, torch.full((3,), 1 / 3), atol=0.015)


def test_topk_takes_the_largest():
    assert draw_mask(torch.tensor([[0.1, 0.6, 0.3]]), 0.67, "topk").tolist() == [[False, True, True]]


def test_too_few_positive_weights_are_filled_up_uniformly():
    interest = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0]]).expand(8000, 5)
    hidden = draw_mask(interest, 0.4, generator=torch.Generator().manual_seed(0))
    assert hidden[:, 0].all() and (hidden.sum(1) == 2).all()
    assert torch.allclose(hidden[:, 1:].float().mean(0), torch.full((4,), 0.25), atol=0.025)


def test_the_callers_generator_decides():
    interest = torch.rand(2, 50)
    first, second = (draw_mask(interest, 0.5, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    other = draw_mask(interest, 0.5, generator=torch.Generator().manual_seed(8))
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_no_gradient_flows_into_the_draw():
    interest = torch.rand(1, 4, requires_grad=True)
    assert not draw_mask(interest, 0.5).requires_grad
