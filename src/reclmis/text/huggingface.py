"""Any Hugging Face text encoder (BERT, RoBERTa, MPNet, XLM-R, ...), as `hf:<model>`."""

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, AutoTokenizer, PreTrainedConfig

from ..errors import one_line
from ..registry import register_text_encoder
from .note_tokenizer import learn_tokenizer

# Checkpoints with code of their own around an encoder that transformers has: CXR-BERT is a BERT with one more head.
KNOWN_AS = {"cxr-bert": "bert"}
_NOT_ARCHITECTURE = ("model_type", "auto_map", "architectures", "transformers_version", "torch_dtype", "dtype",
                     "_name_or_path", "_commit_hash")  # fmt: skip


class HuggingFaceTextEncoder(nn.Module):
    """Last hidden states of an encoder from transformers.

    Args:
        config: the encoder's whole configuration, `model_type` included.

    Raises:
        ValueError: `model_type` is missing or unknown, or names a decoder-only or encoder-decoder model.
    """

    def __init__(self, **config: Any) -> None:
        super().__init__()
        arguments = dict(config)
        model_type = arguments.pop("model_type", None)
        if model_type is None:
            raise ValueError("`text_config` of an 'hf:' encoder needs the encoder's configuration with `model_type`.")
        hf_config = AutoConfig.for_model(model_type, **arguments)
        if getattr(hf_config, "is_encoder_decoder", False) or getattr(hf_config, "is_decoder", False):
            raise ValueError(f"{model_type!r} is configured as a decoder; RecLMIS needs an encoder.")
        self.transformer = AutoModel.from_config(hf_config)
        # A pooler makes one vector per sentence; nothing here uses it, and it would never get a gradient.
        if getattr(self.transformer, "pooler", None) is not None:
            self.transformer.pooler = None
        self.width = hf_config.hidden_size
        self.vocab_size = hf_config.vocab_size

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        return self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    def get_input_embeddings(self) -> nn.Module:
        return self.transformer.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.transformer.set_input_embeddings(value)
        self.vocab_size = value.num_embeddings

    def load_pretrained(self, source: bool | str) -> None:
        """Loads the encoder's weights from the Hub id or folder `source`.

        Raises:
            ValueError: weights of the encoder are missing from `source`.
            OSError: `source` has no `.safetensors` file; nothing pickled is read.
        """
        loaded, report = AutoModel.from_pretrained(
            str(source), config=self.transformer.config, output_loading_info=True, use_safetensors=True
        )
        missing = [key for key in report["missing_keys"] if not key.startswith("pooler.")]
        if missing:
            raise ValueError(f"{source!r} lacks weights of the text encoder: {', '.join(sorted(missing))}.")
        weights = {key: value for key, value in loaded.state_dict().items() if not key.startswith("pooler.")}
        self.transformer.load_state_dict(weights)


@register_text_encoder("hf")
def build_hugging_face(name: str, *, max_length: int, **config: Any) -> HuggingFaceTextEncoder:
    encoder = HuggingFaceTextEncoder(**config)
    positions = getattr(encoder.transformer.config, "max_position_embeddings", None)
    # RoBERTa's position table starts behind the padding index, so a few of its rows are never reached.
    reserved = (getattr(encoder.transformer.config, "pad_token_id", None) or 0) + 1
    if positions is not None and max_length > positions - (reserved if "roberta" in name.lower() else 0):
        raise ValueError(f"`max_text_length` is {max_length}, but the text encoder {name!r} has {positions} positions.")
    return encoder


def _complete_config(name: str, config: dict[str, Any]) -> dict[str, Any]:
    if "model_type" in config:
        return config
    if not name:
        raise ValueError("'hf:' needs a model: 'hf:<hub id or folder>', or `text_config` with a `model_type`.")
    raw, _ = PreTrainedConfig.get_config_dict(name)
    published = str(raw.get("model_type"))
    model_type = KNOWN_AS.get(published, published)
    if model_type not in CONFIG_MAPPING:
        raise ValueError(
            f"{name!r} is of type {published!r}, which transformers does not know. Code that comes with a checkpoint is "
            "never run here: if it is one of transformers' architectures, give `text_config` with that `model_type`."
        )
    found = AutoConfig.for_model(model_type, **{key: raw[key] for key in raw if key not in _NOT_ARCHITECTURE})
    fetched = found.to_diff_dict()
    fetched.pop("transformers_version", None)
    return {**fetched, "model_type": model_type, "pretrained": name, **config}


build_hugging_face.complete_config = _complete_config  # type: ignore[attr-defined]


def _build_tokenizer(config: Any, notes: Iterable[str] | None) -> Any:
    """The encoder's own, or one learned from the notes where the encoder has no name to get it by."""
    pretrained = config.text_config.get("pretrained")
    name = pretrained if isinstance(pretrained, str) else config.text_encoder.partition(":")[2]
    return _load_tokenizer(name, config.text_config.get("model_type")) if name else learn_tokenizer(config, notes)


build_hugging_face.build_tokenizer = _build_tokenizer  # type: ignore[attr-defined]


def _load_tokenizer(name: str, model_type: str | None):
    try:
        try:
            return AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        except ValueError as error:
            # A tokenizer that comes as code is never run; the one of the encoder's type reads the same files.
            if model_type is None:
                raise
            warnings.warn(
                f"The tokenizer of {name!r} cannot be had as published ({one_line(error)}): transformers' own for "
                f"{model_type!r} reads its files instead.",
                stacklevel=2,
            )
            return AutoTokenizer.from_pretrained(name, tokenizer_type=model_type)
    except OSError as error:
        raise OSError(
            f"The tokenizer of {name!r} is neither cached nor reachable. Connect once, or give a folder. ({error})"
        ) from error
