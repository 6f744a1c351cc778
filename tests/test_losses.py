"""Tables that a reader checks by hand, and gradients in float64."""

import copy
import math
import pickle

import pytest
import torch
from torch.autograd import gradcheck

from reclmis.losses import (
    LossWatch,
    NonFiniteLossError,
    contrastive_loss,
    cross_entropy_loss,
    dice_loss,
    reconstruction_loss,
    similarity,
    soften_twice,
    total_loss,
)

LARGE = 60.0  # a logit whose sigmoid is 1 in float32


def logits_of(rows):
    return torch.tensor(rows, dtype=torch.float64)[None, None]


@pytest.mark.parametrize(
    ("logits", "labels", "expected"),
    [
        # p = [1, 0], y = [1, 0]: overlap 1, sizes 1 + 1
        ([[LARGE, -LARGE]], [[1, 0]], 0.0),
        # p = [1, 0], y = [0, 1]: overlap 0
        ([[LARGE, -LARGE]], [[0, 1]], 1.0),
        # p = [1, 1], y = [1, 0]: 1 - 2 / (2 + 1)
        ([[LARGE, LARGE]], [[1, 0]], 1 / 3),
        # p = [1/2, 1/2], y = [1, 0]: 1 - 2 * 1/2 / (1/2 + 1)
        ([[0.0, 0.0]], [[1, 0]], 1 / 3),
        # nothing there and nothing found: 1 - eps / eps
        ([[-LARGE, -LARGE]], [[0, 0]], 0.0),
    ],
)
def test_dice_table(logits, labels, expected):
    assert dice_loss(logits_of(logits), torch.tensor([labels])).item() == pytest.approx(expected, abs=1e-4)


def test_dice_is_a_mean_over_images():
    logits = torch.stack([logits_of([[LARGE, -LARGE]])[0], logits_of([[LARGE, -LARGE]])[0]])
    labels = torch.tensor([[[1, 0]], [[0, 1]]])
    assert dice_loss(logits, labels).item() == pytest.approx(0.5, abs=1e-4)


def test_dice_of_classes():
    logits = torch.tensor([[[[LARGE, 0.0]], [[0.0, LARGE]], [[0.0, 0.0]]]], dtype=torch.float64)
    labels = torch.tensor([[[0, 1]]])
    # every class, the absent one included, is right
    assert dice_loss(logits, labels).item() == pytest.approx(0.0, abs=1e-4)


def test_cross_entropy_table():
    assert cross_entropy_loss(logits_of([[0.0, 0.0]]), torch.tensor([[[1, 0]]])).item() == pytest.approx(math.log(2))
    one = cross_entropy_loss(logits_of([[math.log(3)]]), torch.tensor([[[1]]])).item()
    assert one == pytest.approx(-math.log(3 / 4))
    classes = torch.zeros(1, 4, 1, 1, dtype=torch.float64)
    assert cross_entropy_loss(classes, torch.tensor([[[2]]])).item() == pytest.approx(math.log(4))


def test_cross_entropy_is_finite_where_the_sigmoid_saturates():
    assert cross_entropy_loss(torch.full((1, 1, 1, 1), 1e4), torch.zeros(1, 1, 1)).item() == pytest.approx(1e4)


def test_similarity_by_hand():
    """Two patches along x and y; note one is the words x and y, note two is x and a padding along y."""
    patches = torch.tensor([[[2.0, 0.0], [0.0, 3.0]]], dtype=torch.float64)
    words = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 9.0]]], dtype=torch.float64)
    mask = torch.tensor([[1, 1], [1, 0]])
    patch_weights = torch.tensor([[0.25, 0.75]], dtype=torch.float64)
    word_weights = torch.tensor([[0.5, 0.5], [1.0, 0.0]], dtype=torch.float64)
    scores = similarity(patches, words, patch_weights, word_weights, mask)
    # Note one: each patch and each word has its twin: (1 + 1) / 2. Note two: patch x finds its word, patch y finds
    # none (cosine 0), the one word finds its patch: (0.25 * 1 + 0.75 * 0 + 1) / 2.
    assert scores.tolist() == [[pytest.approx(1.0), pytest.approx(0.625)]]


def test_similarity_ignores_what_padding_holds():
    patches, words = torch.randn(2, 5, 4), torch.randn(3, 6, 4)
    mask = torch.tensor([[1] * 6, [1] * 3 + [0] * 3, [1] * 2 + [0] * 4])
    weights = torch.rand(3, 6)
    before = similarity(patches, words, None, weights, mask)
    words[mask == 0] = 100 * torch.randn(7, 4)
    weights[mask == 0] = 5.0
    assert torch.equal(similarity(patches, words, None, weights, mask), before)
    shorter = similarity(patches, words[1:2, :3], None, weights[1:2, :3], None)
    assert torch.allclose(before[:, 1:2], shorter, atol=1e-6)


def test_equal_weights_are_those_of_no_condition():
    patches, words, mask = torch.randn(2, 4, 3), torch.randn(2, 3, 3), torch.tensor([[1, 1, 1], [1, 1, 0]])
    equal = similarity(patches, words, torch.full((2, 4), 0.25), mask / mask.sum(1, keepdim=True), mask)
    assert torch.allclose(similarity(patches, words, None, None, mask), equal, atol=1e-6)


def test_contrastive_table():
    eye = torch.eye(2, dtype=torch.float64)
    # both ways: -log(e^1 / (e^1 + e^0))
    assert contrastive_loss(eye, 1.0).item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert contrastive_loss(torch.zeros(4, 4), 0.01).item() == pytest.approx(math.log(4))
    assert contrastive_loss(torch.ones(1, 1), 0.01).item() == 0.0


