"""The contract that every text encoder keeps."""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from ..registry import text_encoders


@runtime_checkable
class TextEncoder(Protocol):
    """What the model needs of a text encoder; any `nn.Module` with these members will do.

    Attributes:
        width: size of each hidden state.
        vocab_size: number of token ids it knows.

    A registered builder is called as `builder(name, *, max_length, **text_config)`, where `name` is the part of the id
    behind the colon. It allocates and never reads weights; `load_pretrained(source)` may, and
    [`RecLMISModel.from_parts`] calls it. A builder may carry an attribute `complete_config(name, text_config) -> dict`,
    called once when a configuration is made, which returns everything needed to build the encoder offline ever after; and
    an attribute `build_tokenizer(config, notes)`, called by [`RecLMISProcessor.from_model_config`] with the model's
    configuration and the training notes (or `None`), which returns a tokenizer of transformers with at most `vocab_size`
    ids. Without it, users construct the processor with a tokenizer themselves. An attribute `pad_token_id` fills notes up
    with another id than the tokenizer's own.

    An encoder that answers some notes only has a method `knows(input_ids, attention_mask) -> [B] bool`, a text
    `refusal` of what to say of the others, for which it raises a `ValueError`, and computes nothing.
    """

    width: int
    vocab_size: int

    def __call__(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """`[B, L]` ids and `[B, L]` mask (1 = real token, `None` = every token) -> `[B, L, width]`."""
        ...

    def get_input_embeddings(self) -> nn.Module: ...

    def set_input_embeddings(self, value: nn.Module) -> None: ...


def without_padding(input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """`[B, L]` ids with -1 for padding, whatever id it was filled up with: equal rows are equal notes."""
    return input_ids if attention_mask is None else input_ids.masked_fill(~attention_mask.bool(), -1)


def build_text_encoder(part_id: str, *, max_length: int, **text_config: Any) -> nn.Module:
    """Builds the text encoder registered as `part_id` and holds it to the contract.

    Raises:
        ValueError: unknown id, or an encoder that lacks a member of the contract.
    """
    builder = text_encoders.get(part_id)
    text_config.pop("pretrained", None)
    encoder = builder(part_id.partition(":")[2], max_length=max_length, **text_config)
    if not isinstance(encoder, TextEncoder):
        raise ValueError(f"The text encoder {part_id!r} lacks `width`, `vocab_size` or the input embedding accessors.")
    return encoder  # type: ignore[return-value]


def complete_text_config(part_id: str, text_config: dict[str, Any]) -> dict[str, Any]:
    """`text_config` with whatever the encoder must look up elsewhere written into it (see [`TextEncoder`])."""
    complete = getattr(text_encoders.get(part_id), "complete_config", None)
    return complete(part_id.partition(":")[2], text_config) if complete is not None else text_config
