"""Notes that were encoded in advance, in place of the network that encoded them."""

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from ..registry import register_text_encoder
from .base import without_padding

NAME = "note_table"


class NoteTable(nn.Module):
    """Looks up the hidden states of known notes by their token ids. Nothing in it is trained.

    Where the questions are known beforehand, as in screening for a list of findings, a few megabytes replace a text
    tower. A note that is not in the table is an error, never a guess.

    Args:
        num_notes: notes in the table.
        length: tokens per note, padding included; states of padding are kept, as released weights attend to them.
        width: of a hidden state.
        vocab_size: number of ids of the tokenizer.
    """

    note_ids: torch.Tensor
    states: torch.Tensor

    def __init__(self, num_notes: int, length: int, width: int, vocab_size: int) -> None:
        super().__init__()
        self.width = width
        self.vocab_size = vocab_size
        # Padding is -1, whatever id a processor fills up with.
        self.register_buffer("note_ids", torch.full((num_notes, length), -1))
        self.register_buffer("states", torch.zeros(num_notes, length, width))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """States of the notes.

        Raises:
            ValueError: a note that is not in the table, or ids padded to another length than the table's.
        """
        equal = self._matches(input_ids, attention_mask)
        known = equal.any(dim=1)
        if torch.compiler.is_compiling():
            torch._assert_async(known.all(), "A note is not in the model's table of notes.")
        elif not known.all():
            missing = (~known).nonzero()[:, 0].tolist()
            raise ValueError(f"Note(s) {', '.join(map(str, missing))} of the batch are {self.refusal}")
        return self.states[equal.int().argmax(dim=1)]

    @property
    def refusal(self) -> str:
        """What to say of a note that is not in the table."""
        return (
            f"not among the {len(self.note_ids)} that this model keeps in place of its text encoder. Ask one of those, or "
            "use the model with its encoder."
        )

    def knows(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """`[B]` bool: which notes are in the table."""
        return self._matches(input_ids, attention_mask).any(dim=1)

    def _matches(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        length = self.note_ids.shape[1]
        if input_ids.shape[1] != length:
            raise ValueError(f"The table's notes have {length} tokens, but this one has {input_ids.shape[1]}.")
        return (without_padding(input_ids, attention_mask)[:, None] == self.note_ids).all(dim=-1)

    def get_input_embeddings(self) -> nn.Module:
        raise NotImplementedError("A table of notes has no token embeddings.")

    def set_input_embeddings(self, value: nn.Module) -> None:
        raise NotImplementedError("A table of notes has no token embeddings.")


@register_text_encoder(NAME)
def build_note_table(name: str, *, max_length: int, num_notes: int, width: int, vocab_size: int) -> NoteTable:
    if name:
        raise ValueError(f"The text encoder {NAME!r} takes no name, got {name!r}.")
    return NoteTable(num_notes, max_length, width, vocab_size)


@torch.no_grad()
def with_note_table(model: Any, processor: Any, notes: Iterable[str]) -> Any:
    """A copy of a model whose text encoder is replaced by the states of these notes.

    It answers them as the model does when asked one at a time, to the bit, and saves and loads like any other. The
    processor stays as it is.

    Args:
        model: a [`RecLMISModel`].
        processor: its processor.
        notes: every sentence that will be asked, the empty one included where it may be.

    Raises:
        ValueError: no notes.
    """
    unique = sorted(set(notes))
    if not unique:
        raise ValueError("A table needs at least one note.")
    config = deepcopy(model.config)
    config.text_encoder, config.text_frozen = NAME, True
    config.text_config = {
        # One row stays as it is built, all padding: no note, for a model that knows what to do without.
        "num_notes": len(unique) + bool(model.config.note_dropout),
        "width": model.text_encoder.width,
        "vocab_size": model.text_encoder.vocab_size,
    }
    table = type(model)(config)
    kept = {key: value for key, value in model.state_dict().items() if not key.startswith("text_encoder.")}
    own = {key for key in table.state_dict() if not key.startswith("text_encoder.")}
    if own != kept.keys():
        raise RuntimeError(f"Copying the model lost {', '.join(sorted(own ^ kept.keys()))}.")
    table.load_state_dict(kept, strict=False)
    model.eval()
    for row, note in enumerate(unique):
        # One at a time: in a batch, matrix products round differently.
        tokens = processor.tokenize([note], return_tensors="pt", max_length=config.max_text_length)
        ids, mask = (tokens[key].to(model.device) for key in ("input_ids", "attention_mask"))
        table.text_encoder.note_ids[row] = without_padding(ids, mask)[0].cpu()
        table.text_encoder.states[row] = model.encode_text(ids, mask)[0].to("cpu", table.text_encoder.states.dtype)
    return table.to(model.device, model.dtype).eval()