def test_contrastive_counts_rows_and_columns():
    scores = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    rows = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(1))) / 2
    assert contrastive_loss(scores, 1.0).item() == pytest.approx((rows + math.log(2)) / 2)


def test_equal_notes_as_positives():
    same = torch.tensor([[True, True], [True, True]])
    # every pair is right with share 1/2, and scores are equal: log 2, whatever the diagonal
    assert contrastive_loss(torch.zeros(2, 2), 1.0, same).item() == pytest.approx(math.log(2))
    alone = torch.eye(3, dtype=torch.bool)
    scores = torch.randn(3, 3)
    assert torch.allclose(contrastive_loss(scores, 0.1, alone), contrastive_loss(scores, 0.1))


def test_reconstruction_table():
    rebuilt = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]], dtype=torch.float64)
    target = torch.zeros_like(rebuilt)
    interest = torch.tensor([[0.75, 0.25]], dtype=torch.float64)
    # eq. 8: 1/2 * (0.75 * 2 + 0.25 * 0)
    assert reconstruction_loss(rebuilt, target, interest).item() == pytest.approx(0.75)
    # no interest: 1/2 * (1/2 * 2)
    assert reconstruction_loss(rebuilt, target, None).item() == pytest.approx(0.5)
    # plain mean: 2 of 4 numbers are off by 1
    assert reconstruction_loss(rebuilt, target, interest, "uniform").item() == pytest.approx(0.5)
    # the second token is padding: T = 1
    mask = torch.tensor([[1, 0]])
    assert reconstruction_loss(rebuilt, target, interest, mask=mask).item() == pytest.approx(1.5)
    assert reconstruction_loss(rebuilt, target, None, "uniform", mask).item() == pytest.approx(1.0)


def test_reconstruction_ignores_what_padding_holds():
    rebuilt, target, mask = torch.randn(2, 3, 4), torch.randn(2, 3, 4), torch.tensor([[1, 1, 1], [1, 0, 0]])
    interest = torch.rand(2, 3)
    for weighting in ("interest", "uniform"):
        before = reconstruction_loss(rebuilt, target, interest, weighting, mask)
        changed = rebuilt.clone()
        changed[mask == 0] = 50.0
        assert torch.equal(reconstruction_loss(changed, target, interest, weighting, mask), before)


def test_second_softmax_is_nearly_uniform():
    weights = torch.tensor([[0.9, 0.1, 0.0]])
    twice = soften_twice(weights, torch.tensor([[1, 1, 0]]))
    assert twice[0, 2] == 0 and twice[0, 0] == pytest.approx(1 / (1 + math.exp(-0.8)))


def test_total_is_the_weighted_sum():
    terms = {"dice": torch.tensor(0.5), "contrastive": torch.tensor(2.0)}
    assert total_loss(terms, {"dice": 2.5, "contrastive": 0.2}).item() == pytest.approx(1.65)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_term_is_named(value):
    terms = {"dice": torch.tensor(0.5), "contrastive": torch.tensor(value)}
    with pytest.raises(NonFiniteLossError, match=f"contrastive = {value}"):
        total_loss(terms, {"dice": 1.0, "contrastive": 1.0})


def test_a_term_without_a_weight_is_an_error():
    with pytest.raises(KeyError, match="new_term"):
        total_loss({"new_term": torch.tensor(1.0)}, {"dice": 1.0})


def double(*shape):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def test_gradients_in_float64():
    labels = torch.tensor([[[0, 1], [1, 0]], [[1, 1], [0, 0]]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    assert gradcheck(lambda x: dice_loss(x, labels), double(2, 1, 2, 2))
    assert gradcheck(lambda x: dice_loss(x, labels), double(2, 3, 2, 2))
    assert gradcheck(lambda x: cross_entropy_loss(x, labels), double(2, 1, 2, 2))
    assert gradcheck(lambda x: contrastive_loss(x, 0.5), double(3, 3))
    assert gradcheck(
        lambda v, e, p, w: similarity(v, e, p.softmax(-1), w.softmax(-1), mask),
        (double(2, 4, 3), 2 * double(2, 3, 3).detach().requires_grad_(), double(2, 4), double(2, 3)),
    )
    for weighting in ("interest", "uniform"):
        assert gradcheck(
            lambda r, t, w, weighting=weighting: reconstruction_loss(r, t, w.softmax(-1), weighting, mask),
            (double(2, 3, 4), 3 * double(2, 3, 4).detach().requires_grad_(), double(2, 3)),
        )


@pytest.mark.parametrize("loss", [dice_loss, cross_entropy_loss])
@pytest.mark.parametrize("fill", [0, 1])
def test_float32_and_finite_for_empty_and_full_masks_in_bfloat16(loss, fill):
    logits = (30 * torch.randn(2, 1, 8, 8)).bfloat16().requires_grad_()
    value = loss(logits, torch.full((2, 8, 8), fill))
    value.backward()
    assert value.dtype == torch.float32 and value.isfinite() and logits.grad.isfinite().all()


def test_a_watch_finds_a_broken_term_one_step_late_and_names_it():
    weights, watch = {"dice": 1.0, "contrastive": 2.0}, LossWatch()
    good = {"dice": torch.tensor(0.5), "contrastive": torch.tensor(1.0)}
    assert total_loss(good, weights, watch) == 2.5
    total_loss({**good, "contrastive": torch.tensor(float("nan"))}, weights, watch)
    with pytest.raises(NonFiniteLossError, match="contrastive = nan"):
        total_loss(good, weights, watch)
    total_loss({**good, "dice": torch.tensor(float("inf"))}, weights, watch)
    copies = copy.deepcopy(watch), pickle.loads(pickle.dumps(watch))
    for other in copies:
        other.finish()
    with pytest.raises(NonFiniteLossError, match="dice = inf"):
        watch.finish()
    watch.finish()
