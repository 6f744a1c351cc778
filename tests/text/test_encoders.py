"""Contract tests that every text encoder passes, and an outside one."""

import pytest
import torch
from torch import nn

from reclmis.configuration_reclmis import RecLMISConfig
from reclmis.registry import text_encoders
from reclmis.text import TextEncoder, build_text_encoder
from tests.parts import LENGTH, TINY_TEXT, lively, make_inputs, tiny_model

HF = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 64,
      "max_position_embeddings": 40}  # fmt: skip
ENCODERS = {
    "clip": ("clip", {**HF, "projection_dim": 24, "bos_token_id": 1, "eos_token_id": 2}),
    "tokens": ("tokens", TINY_TEXT),
    "bert": ("hf:bert", {"model_type": "bert", **HF}),
    "roberta": ("hf:roberta", {"model_type": "roberta", **HF, "pad_token_id": 0}),
    "mpnet": ("hf:mpnet", {"model_type": "mpnet", **HF}),
    "electra": ("hf:electra", {"model_type": "electra", **HF, "embedding_size": 16}),
    "distilbert": ("hf:distilbert", {"model_type": "distilbert", "vocab_size": 64, "dim": 32, "n_layers": 1,
                                     "n_heads": 2, "hidden_dim": 64}),
    "modernbert": ("hf:modernbert", {"model_type": "modernbert", **HF, "pad_token_id": 0}),
}  # fmt: skip


@pytest.fixture(scope="module", params=ENCODERS)
def case(request):
    return ENCODERS[request.param]


def test_hidden_states_are_what_the_contract_declares(case):
    part_id, config = case
    encoder = build_text_encoder(part_id, max_length=LENGTH, **config).eval()
    inputs = make_inputs()
    assert isinstance(encoder, TextEncoder)
    assert encoder.vocab_size == 64
    for mask in (inputs["attention_mask"], None):
        assert encoder(inputs["input_ids"], mask).shape == (2, LENGTH, encoder.width)
    assert encoder.get_input_embeddings().num_embeddings == 64


def test_padding_reaches_no_real_token(case):
    part_id, config = case
    encoder = build_text_encoder(part_id, max_length=LENGTH, **config).eval()
    inputs = make_inputs()
    mask = inputs["attention_mask"].bool()
    changed = inputs["input_ids"].masked_fill(~mask, 9)
    before, after = (encoder(ids, inputs["attention_mask"])[mask] for ids in (inputs["input_ids"], changed))
    assert torch.allclose(before, after, atol=1e-5)


def test_a_whole_model_trains_every_parameter_and_ignores_padding(case):
    part_id, config = case
    model = lively(tiny_model(text_encoder=part_id, text_config=config))
    inputs = make_inputs(3, labels=True)
    model.train()(**inputs).loss.backward()
    lost = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not lost, lost
    model.eval()
    inputs.pop("labels")
    changed = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, 9)
    with torch.no_grad():
        assert torch.allclose(model(**inputs).logits, model(**{**inputs, "input_ids": changed}).logits, atol=1e-5)


def test_saved_and_loaded_without_looking_anything_up(case, tmp_path):
    """The configuration holds the encoder's own, so nothing is fetched by name: 'hf:bert' is no repository here."""
    from reclmis import RecLMISModel

    part_id, config = case
    model = tiny_model(text_encoder=part_id, text_config=config)
    model.save_pretrained(tmp_path)
    loaded = RecLMISModel.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded(**make_inputs()).logits, model(**make_inputs()).logits)


def test_the_image_half_of_clip_is_never_built():
    names = [name for name, _ in build_text_encoder("clip", max_length=LENGTH, **ENCODERS["clip"][1]).named_modules()]
    assert not any("vision" in name or "visual" in name for name in names)


def test_papers_tower_is_vit_b_32s():
    with torch.device("meta"):
        tower = build_text_encoder("clip", max_length=18)
    assert tower.width == 512 and tower.vocab_size == 49408
    assert len(tower.transformer.encoder.layers) == 12


def test_a_pooler_that_nothing_uses_is_not_kept():
    encoder = build_text_encoder(*ENCODERS["bert"][:1], max_length=LENGTH, **ENCODERS["bert"][1])
    assert not any("pooler" in name for name, _ in encoder.named_parameters())


def test_configuration_of_a_local_encoder_is_written_into_ours(tmp_path):
    from transformers import BertConfig, BertModel

    bert = BertModel(BertConfig(**HF))
    bert.save_pretrained(tmp_path)
    config = RecLMISConfig.tiny(text_encoder=f"hf:{tmp_path}", text_config={}, max_text_length=LENGTH)
    assert config.text_config["model_type"] == "bert" and config.text_config["hidden_size"] == 32

    from reclmis import RecLMISModel

    model = RecLMISModel.from_parts(config)
    loaded = model.text_encoder.transformer.state_dict()
    original = bert.state_dict()
    assert all(torch.equal(value, original[key]) for key, value in loaded.items())


