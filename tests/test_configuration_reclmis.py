import json

import pytest

from reclmis.configuration_reclmis import RecLMISConfig
from tests.parts import tiny_config


def test_needs_no_argument_and_is_the_papers_width():
    config = RecLMISConfig()
    assert config.hidden_size == 512
    assert config.decoder_widths == [256, 128, 64, 64]
    assert (config.num_labels, config.id2label) == (1, {0: "foreground"})


@pytest.mark.parametrize("num_labels", [1, 2, 3])
@pytest.mark.parametrize("preset", ["tiny", "small", "base", "paper", "release"])
def test_json_round_trip(preset, num_labels, tmp_path):
    config = getattr(RecLMISConfig, preset)(num_labels=num_labels)
    config.save_pretrained(tmp_path)
    loaded = RecLMISConfig.from_pretrained(tmp_path)
    assert json.loads(loaded.to_json_string()) == json.loads(config.to_json_string())
    assert loaded.num_labels == num_labels


def test_number_of_labels_can_be_changed_and_survives(tmp_path):
    config = RecLMISConfig.from_dict(RecLMISConfig().to_dict())
    config.num_labels = 2
    config.save_pretrained(tmp_path)
    assert RecLMISConfig.from_pretrained(tmp_path).id2label == {0: "background", 1: "class_1"}


def test_presets_share_nothing():
    first, second = RecLMISConfig.tiny(), RecLMISConfig.tiny()
    first.visual_config["widths"].append(7)
    assert second.visual_config["widths"][-1] != 7


def test_callers_dictionary_is_left_alone():
    mine = {"widths": [4, 8]}
    config = tiny_config(visual_config=mine)
    config.visual_config["extra"] = 1
    assert mine == {"widths": [4, 8]}


def test_release_names_every_divergence():
    release, default = RecLMISConfig.release(), RecLMISConfig()
    assert release.text_padding == "attend" and default.text_padding == "ignore"
    assert release.reconstruction_causal and not default.reconstruction_causal
    assert release.reconstruction_target == "released" and default.reconstruction_target == "normalised"
    assert release.reconstruction_weighting == "uniform"
    assert not release.reconstruction_stop_gradient and default.reconstruction_stop_gradient
    assert RecLMISConfig.paper().reconstruction_weighting == "interest"
    assert release.contrastive_weighting == "double_softmax"


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("interaction", "both", "both"),
        ("image_size", 0, "image_size"),
        ("num_labels", 0, "num_labels"),
        ("hidden_size", 10, "num_attention_heads"),
        ("dropout", 1.0, "dropout"),
        ("visual_mask_ratio", 1.5, "visual_mask_ratio"),
        ("contrastive_temperature", 0.0, "contrastive_temperature"),
        ("contrastive_weight", 0.0, "contrastive=False"),
        ("contrastive_weight", -1.0, "contrastive_weight"),
        ("segmentation_weight", 0.0, "segmentation"),
        ("decoder_widths", [], "decoder_widths"),
        ("attn_implementation", "org/kernel", "org/kernel"),
    ],
)
def test_bad_values_are_named(field, value, told):
    with pytest.raises(Exception, match=told):
        RecLMISConfig(**{field: value})


def test_interest_is_built_only_where_a_loss_trains_it():
    everything = tiny_config()
    assert everything.trains_patch_interest and everything.trains_word_interest
    nothing = tiny_config(contrastive=False, visual_reconstruction=False, language_reconstruction=False)
    assert not nothing.trains_patch_interest and not nothing.trains_word_interest
    pruned = tiny_config(prune_reconstruction=True)
    assert not pruned.trains_patch_interest and not pruned.trains_word_interest
    only_clr = tiny_config(contrastive=False, visual_reconstruction=False, reconstruction_weighting="uniform")
    assert only_clr.trains_patch_interest and not only_clr.trains_word_interest
