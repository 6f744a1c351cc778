"""Counted costs."""

import torch

from reclmis import RecLMISConfig, RecLMISModel
from reclmis.profiling import count_cost
from tests.parts import LENGTH, tiny_config, tiny_model


def test_a_network_of_known_size():
    """One stage without interaction: a 3x3 stem on 3 channels, and the 1x1 convolution that gives the mask."""
    config = tiny_config(interaction="none", visual_config={"widths": [4]}, hidden_size=4, num_attention_heads=2,
                         reconstruction_heads=2, prune_reconstruction=True)  # fmt: skip
    cost = count_cost(RecLMISModel(config), (8, 8))
    words = LENGTH * config.text_config["hidden_size"] * 3 * 4  # a convolution of 3 over the words
    embedding = 64 * 4 * 4  # the 1x1 projection of the patches
    assert cost.macs in (64 * (27 * 4 + 4) + words, 64 * (27 * 4 + 4) + words + embedding)
    assert cost.flops == 2 * (cost.macs + cost.text_macs)


def test_images_cost_by_their_area_and_notes_do_not():
    model = tiny_model(prune_reconstruction=True)
    small, large = count_cost(model, (32, 32)), count_cost(model, (64, 64))
    assert 3.5 < large.macs / small.macs < 4.5 and large.text_macs == small.text_macs > 0
    assert small.parameters == model.num_parameters() > small.text_parameters > 0


def test_counting_leaves_the_model_as_it_was():
    model = tiny_model().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    count_cost(model)
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_papers_network_at_its_size():
    with torch.device("meta"):
        model = RecLMISModel(RecLMISConfig.base(prune_reconstruction=True))
        cost = count_cost(model)
    assert 23e9 < cost.macs < 25e9  # the paper's figure is 24.1