@pytest.mark.parametrize(
    ("part_id", "config", "told"),
    [
        ("unknown", {}, "Unknown text encoder 'unknown'.*clip.*hf.*tokens"),
        ("clip:large", {}, "takes no name"),
        ("tokens:large", {}, "takes no name"),
        ("hf:x", {"hidden_size": 32}, "model_type"),
        ("hf:gpt", {"model_type": "t5"}, "needs an encoder"),
        ("clip", {**ENCODERS["clip"][1], "max_position_embeddings": 4}, "4 positions"),
    ],
)
def test_mistakes_are_named(part_id, config, told):
    with pytest.raises(ValueError, match=told):
        build_text_encoder(part_id, max_length=LENGTH, **config)


def test_a_note_longer_than_the_positions_is_named():
    encoder = build_text_encoder("tokens", max_length=4, **TINY_TEXT)
    with pytest.raises(ValueError, match="5 tokens, but this text encoder has 4"):
        encoder(torch.ones(1, 5).long())


def test_an_outside_encoder_trains_saves_and_loads(monkeypatch, tmp_path):
    from reclmis import RecLMISModel

    monkeypatch.setattr(text_encoders, "_parts", dict(text_encoders._parts))

    @text_encoders.register("bag")
    class Bag(nn.Module):
        def __init__(self, name, *, max_length, size=16):
            super().__init__()
            self.width, self.vocab_size = size, 64
            self.words = nn.Embedding(64, size)

        def forward(self, input_ids, attention_mask=None):
            return self.words(input_ids)

        def get_input_embeddings(self):
            return self.words

        def set_input_embeddings(self, value):
            self.words = value

    model = tiny_model(text_encoder="bag", text_config={"size": 24})
    outputs = model(**make_inputs(labels=True))
    outputs.loss.backward()
    assert model.get_input_embeddings().weight.grad is not None
    model.save_pretrained(tmp_path)
    assert torch.equal(RecLMISModel.from_pretrained(tmp_path)(**make_inputs()).logits, outputs.logits)


def write_cxr_bert(folder, marker):
    """A checkpoint as CXR-BERT's: a BERT of a type of its own, with its own code, tokenizer code and a further head."""
    import json

    from safetensors.torch import save_file
    from transformers import BertConfig, BertForMaskedLM

    bert = BertForMaskedLM(BertConfig(**HF))
    bert.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "cxr-bert", "projection_size": 8, "architectures": ["CXRBertModel"],
               "auto_map": {"AutoConfig": "planted.CXRBertConfig", "AutoModel": "planted.CXRBertModel"}}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "left", "right", "lung", "upper", "lower"]
    (folder / "vocab.txt").write_text("\n".join(words))
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "CXRBertTokenizer", "auto_map": {"AutoTokenizer": ["planted.CXRBertTokenizer", None]}}
    ))  # fmt: skip
    (folder / "planted.py").write_text(f"open({str(marker)!r}, 'w').write('run')\n")
    weights = {
        name: value.clone() for name, value in bert.state_dict().items() if not name.startswith("cls.predictions.d")
    }
    weights["cls_projection_head.dense_to_hidden.weight"] = torch.zeros(8, 32)
    save_file(weights, folder / "model.safetensors")
    return bert


def test_a_checkpoint_with_code_of_its_own_loads_without_running_it(tmp_path):
    from reclmis import RecLMISModel, RecLMISProcessor

    folder, marker = tmp_path / "cxr", tmp_path / "marker"
    folder.mkdir()
    bert = write_cxr_bert(folder, marker)
    config = RecLMISConfig.tiny(text_encoder=f"hf:{folder}", text_config={}, max_text_length=LENGTH, image_size=64)
    assert config.text_config["model_type"] == "bert" and "auto_map" not in config.text_config
    model = RecLMISModel.from_parts(config)
    theirs = bert.bert.state_dict()
    ours = model.text_encoder.transformer.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    processor = RecLMISProcessor.from_model_config(config)
    assert processor.tokenize(["left upper lung"])["input_ids"][0][:5] == [2, 5, 8, 7, 3]
    assert not marker.exists()


def test_pickled_weights_of_an_encoder_are_not_read(tmp_path):
    from reclmis import RecLMISModel

    write_cxr_bert(tmp_path, tmp_path / "marker")
    (tmp_path / "model.safetensors").unlink()
    torch.save({}, tmp_path / "pytorch_model.bin")
    config = RecLMISConfig.tiny(text_encoder=f"hf:{tmp_path}", text_config={}, max_text_length=LENGTH, image_size=64)
    with pytest.raises(OSError, match="safetensors"):
        RecLMISModel.from_parts(config)


def test_an_architecture_that_transformers_does_not_know_is_named(tmp_path):
    import json

    (tmp_path / "config.json").write_text(json.dumps({"model_type": "novelty", "hidden_size": 8}))
    with pytest.raises(ValueError, match="type 'novelty', which transformers does not know"):
        RecLMISConfig.tiny(text_encoder=f"hf:{tmp_path}", text_config={})
