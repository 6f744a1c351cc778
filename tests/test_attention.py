import pytest
import torch

from reclmis.attention import MultiHeadAttention


@pytest.fixture
def attention():
    return MultiHeadAttention(8, 2).eval()


def inputs():
    return torch.randn(2, 5, 8), torch.randn(2, 4, 8), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])


def test_agrees_with_torch(attention):
    query, source, mask = inputs()
    theirs = torch.nn.MultiheadAttention(8, 2, batch_first=True).eval()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([attention.query.weight, attention.key.weight, attention.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([attention.query.bias, attention.key.bias, attention.value.bias]))
        theirs.out_proj.load_state_dict(attention.output.state_dict())
    expected, weights = theirs(query, source, source, key_padding_mask=mask == 0, average_attn_weights=False)
    ours, maps = attention(query, source, source_mask=mask, output_attentions=True)
    assert torch.allclose(ours, expected, atol=1e-6)
    assert torch.allclose(maps, weights, atol=1e-6)
    fused, nothing = attention(query, source, source_mask=mask)
    assert nothing is None and torch.allclose(fused, expected, atol=1e-6)


@pytest.mark.parametrize("output_attentions", [False, True])
def test_gate_multiplies_probabilities_and_renormalises(attention, output_attentions):
    query, source, mask = inputs()
    condition = torch.rand(2, 4)
    _, plain = attention(query, source, source_mask=mask, output_attentions=True)
    gated = plain * (condition[:, None, None] + 1e-10)
    gated = gated / gated.sum(-1, keepdim=True)
    values = attention.value(source).unflatten(-1, (2, 4)).transpose(1, 2)
    expected = attention.output((gated @ values).transpose(1, 2).flatten(2))
    ours, _ = attention(query, source, source_mask=mask, condition=condition, output_attentions=output_attentions)
    assert torch.allclose(ours, expected, atol=1e-6)


def test_hadamard_multiplies_logits(attention):
    query, source, _ = inputs()
    condition = torch.rand(2, 4)
    queries = attention.query(query).unflatten(-1, (2, 4)).transpose(1, 2)
    keys = attention.key(source).unflatten(-1, (2, 4)).transpose(1, 2)
    expected = (queries @ keys.transpose(-1, -2) / 2 * condition[:, None, None]).softmax(-1)
    _, maps = attention(query, source, condition=condition, conditioning="hadamard", output_attentions=True)
    assert torch.allclose(maps, expected, atol=1e-6)


def test_causal_sees_no_later_token(attention):
    tokens = torch.randn(1, 4, 8)
    _, maps = attention(tokens, tokens, causal=True, output_attentions=True)
    assert maps.triu(1).abs().max() == 0
    changed = tokens.clone()
    changed[:, 3] += 1
    before, after = (attention(t, t, causal=True)[0] for t in (tokens, changed))
    assert torch.allclose(before[:, :3], after[:, :3], atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("condition", [None, torch.zeros(1, 3)])
@pytest.mark.parametrize("output_attentions", [False, True])
def test_a_wholly_masked_source_is_finite_forward_and_backward(dtype, condition, output_attentions):
    attention = MultiHeadAttention(8, 2).to(dtype)
    query = torch.randn(1, 2, 8, dtype=dtype, requires_grad=True)
    source = torch.randn(1, 3, 8, dtype=dtype)
    output, _ = attention(
        query, source, source_mask=torch.zeros(1, 3), condition=condition, output_attentions=output_attentions
    )
    output.sum().backward()
    assert output.isfinite().all() and query.grad.isfinite().all()
    assert torch.equal(output[0, 0], attention.output.bias)
