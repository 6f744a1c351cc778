"""Text encoders: each turns token ids into one hidden state per token."""

from .base import TextEncoder, build_text_encoder, complete_text_config
from .clip import CLIPTextTower
from .huggingface import HuggingFaceTextEncoder
from .tokens import TokenTransformer

__all__ = [
    "CLIPTextTower",
    "HuggingFaceTextEncoder",
    "TextEncoder",
    "TokenTransformer",
    "build_text_encoder",
    "complete_text_config",
]
