"""A small transformer over the tokens of the notes, trained from scratch with the rest of the model.

For data far from English, for corpora with a few dozen words, and for work without any download. Its tokenizer is
learned from the training notes, see `note_tokenizer.py`.
"""

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from ..attention import MultiHeadAttention
from ..registry import register_text_encoder
from .note_tokenizer import learn_tokenizer


class TokenTransformer(nn.Module):
    """Pre-norm transformer encoder with learned positions.

    Args:
        vocab_size: number of token ids.
        max_length: longest note in tokens.
        hidden_size: width.
        num_hidden_layers: layers.
        num_attention_heads: heads.
        dropout: on embeddings, attention and feed-forward.
    """

    def __init__(
        self,
        vocab_size: int = 4096,
        max_length: int = 32,
        hidden_size: int = 128,
        num_hidden_layers: int = 2,
        num_attention_heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.width = hidden_size
        self.vocab_size = vocab_size
        self.token_embedding = nn.Embedding(vocab_size, hidden_size)
        self.position_embedding = nn.Embedding(max_length, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            TokenLayer(hidden_size, num_attention_heads, dropout) for _ in range(num_hidden_layers)
        )
        self.norm = nn.LayerNorm(hidden_size)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        length, positions = input_ids.shape[1], self.position_embedding.num_embeddings
        if length > positions:
            raise ValueError(f"The note has {length} tokens, but this text encoder has {positions} positions.")
        states = self.token_embedding(input_ids) + self.position_embedding.weight[:length]
        states = self.dropout(states)
        for layer in self.layers:
            states = layer(states, attention_mask)
        return self.norm(states)

    def get_input_embeddings(self) -> nn.Module:
        return self.token_embedding

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.token_embedding = value
        self.vocab_size = value.num_embeddings


class TokenLayer(GradientCheckpointingLayer):
    """Pre-norm self-attention and feed-forward, each with a residual."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, heads, dropout)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        normed = self.attention_norm(states)
        attended, _ = self.attention(normed, normed, source_mask=attention_mask)
        states = states + self.dropout(attended)
        return states + self.dropout(self.feed_forward(self.feed_forward_norm(states)))


@register_text_encoder("tokens")
def build_tokens(name: str, *, max_length: int, **config) -> TokenTransformer:
    if name:
        raise ValueError(f"The text encoder 'tokens' takes no name, got {name!r}; set `text_config`.")
    return TokenTransformer(max_length=max_length, **config)


build_tokens.build_tokenizer = learn_tokenizer  # type: ignore[attr-defined]
