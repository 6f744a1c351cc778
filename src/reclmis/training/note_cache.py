"""A frozen text encoder need read each sentence once."""

from collections.abc import Sequence
from typing import Any

import torch


class NoteCache:
    """Hidden states of notes, encoded once per unique sentence; of more than `limit` sentences the latest are kept.

    Only for a frozen text encoder: its output depends on the note alone.

    Args:
        model: a [`RecLMISModel`] with `text_frozen=True`.
        processor: its processor.
        batch_size: notes per run of the encoder. Kernels round differently for batches of other sizes: with 1 a note's
            states do not depend on which notes came with it.
        limit: sentences to keep; each takes some tens of kilobytes on the model's device.

    Raises:
        ValueError: the text encoder is trained.
    """

    def __init__(self, model: Any, processor: Any, batch_size: int = 64, limit: int = 10_000) -> None:
        if not model.config.text_frozen:
            raise ValueError(
                "The text encoder is trained, so a note's states change; cache notes of a frozen one only."
            )
        self._model = model
        self._processor = processor
        self._batch_size = batch_size
        self._limit = limit
        self._entries: dict[str | None, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __call__(self, notes: Sequence[str | None]) -> dict[str, torch.Tensor]:
        """Model inputs of these notes: `text_hidden_states`, `attention_mask` and `input_ids`."""
        self.add(notes)
        for note in dict.fromkeys(notes):  # the latest come last
            self._entries[note] = self._entries.pop(note)
        while len(self._entries) > max(self._limit, len(set(notes))):
            del self._entries[next(iter(self._entries))]
        states, masks, ids = zip(*(self._entries[note] for note in notes), strict=True)
        return {
            "text_hidden_states": torch.stack(states),
            "attention_mask": torch.stack(masks),
            "input_ids": torch.stack(ids),
        }

    @torch.no_grad()
    def add(self, notes: Sequence[str | None]) -> None:
        """Encodes the notes that are new."""
        new = sorted({note for note in notes if note not in self._entries}, key=lambda note: note or "")
        for start in range(0, len(new), self._batch_size):
            chunk = new[start : start + self._batch_size]
            tokens = self._processor.tokenize(chunk, return_tensors="pt")
            ids, mask = (tokens[key].to(self._model.device) for key in ("input_ids", "attention_mask"))
            states = self._model.encode_text(ids, mask)
            # Copies: a part would keep its whole chunk in memory.
            parts = [(states[i].clone(), mask[i].clone(), ids[i].clone()) for i in range(len(chunk))]
            self._entries.update(zip(chunk, parts, strict=True))
