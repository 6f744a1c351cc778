import warnings

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoProcessor, PreTrainedTokenizerFast

from reclmis import RecLMISConfig, RecLMISImageProcessor, RecLMISProcessor
from reclmis.processing_reclmis import NoteNotNormalisedWarning, NoteTooLongWarning, load_clip_tokenizer
from reclmis.registry import text_encoders
from reclmis.text.note_tokenizer import build_note_tokenizer
from tests.parts import LENGTH, tiny_config, tiny_model

NOTES = ["one infected area, upper left lung.", "two areas, lower right lung, all left."] * 2
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
LONG = "lung " * 500


@pytest.fixture
def processor() -> RecLMISProcessor:
    image_processor = RecLMISImageProcessor(size={"height": 64, "width": 64})
    return RecLMISProcessor(image_processor, build_note_tokenizer(NOTES), max_length=LENGTH)


# Batches -----------------------------------------------------------------------------------------------------------


def test_a_batch_has_fixed_shapes_and_types(processor):
    mask = np.ones((40, 56), dtype=np.uint8)
    batch = processor(images=[IMAGE, IMAGE], text=NOTES[:2], segmentation_maps=[mask, mask], return_tensors="pt")
    shapes = {name: (tuple(value.shape), value.dtype) for name, value in batch.items()}
    assert shapes == {
        "pixel_values": ((2, 3, 64, 64), torch.float32),
        "input_ids": ((2, LENGTH), torch.int64),
        "attention_mask": ((2, LENGTH), torch.int64),
        "labels": ((2, 64, 64), torch.int64),
    }
    lengths = batch.attention_mask.sum(dim=1)
    assert lengths[0] < lengths[1]
    for ids, length in zip(batch.input_ids, lengths, strict=True):
        assert ids[0] == 1 and ids[length - 1] == 2 and ids[length:].eq(0).all() and ids[:length].ne(0).all()


def test_one_image_and_one_note(processor):
    batch = processor(images=IMAGE, text=NOTES[0], return_tensors="pt")
    assert batch.pixel_values.shape[0] == batch.input_ids.shape[0] == 1
    assert set(processor(images=IMAGE, return_tensors="pt")) == {"pixel_values"}
    assert set(processor(text=NOTES)) == {"input_ids", "attention_mask"}
    assert isinstance(processor(text=NOTES)["input_ids"], list)
    assert set(processor.model_input_names) == {"pixel_values", "input_ids", "attention_mask"}


def test_numbers_must_agree(processor):
    with pytest.raises(ValueError, match="1 images, but 2 notes"):
        processor(images=IMAGE, text=NOTES[:2], return_tensors="pt")
    with pytest.raises(ValueError, match="need their images"):
        processor(text=NOTES[0], segmentation_maps=IMAGE[:, :, 0])
    with pytest.raises(ValueError, match="images, notes"):
        processor()


def test_options_of_a_call(processor):
    plain = processor(images=IMAGE, text=NOTES[0], return_tensors="pt")
    for options in (
        {"channel_order": "bgr", "max_length": 20},
        {"images_kwargs": {"channel_order": "bgr"}, "text_kwargs": {"max_length": 20}},
        {"channel_order": "bgr", "max_length": 20, "padding": "max_length", "truncation": True},
    ):
        batch = processor(images=IMAGE, text=NOTES[0], return_tensors="pt", **options)
        assert torch.equal(batch.pixel_values, plain.pixel_values.flip(1))
        assert batch.input_ids.shape == (1, 20)
    with pytest.raises(TypeError, match="Unknown option 'colour'"):
        processor(images=IMAGE, text=NOTES[0], colour="red")
    with pytest.raises(ValueError, match="`padding` cannot be False"):
        processor(text=NOTES[0], padding=False)


# Notes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [3, ["a", "b"], b"left", float("nan")])
def test_a_note_that_is_no_string_is_named(processor, bad):
    with pytest.raises(TypeError, match=r"Note 1 is .*not a string"):
        processor(text=["upper left lung", bad])


