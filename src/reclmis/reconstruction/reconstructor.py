"""The conditioned reconstructor Psi (paper eq. 7 and 9, Figure 5): two stacks of conditioned transformer layers."""

# Shapes: B samples, C width, T masked target tokens, S source tokens.

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F
from transformers.modeling_layers import GradientCheckpointingLayer

from ..attention import MultiHeadAttention


class ConditionedReconstructor(nn.Module):
    """Fills in masked features of one modality from the other, weighing the source by its interest.

    The memory stack runs over the source, its self-attention conditioned by the weights of interest; the target stack
    runs over the masked features and attends to the memory, again conditioned. Layers are post-norm.

    Args:
        width: C.
        heads: attention heads.
        layers: layers of each stack.
        intermediate_size: width of the feed-forward layers.
        dropout: on attention, feed-forward and residual branches.
        conditioning: how weights enter an attention, see [`MultiHeadAttention`].
        causal: causal masks in both self-attentions, as released weights have.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        layers: int,
        intermediate_size: int,
        *,
        dropout: float = 0.1,
        conditioning: Literal["gate", "hadamard"] = "gate",
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.conditioning = conditioning
        self.causal = causal
        arguments = (width, heads, intermediate_size, dropout)
        self.memory_layers = nn.ModuleList(MemoryLayer(*arguments) for _ in range(layers))
        self.target_layers = nn.ModuleList(TargetLayer(*arguments) for _ in range(layers))

    def forward(
        self,
        masked: torch.Tensor,
        source: torch.Tensor,
        condition: torch.Tensor | None,
        *,
        masked_mask: torch.Tensor | None = None,
        source_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Reconstructs the target.

        Args:
            masked: `[B, T, C]` features with hidden tokens set to zero.
            source: `[B, S, C]` features of the other modality.
            condition: `[B, S]` weights of interest of the source; `None` for no condition (Table 4).
            masked_mask: `[B, T]`, true where the target token is real.
            source_mask: `[B, S]`, true where the source token is real.

        Returns:
            `[B, T, C]`.
        """
        # Tensors with a gradient go by position: checkpointing that re-enters the graph sees no others.
        memory = source
        for layer in self.memory_layers:
            memory = layer(
                memory, condition, source_mask=source_mask, conditioning=self.conditioning, causal=self.causal
            )
        target = masked
        for layer in self.target_layers:
            target = layer(
                target, memory, condition, target_mask=masked_mask, memory_mask=source_mask,
                conditioning=self.conditioning, causal=self.causal,
            )  # fmt: skip
        return target


class FeedForward(nn.Module):
    def __init__(self, width: int, intermediate_size: int, dropout: float) -> None:
        super().__init__()
        self.expand = nn.Linear(width, intermediate_size)
        self.contract = nn.Linear(intermediate_size, width)
        self.dropout = dropout

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = F.dropout(F.relu(self.expand(tokens)), self.dropout, self.training)
        return F.dropout(self.contract(hidden), self.dropout, self.training)


class MemoryLayer(GradientCheckpointingLayer):
    """Conditioned self-attention, then feed-forward."""

    def __init__(self, width: int, heads: int, intermediate_size: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(width, heads, dropout)
        self.self_attention_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, intermediate_size, dropout)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens, condition, *, source_mask, conditioning, causal) -> torch.Tensor:
        attended, _ = self.self_attention(
            tokens, tokens, source_mask=source_mask, condition=condition, conditioning=conditioning, causal=causal
        )
        tokens = self.self_attention_norm(tokens + self.dropout(attended))
        return self.feed_forward_norm(tokens + self.feed_forward(tokens))


class TargetLayer(GradientCheckpointingLayer):
    """Self-attention, cross-attention to the memory with conditioned weights, then feed-forward."""

    def __init__(self, width: int, heads: int, intermediate_size: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(width, heads, dropout)
        self.self_attention_norm = nn.LayerNorm(width)
        self.cross_attention = MultiHeadAttention(width, heads, dropout)
        self.cross_attention_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, intermediate_size, dropout)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens, memory, condition, *, target_mask, memory_mask, conditioning, causal) -> torch.Tensor:
        attended, _ = self.self_attention(tokens, tokens, source_mask=target_mask, causal=causal)
        tokens = self.self_attention_norm(tokens + self.dropout(attended))
        attended, _ = self.cross_attention(
            tokens, memory, source_mask=memory_mask, condition=condition, conditioning=conditioning
        )
        tokens = self.cross_attention_norm(tokens + self.dropout(attended))
        return self.feed_forward_norm(tokens + self.feed_forward(tokens))
