"""Text encoders: each turns token ids into one hidden state per token."""

from .base import TextEncoder, build_text_encoder, complete_text_config, without_padding
from .clip import CLIPTextTower
from .huggingface import HuggingFaceTextEncoder
from .note_table import NoteTable, with_note_table
from .tokens import TokenTransformer

__all__ = [
    "CLIPTextTower",
    "HuggingFaceTextEncoder",
    "NoteTable",
    "TextEncoder",
    "TokenTransformer",
    "build_text_encoder",
    "complete_text_config",
    "with_note_table",
    "without_padding",
]