def test_no_note_is_for_models_that_know_it(processor):
    with pytest.raises(TypeError, match="Note 1 is None, and this model was trained with notes only"):
        processor(text=["upper left lung", None])
    known = RecLMISProcessor(
        processor.image_processor, processor.tokenizer, max_length=processor.max_length, null_note=True
    )
    masks = known(text=["upper left lung", None])["attention_mask"]
    assert any(masks[0]) and not any(masks[1])


@pytest.mark.parametrize("note", ["", "   \n"])
def test_an_empty_note_has_real_tokens_and_a_finite_mask(processor, note):
    batch = processor(images=IMAGE, text=note, return_tensors="pt")
    assert batch.attention_mask.sum() >= 2 and batch.input_ids[0, 0] == 1
    model = tiny_model(text_config={"vocab_size": 4096, "hidden_size": 32, "num_hidden_layers": 1})
    assert model(**batch).logits.isfinite().all()


def bare_tokenizer(**special) -> PreTrainedTokenizerFast:
    """Words without any token around them, as decoder-type tokenizers have it."""
    words = Tokenizer(models.WordLevel({"lung": 0, "left": 1, "[UNK]": 2, "</s>": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, **special)


def test_a_tokenizer_without_frames_still_gives_an_empty_note_one_real_token():
    processor = RecLMISProcessor(RecLMISImageProcessor(), bare_tokenizer(eos_token="</s>"), max_length=4)
    batch = processor(text=["", "left lung"], return_tensors="pt")
    assert batch.input_ids.tolist() == [[3, 0, 0, 0], [1, 0, 0, 0]]
    assert batch.attention_mask.tolist() == [[1, 0, 0, 0], [1, 1, 0, 0]]
    with pytest.raises(ValueError, match=r"add_special_tokens"):
        RecLMISProcessor(RecLMISImageProcessor(), bare_tokenizer(), max_length=4)(text="")


def test_long_notes_warn_once_with_the_number_of_lost_tokens(processor):
    full = len(processor.tokenizer(LONG)["input_ids"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        batch = processor(text=[NOTES[0], LONG, LONG], return_tensors="pt")
    assert [warning.category for warning in caught] == [NoteTooLongWarning]
    message = str(caught[0].message)
    lost = full - LENGTH
    assert f"by {2 * lost} token(s) in all" in message and f"note 1: {lost}, note 2: {lost}" in message
    assert caught[0].filename == __file__
    assert batch.input_ids.shape == (3, LENGTH)
    assert batch.input_ids[1:, -1].eq(2).all() and batch.attention_mask[1:].all()
    # Cut notes do not disturb their neighbours.
    assert torch.equal(batch.input_ids[:1], processor(text=NOTES[0], return_tensors="pt").input_ids)


def test_long_notes_leave_no_second_remark(processor, caplog, capfd):
    processor.tokenizer.model_max_length = LENGTH
    with pytest.warns(NoteTooLongWarning):
        processor(text=LONG)
    assert not caplog.records and "longer than" not in capfd.readouterr().err


def test_a_note_that_just_fits_says_nothing(processor):
    words = ["left"] * (LENGTH - 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert processor(text=" ".join(words), return_tensors="pt").attention_mask.all()


def test_strict_mode_refuses_long_notes(processor):
    processor.on_long_note = "raise"
    with pytest.raises(ValueError, match=r"1 of 2 note.* exceed.*note 1: .*`max_length`"):
        processor(text=[NOTES[0], LONG])
    with pytest.raises(ValueError, match="'warn' or 'raise', got 'cut'"):
        RecLMISProcessor(processor.image_processor, processor.tokenizer, on_long_note="cut")


def test_short_notes_are_filled_up_as_released_weights_expect(processor):
    processor.note_min_words, processor.max_length = 9, 64
    filled = processor(text="one infected area, upper left lung.", return_tensors="pt").input_ids
    processor.note_min_words = None
    by_hand = processor(text="one infected area, upper left lung. EOF XXX EOF XXX EOF XXX", return_tensors="pt")
    assert torch.equal(filled, by_hand.input_ids)


def test_normalising_gives_notes_that_say_the_same_the_same_tokens(processor):
    processor.max_length = 64
    canonical = "Unilateral pulmonary infection, one infected area, upper left lung."
    odd = "Unilateral pulmonary infection,oneinfected areas, uooer left  lung"
    raw = processor(text=canonical, return_tensors="pt").input_ids
    assert not torch.equal(processor(text=odd, return_tensors="pt").input_ids, raw)
    processor.normalise_notes = True
    with warnings.catch_warnings():
        warnings.simplefilter("error", NoteNotNormalisedWarning)
        for note in (odd, canonical):
            assert torch.equal(processor(text=note, return_tensors="pt").input_ids, raw)
        processor(text="")


def test_a_note_that_is_not_understood_goes_in_as_written_and_is_named(processor):
    processor.max_length = 64
    note = "one infected area, upper left lung, behind the heart"
    raw = processor(text=note)["input_ids"]
    processor.normalise_notes = True
    with pytest.warns(NoteNotNormalisedWarning, match=f"{note}.*'behind' is not understood; 'heart'") as caught:
        assert processor(text=note)["input_ids"] == raw
    assert caught[0].filename == __file__
    for text, reason in (
        ("two one infected area", "one and two"),
        ("No opacity, but left infiltrate", "denies 'No op"),
    ):
        with pytest.warns(NoteNotNormalisedWarning, match=reason):
            processor(text=text)


def test_a_learned_tokenizer_learns_normalised_notes():
    config, notes = RecLMISConfig.tiny(), ["uooer left lung"] * 4
    plain = RecLMISProcessor.from_model_config(config, notes=notes)
    normalising = RecLMISProcessor.from_model_config(config, notes=notes, normalise_notes=True)
    assert normalising.normalise_notes and not plain.normalise_notes
    words = [{token.strip("Ġ") for token in part.tokenizer.get_vocab()} for part in (plain, normalising)]
    assert "uooer" in words[0] and "uooer" not in words[1] and "unilateral" in words[1]


# CLIP ----------------------------------------------------------------------------------------------------------------


def test_clip_tokens():
    pytest.importorskip("open_clip", reason="the vocabulary comes from open_clip_torch (reclmis[clip])")
    tokenizer = load_clip_tokenizer()
    processor = RecLMISProcessor(RecLMISImageProcessor(), tokenizer, pad_token_id=0)
    batch = processor(text=["a photo of a cat", ""], return_tensors="pt")
    # The ids that CLIP's own repository shows for this sentence.
    assert batch.input_ids[0].tolist() == [49406, 320, 1125, 539, 320, 2368, 49407] + [0] * 11
    assert batch.input_ids[1].tolist() == [49406, 49407] + [0] * 16
    with pytest.warns(NoteTooLongWarning, match="by 484 token"):
        assert processor(text=LONG, return_tensors="pt").input_ids[0, -1] == 49407


def test_without_any_source_the_clip_tokenizer_names_the_mend(monkeypatch):
    import reclmis.text.clip_vocabulary as vocabulary

    def absent():
        raise ImportError("open_clip is not installed")

    monkeypatch.setattr(vocabulary, "open_clip_tokenizer", absent)
    with pytest.raises(OSError, match=r"nobody/nothing.*pip install reclmis\[clip\].*open_clip is not installed"):
        load_clip_tokenizer("nobody/nothing")


# From a configuration ----------------------------------------------------------------------------------------------


def test_from_a_configuration():
    config = RecLMISConfig.tiny(image_size=64, num_labels=3)
    processor = RecLMISProcessor.from_model_config(config, notes=NOTES)
    assert processor.image_processor.size == {"height": 64, "width": 64}
    assert processor.image_processor.pad_size_divisor == 8  # the stride of the tiny preset
    assert processor.image_processor.num_labels == 3
    assert not processor.image_processor.do_normalize
    assert processor.max_length == config.max_text_length
    with pytest.raises(ValueError, match="pass `notes`"):
        RecLMISProcessor.from_model_config(config)
    config.text_config["vocab_size"] = 100
    with pytest.raises(ValueError, match="vocab_size"):
        RecLMISProcessor.from_model_config(config, notes=NOTES)


def test_an_image_size_off_the_stride_is_padded_to_it():
    model = tiny_model(image_size=70, text_config={"vocab_size": 4096, "hidden_size": 32, "num_hidden_layers": 1})
    processor = RecLMISProcessor.from_model_config(model.config, notes=NOTES)
    batch = processor(images=IMAGE, text=NOTES[0], return_tensors="pt")
    assert batch.pixel_values.shape == (1, 3, 80, 80)
    mask = processor.post_process_semantic_segmentation(model(**batch), target_sizes=[(40, 56)])
    assert mask[0].shape == (40, 56)


@pytest.mark.parametrize(
    "name, stride", [("resnet18", 32), ("swin_tiny_patch4_window7_224", 32), ("vit_tiny_patch16_224", 16)]
)
def test_the_stride_of_a_timm_backbone(name, stride):
    config = tiny_config(visual_backbone=f"timm:{name}", visual_config={})
    processor = RecLMISProcessor.from_model_config(config_with_full_vocabulary(config), notes=NOTES)
    assert processor.image_processor.pad_size_divisor == stride


def config_with_full_vocabulary(config):
    config.text_config["vocab_size"] = 4096
    return config


@pytest.mark.parametrize("num_channels", [3, 1])
def test_a_pretrained_timm_backbone_keeps_its_statistics(num_channels):
    config = config_with_full_vocabulary(tiny_config(visual_backbone="timm:resnet18", num_channels=num_channels))
    config.visual_config = {"pretrained": True}
    image_processor = RecLMISProcessor.from_model_config(config, notes=NOTES).image_processor
    assert image_processor.do_normalize and len(image_processor.image_mean) == num_channels
    mean = torch.tensor([0.485, 0.456, 0.406])
    expected = mean if num_channels == 3 else mean.mean()[None]
    torch.testing.assert_close(torch.tensor(image_processor.image_mean), expected)
    assert image_processor(IMAGE, return_tensors="pt").pixel_values.shape == (1, num_channels, 64, 64)


def test_an_unreachable_tokenizer_names_the_mend():
    config = RecLMISConfig.tiny()
    config.text_encoder = "hf:nobody/nothing"
    with pytest.raises(OSError, match="'nobody/nothing' is neither cached nor reachable"):
        RecLMISProcessor.from_model_config(config)


def test_an_encoder_from_outside_brings_its_tokenizer(monkeypatch):
    def build(name, *, max_length, **config):
        raise AssertionError("the processor needs no encoder")

    monkeypatch.setitem(text_encoders._parts, "outside", build)
    config = RecLMISConfig.tiny()
    config.text_encoder = "outside"
    with pytest.raises(ValueError, match=r"build_tokenizer\(config, notes\)"):
        RecLMISProcessor.from_model_config(config)
    build.build_tokenizer = lambda config, notes: bare_tokenizer(eos_token="</s>")
    assert RecLMISProcessor.from_model_config(config)(text="left lung")["input_ids"][0][:2] == [1, 0]


# Files ---------------------------------------------------------------------------------------------------------------


def test_save_and_load(processor, tmp_path):
    processor = RecLMISProcessor(
        processor.image_processor, processor.tokenizer, max_length=40, on_long_note="raise", pad_token_id=7,
        note_min_words=3, note_filler=" x", normalise_notes=True,
    )  # fmt: skip
    processor.image_processor.channel_order = "bgr"
    tiny_model().save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert {file.suffix for file in tmp_path.iterdir()} <= {".json", ".txt", ".jinja", ".safetensors"}
    expected = processor(images=IMAGE, text=["No infection"], return_tensors="pt")
    for loader in (RecLMISProcessor, AutoProcessor):
        loaded = loader.from_pretrained(tmp_path)
        assert type(loaded) is RecLMISProcessor and loaded.to_dict() == processor.to_dict()
        batch = loaded(images=IMAGE, text=["No infection"], return_tensors="pt")
        assert all(torch.equal(batch[name], value) for name, value in expected.items())
        assert loaded.on_long_note == "raise" and loaded.normalise_notes
