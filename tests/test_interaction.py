import pytest
import torch

from reclmis.interaction import (
    ConditionedInteraction,
    InterestHead,
    MaskedBatchNorm1d,
    PatchEmbedding,
    WordProjection,
    masked_softmax,
)

MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()


def test_projection_sees_the_end_of_the_note_and_not_its_padding():
    project = WordProjection(6, 4)
    states = torch.randn(2, 5, 6)
    padded = project(states, MASK)
    alone = project(states[1:, :3], None)
    assert torch.allclose(padded[1:, :3], alone, atol=1e-6)
    assert padded[1, 3:].abs().max() == 0
    states[1, 3:] = float("nan")
    assert torch.equal(project(states, MASK), padded)


def test_masked_batch_norm_has_the_statistics_of_real_tokens():
    values = torch.randn(2, 3, 5)
    ours, theirs = MaskedBatchNorm1d(3), torch.nn.BatchNorm1d(3)
    real = values.transpose(1, 2)[MASK]
    expected = theirs(real)
    normalised = ours(values, MASK).transpose(1, 2)[MASK]
    assert torch.allclose(normalised, expected, atol=1e-5)
    assert torch.allclose(ours.running_mean, theirs.running_mean, atol=1e-6)
    assert torch.allclose(ours.running_var, theirs.running_var, atol=1e-6)
    assert ours.num_batches_tracked == 1


def test_masked_batch_norm_without_padding_is_batch_norm():
    values, ours, theirs = torch.randn(4, 3, 5), MaskedBatchNorm1d(3), torch.nn.BatchNorm1d(3)
    assert torch.allclose(ours(values, torch.ones(4, 5)), theirs(values), atol=1e-5)
    assert torch.equal(ours.eval()(values), ours(values, torch.ones(4, 5)))


def test_positions_are_resized_for_other_grids():
    embedding = PatchEmbedding(4, (2, 2), dropout=0.0)
    torch.nn.init.zeros_(embedding.projection.weight)
    torch.nn.init.zeros_(embedding.projection.bias)
    with torch.no_grad():
        embedding.position_embedding.copy_(torch.arange(4.0)[None, :, None].expand(1, 4, 4))
    assert torch.equal(embedding(torch.zeros(1, 4, 2, 2))[0, :, 0], torch.arange(4.0))
    larger = embedding(torch.zeros(1, 4, 4, 6))[0, :, 0].view(4, 6)
    assert larger.shape == (4, 6)
    # rows and columns still grow in their own direction
    assert (larger.diff(dim=0).mean() > 0) and (larger.diff(dim=1).mean() > 0)


@pytest.mark.parametrize("kind", ["cross", "self", "none"])
@pytest.mark.parametrize("block", ["plain", "residual"])
def test_kinds_have_one_shape_and_ignore_padding(kind, block):
    interaction = ConditionedInteraction(8, 2, (2, 3), kind=kind, block=block).eval()
    feature, words = torch.randn(2, 8, 2, 3), torch.randn(2, 5, 8).masked_fill(~MASK[:, :, None], 0.0)
    patches, refined, maps = interaction(feature, words, MASK, output_attentions=True)
    assert patches.shape == (2, 6, 8) and refined.shape == (2, 5, 8)
    shorter, refined_shorter, _ = interaction(feature[1:], words[1:, :3], MASK[1:, :3])
    assert torch.allclose(patches[1:], shorter, atol=1e-5)
    assert torch.allclose(refined[1:, :3], refined_shorter, atol=1e-5)
    assert set(maps) == {"cross": {"words_to_patches", "patches_to_words"}, "self": {"joint"}, "none": set()}[kind]
    for weights in maps.values():
        assert torch.allclose(weights.sum(-1), torch.ones(()), atol=1e-5)


def test_the_note_reaches_the_patches_only_through_interaction():
    feature, words = torch.randn(1, 8, 2, 3), torch.randn(1, 5, 8)
    for kind, reached in (("cross", True), ("self", True), ("none", False)):
        interaction = ConditionedInteraction(8, 2, (2, 3), kind=kind).eval()
        changed = interaction(feature, words + 1, None)[0]
        assert torch.equal(interaction(feature, words, None)[0], changed) != reached


def test_interest_sums_to_one_over_real_tokens():
    weights = InterestHead(8)(torch.randn(2, 5, 8).bfloat16().float(), MASK)
    assert weights.dtype == torch.float32
    assert torch.allclose(weights.sum(1), torch.ones(2)) and weights[1, 3:].abs().max() == 0


def test_masked_softmax_of_nothing_is_zero():
    assert torch.equal(masked_softmax(torch.randn(1, 3), torch.zeros(1, 3)), torch.zeros(1, 3))
    assert torch.allclose(masked_softmax(torch.tensor([[1.0, 1.0, 9.0]]), torch.tensor([[1, 1, 0]])),
                          torch.tensor([[0.5, 0.5, 0.0]]))  # fmt: skip
