"""CLIP's text tower. The image half of CLIP is never built."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from ..registry import register_text_encoder

PAPER_WEIGHTS = "openai/clip-vit-base-patch32"
VOCABULARY_SIZE = 49408


class CLIPTextTower(nn.Module):
    """Projected hidden states of a CLIP text transformer (paper 3.1: the 12 layers of ViT-B/32).

    CLIP's text attention is causal, so padding on the right cannot reach a real token.

    Args:
        projection_dim: width of the joint space that every hidden state is projected to.
        config: arguments of `transformers.CLIPTextConfig`; its defaults are ViT-B/32's.
    """

    def __init__(self, projection_dim: int = 512, **config: Any) -> None:
        super().__init__()
        clip_config = CLIPTextConfig(**{"pad_token_id": 0, "bos_token_id": 49406, "eos_token_id": 49407, **config})
        self.transformer = CLIPTextModel(clip_config)
        self.projection = nn.Linear(clip_config.hidden_size, projection_dim, bias=False)
        self.width = projection_dim
        self.vocab_size = clip_config.vocab_size

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        states = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.projection(states)

    def get_input_embeddings(self) -> nn.Module:
        return self.transformer.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.transformer.set_input_embeddings(value)
        self.vocab_size = value.num_embeddings  # type: ignore[assignment]

    def load_pretrained(self, source: bool | str = True) -> None:
        """Loads a CLIP text tower with projection from the Hub or a folder (`True`: the paper's ViT-B/32)."""
        from transformers import CLIPTextModelWithProjection

        name = PAPER_WEIGHTS if source is True else str(source)
        loaded = CLIPTextModelWithProjection.from_pretrained(name, use_safetensors=True)
        self.transformer.load_state_dict(loaded.text_model.state_dict())
        self.projection.load_state_dict(loaded.text_projection.state_dict())


@register_text_encoder("clip")
def build_clip(name: str, *, max_length: int, **config: Any) -> CLIPTextTower:
    if name:
        raise ValueError(f"The text encoder 'clip' takes no name, got {name!r}; its architecture is `text_config`.")
    tower = CLIPTextTower(**config)
    positions = tower.transformer.config.max_position_embeddings
    if max_length > positions:
        raise ValueError(f"`max_text_length` is {max_length}, but this CLIP text tower has {positions} positions.")
    return tower


def _build_tokenizer(config: Any, notes: Iterable[str] | None) -> Any:
    pretrained = config.text_config.get("pretrained")
    return load_clip_tokenizer(pretrained if isinstance(pretrained, str) else PAPER_WEIGHTS)


build_clip.build_tokenizer = _build_tokenizer  # type: ignore[attr-defined]
# As released weights were trained; the tokenizer's own padding is the end token.
build_clip.pad_token_id = 0  # type: ignore[attr-defined]


def load_clip_tokenizer(source: str = PAPER_WEIGHTS):
    """CLIP's byte-pair tokenizer: from the Hub's cache, else from the vocabulary inside open_clip, else from the Hub.

    Args:
        source: Hub id or folder of a CLIP model; its tokenizer is the same for all of OpenAI's.

    Raises:
        OSError: none of the three is there.
    """
    from transformers import CLIPTokenizer

    from .clip_vocabulary import open_clip_tokenizer

    ways: tuple[Callable[[], Any], ...] = (
        lambda: CLIPTokenizer.from_pretrained(source, local_files_only=True),
        open_clip_tokenizer,
        lambda: CLIPTokenizer.from_pretrained(source),
    )
    reasons = []
    for load in ways:
        try:
            tokenizer = load()
        except (OSError, ImportError) as error:
            reasons.append(str(error).strip().partition("\n")[0])
            continue
        # Where the files are missing, transformers hands out a tokenizer without a vocabulary and says nothing.
        if len(tokenizer) >= VOCABULARY_SIZE:
            return tokenizer
        reasons.append(f"transformers found no vocabulary of {source}")
    raise OSError(
        f"CLIP's tokenizer ({source}) is neither cached nor reachable. Connect once, or install the vocabulary with "
        f"`pip install reclmis[clip]`. Tried: {' | '.join(reasons)}"
    )
