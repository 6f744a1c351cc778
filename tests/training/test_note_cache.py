import pytest
import torch

from reclmis import RecLMISProcessor
from reclmis.training import NoteCache
from tests.parts import make_inputs, tiny_config, tiny_model

TEXT = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "dropout": 0.5}
NOTES = ["upper left lung", "lower right lung", "upper left lung", "all left lung"]


def parts(**changes):
    changes = {"text_config": TEXT, "text_frozen": True, **changes}
    return tiny_model(**changes), RecLMISProcessor.from_model_config(tiny_config(**changes), notes=NOTES)


def test_each_sentence_is_read_once(monkeypatch):
    model, processor = parts()
    read = []
    original = model.text_encoder.forward
    monkeypatch.setattr(model.text_encoder, "forward", lambda ids, mask: read.append(len(ids)) or original(ids, mask))
    cache = NoteCache(model, processor, batch_size=2)
    for _ in range(3):
        cache(NOTES)
    assert read == [2, 1] and len(cache) == 3


def test_cached_states_give_the_same_result_also_while_training():
    model, processor = parts()
    cache = NoteCache(model.train(), processor)
    cached = cache(NOTES[:2])
    tokens = processor.tokenize(NOTES[:2], return_tensors="pt")
    pixels = make_inputs(2)["pixel_values"]
    model.eval()
    with torch.no_grad():
        through_ids = model(pixels, **tokens).logits
        assert torch.equal(model(pixels, **cached).logits, through_ids)


def test_a_trained_encoder_is_not_cached():
    with pytest.raises(ValueError, match="text encoder is trained"):
        NoteCache(*parts(text_frozen=False))
