"""Multi-head attention over a padded, optionally weighted source: the one attention of this package."""

# Shapes: B samples, T queries, S source tokens, C width.

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention with a key mask, a causal mask, and a condition on the source (paper eq. 1, 7, 9).

    Conditioning by weights w over the source, in two forms:

    - `"gate"`: probabilities p become p * (w + 1e-10), renormalised. That equals adding log(w + 1e-10) to the logits.
    - `"hadamard"`: the logits are multiplied by w (eq. 7). That equals scaling the keys by w.

    A query whose source is wholly masked gets the output bias: finite, whatever the padding holds.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(
        self,
        query: torch.Tensor,
        source: torch.Tensor,
        *,
        source_mask: torch.Tensor | None = None,
        condition: torch.Tensor | None = None,
        conditioning: Literal["gate", "hadamard"] = "gate",
        causal: bool = False,
        output_attentions: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attends from `query` `[B, T, C]` to `source` `[B, S, C]`.

        Args:
            source_mask: `[B, S]`, true where the source is real.
            condition: `[B, S]` non-negative weights of the source.
            causal: query t sees source tokens up to t only (T = S).
            output_attentions: also return the attention probabilities.

        Returns:
            The output `[B, T, C]`, and the probabilities `[B, heads, T, S]` or `None`.
        """
        queries = self._split(self.query(query))
        keys = self._split(self.key(source))
        values = self._split(self.value(source))
        if condition is not None and conditioning == "hadamard":
            keys = keys * condition[:, None, :, None].to(keys.dtype)
            condition = None
        mask = _allowed(queries, keys, source_mask, causal)
        bias = None if condition is None else _gate_logits(condition, keys.dtype)
        dropout = self.dropout if self.training else 0.0
        if output_attentions:
            attended, probabilities = _attend_with_weights(queries, keys, values, mask, bias, dropout)
        else:
            attended, probabilities = _attend(queries, keys, values, mask, bias, dropout), None
        return self.output(attended.transpose(1, 2).flatten(2)), probabilities

    def _split(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def _allowed(
    queries: torch.Tensor, keys: torch.Tensor, source_mask: torch.Tensor | None, causal: bool
) -> torch.Tensor | None:
    """Boolean `[B, 1, 1 or T, S]`, true = attend; `None` attends to all."""
    allowed = None if source_mask is None else source_mask.bool()[:, None, None, :]
    if causal:
        steps = torch.ones(queries.shape[-2], keys.shape[-2], dtype=torch.bool, device=keys.device).tril()
        allowed = steps if allowed is None else allowed & steps
    return allowed


def _gate_logits(condition: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """`[B, 1, S, 1]`. In float32 until the logarithm: 1e-10 is zero in float16."""
    return (condition.float() + 1e-10).log().to(dtype)[:, None, :, None]


def _attend(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    bias: torch.Tensor | None,
    dropout: float,
) -> torch.Tensor:
    """Attention by the fused kernel.

    An added mask that wants a gradient would force the slow path. So the bias, which is the same for every query, rides
    along as one more channel of the keys, against a constant in the queries: the same logits, and fused.
    """
    if bias is None:
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, dropout_p=dropout)
    width = queries.shape[-1]
    # Fused kernels want a multiple of eight channels.
    padding = -(width + 1) % 8
    queries = F.pad(F.pad(queries, (0, 1), value=width**0.5), (0, padding))
    keys = F.pad(torch.cat([keys, bias.expand(*keys.shape[:-1], 1)], dim=-1), (0, padding))
    values = F.pad(values, (0, 1 + padding))
    attended = F.scaled_dot_product_attention(
        queries, keys, values, attn_mask=mask, dropout_p=dropout, scale=width**-0.5
    )
    return attended[..., :width]


def _attend_with_weights(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    bias: torch.Tensor | None,
    dropout: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    logits = queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5
    if bias is not None:
        logits = logits + bias.transpose(-1, -2)
    if mask is None:
        probabilities = logits.softmax(dim=-1)
    else:
        # A wholly masked row is nan after softmax; like the fused kernel, it attends to nothing. Filling last keeps the
        # nan out of the gradient as well.
        probabilities = logits.masked_fill(~mask, float("-inf")).softmax(dim=-1).nan_to_num(0.0)
    return F.dropout(probabilities, dropout) @ values, probabilities
