"""Tiny real parts that many tests share."""

import torch

from reclmis.configuration_reclmis import RecLMISConfig
from reclmis.image_processing_reclmis import RecLMISImageProcessor
from reclmis.modeling_reclmis import RecLMISModel
from reclmis.processing_reclmis import RecLMISProcessor
from reclmis.text.note_tokenizer import build_note_tokenizer

LENGTH = 12

TINY_TEXT = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
# With room for a learned tokenizer, which knows every byte.
NOTE_TEXT = {**TINY_TEXT, "vocab_size": 400}


def tiny_config(**changes) -> RecLMISConfig:
    """The smallest configuration in which every part of the method exists."""
    return RecLMISConfig.tiny(
        **{
            "image_size": 64,
            "visual_config": {"widths": [4, 8, 12, 16, 24]},
            "decoder_widths": [16, 12, 8, 8],
            "hidden_size": 32,
            "text_config": TINY_TEXT,
            "max_text_length": LENGTH,
            "reconstruction_layers": 1,
            "reconstruction_intermediate_size": 32,
            **changes,
        }
    )


def tiny_model(**changes) -> RecLMISModel:
    torch.manual_seed(0)
    return RecLMISModel(tiny_config(**changes)).eval()


def tiny_processor(notes) -> RecLMISProcessor:
    """For `tiny_model(text_config=NOTE_TEXT)`, with a tokenizer learned from these notes."""
    image_processor = RecLMISImageProcessor(size={"height": 64, "width": 64})
    return RecLMISProcessor(image_processor, build_note_tokenizer(list(notes) * 2, vocab_size=400), max_length=LENGTH)


def write_checkpoint(folder, notes, **changes) -> None:
    """A lively model and its processor."""
    lively(tiny_model(text_config=NOTE_TEXT, **changes)).save_pretrained(folder)
    tiny_processor(notes).save_pretrained(folder)


def lively(model: RecLMISModel, inputs=None) -> RecLMISModel:
    """Gives batch norms statistics of real activations, so that an untrained network's logits have a scale of 1."""
    if inputs is None:
        inputs = make_inputs(batch=8, generator=torch.Generator().manual_seed(1))
    model.train()
    with torch.no_grad():
        for _ in range(12):
            model(**inputs)
    return model.eval()


def make_inputs(batch=2, height=64, width=64, labels=False, num_labels=1, length=LENGTH, vocabulary=64, generator=None):
    """Images, notes of different lengths (start 1, end 2, padding 0), and masks when asked for."""
    generator = generator or torch.Generator().manual_seed(0)
    ids = torch.randint(3, vocabulary, (batch, length), generator=generator)
    lengths = torch.tensor([length - (3 * i) % (length - 3) for i in range(batch)])
    mask = torch.arange(length)[None] < lengths[:, None]
    ids[:, 0] = 1
    ids[torch.arange(batch), lengths - 1] = 2
    inputs = {
        "pixel_values": torch.randn(batch, 3, height, width, generator=generator),
        "input_ids": ids * mask,
        "attention_mask": mask.long(),
    }
    if labels:
        classes = max(num_labels, 2)
        inputs["labels"] = torch.randint(0, classes, (batch, height, width), generator=generator)
    return inputs
