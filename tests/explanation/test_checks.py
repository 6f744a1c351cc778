"""Checks of explanations, on a model whose answer is known by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from reclmis.explanation import deletion_insertion, explain, randomisation_check
from reclmis.explanation.checks import rank_correlation
from tests.explanation.conftest import NOTES, picture


class Brightness(nn.Module):
    """Marks what is bright, whatever the note says: the logit is 100 at white and -100 at black."""

    device = "cpu"

    def forward(self, pixel_values, **note):
        return SimpleNamespace(logits=200 * pixel_values[:, :1] - 100)


@pytest.fixture(scope="module")
def bright():
    """A white square over 4 of 16 cells, and where it is."""
    inside = np.zeros((64, 64), dtype=bool)
    inside[16:48, 32:] = True
    return Image.fromarray(np.where(inside, 255, 0).astype(np.uint8)), inside


def curves(bright, processor, importance, **options):
    options = {"cells": (4, 4), "steps": 16, "blur": 1.0, **options}
    return deletion_insertion(Brightness(), processor, bright[0], "bright", {"map": importance}, **options)["map"]


@pytest.mark.parametrize("score", ["probability", "dice"])
def test_a_perfect_map_by_hand(bright, processor, score):
    found = curves(bright, processor, bright[1].astype(float), score=score)
    assert found.shares == tuple(np.arange(17) / 16)
    # Blurred so much the square is grey below one half: every cell of it that goes takes a quarter of the mask along.
    left = np.array([1, 0.75, 0.5, 0.25, *[0] * 13])
    by_score = {"probability": left, "dice": 2 * left / (1 + left)}
    np.testing.assert_allclose(found.deletion, by_score[score], atol=1e-6)
    back = 1 - left
    np.testing.assert_allclose(found.insertion, {"probability": back, "dice": 2 * back / (1 + back)}[score], atol=1e-6)
    if score == "probability":
        assert found.areas["deletion"] == pytest.approx((0.5 + 0.75 + 0.5 + 0.25) / 16)
        assert found.areas["insertion"] == pytest.approx(1 - found.areas["deletion"])


def test_a_perfect_map_beats_the_random_order_and_a_wrong_one_does_not(bright, processor):
    perfect, wrong = bright[1].astype(float), 1 - bright[1].astype(float)
    given = {"good": perfect, "bad": wrong}
    found = deletion_insertion(Brightness(), processor, bright[0], "bright", given, cells=(4, 4), steps=16, blur=1.0)
    good, bad = found["good"], found["bad"]
    assert good.better_than_random and not bad.better_than_random
    assert good.areas["deletion"] < good.areas["random_deletion"] < bad.areas["deletion"]
    assert good.areas["insertion"] > good.areas["random_insertion"] > bad.areas["insertion"]
    assert good.random_deletion == bad.random_deletion
    assert good.kept == pytest.approx(0, abs=1e-6)
    sharp = curves(bright, processor, perfect, blur=1e-3)  # a blur that hides nothing
    assert sharp.kept == pytest.approx(1) and sharp.to_dict()["kept"] == sharp.kept


def test_random_orders_repeat_with_their_seed(bright, processor):
    importance = bright[1].astype(float)
    one, same, other = (curves(bright, processor, importance, seed=seed, random_orders=2) for seed in (0, 0, 1))
    assert one.to_dict() == same.to_dict() and one.random_deletion != other.random_deletion
    assert set(one.to_dict()) >= {"seed", "areas", "better_than_random", "cells", "score"}


def test_cells_of_an_oblong_image(processor):
    inside = np.zeros((20, 60), dtype=bool)
    inside[:, 40:] = True  # the right third, which two of six cells cover
    image = Image.fromarray(np.where(inside, 255, 0).astype(np.uint8))
    found = curves((image, inside), processor, inside.astype(float), cells=(2, 3), steps=6)
    np.testing.assert_allclose(found.deletion[:3], [1, 0.5, 0], atol=0.05)
    assert max(found.deletion[2:]) < 0.05


def test_the_batch_changes_nothing(model, processor):
    found = explain(model, processor, picture(), NOTES[0])
    options = {"steps": 3, "random_orders": 1, "cells": (3, 4)}
    maps = {"map": found.at_image(found.patch_interest)}
    one, many = (
        deletion_insertion(model, processor, picture(), NOTES[0], maps, batch_size=size, **options)["map"]
        for size in (1, 16)
    )
    np.testing.assert_allclose(one.deletion, many.deletion, atol=1e-5)
    assert one.deletion[0] == pytest.approx(found.probability[found.mask > 0].mean(), abs=1e-5)
    assert one.insertion[-1] == pytest.approx(one.deletion[0], abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score": "iou"}, "'probability' or 'dice', got 'iou'"),
        ({"cells": (65, 1)}, "64 x 64"),
        ({"cells": (0, 1)}, "64 x 64"),
        ({"steps": 0}, "at least 1"),
        ({"random_orders": 0}, "at least 1"),
        ({"blur": 0.0}, "above 0"),
        ({"threshold": 1.1}, "marks nothing"),
    ],
)
def test_what_cannot_be_measured(bright, processor, options, message):
    with pytest.raises(ValueError, match=message):
        curves(bright, processor, bright[1].astype(float), **options)


@pytest.mark.parametrize(("importance", "message"), [(np.ones((4, 4)), r"64 x 64.*\(4, 4\)"), (np.nan, "nan")])
def test_an_importance_that_has_no_order(bright, processor, importance, message):
    importance = importance if np.ndim(importance) else np.full((64, 64), importance)
    with pytest.raises(ValueError, match=message):
        curves(bright, processor, importance)


@pytest.fixture(scope="module")
def randomised(model, processor):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    check = randomisation_check(model, processor, picture(), NOTES[0])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    return check


def test_weights_go_from_the_mask_to_the_image(randomised):
    assert randomised.stages == (
        "mask head", "decoder layer 4", "decoder layer 3", "decoder layer 2", "decoder layer 1", "heads of interest",
        "interaction", "word projection", "text encoder", "visual backbone",
    )  # fmt: skip
    assert all(len(values) == len(randomised.stages) for values in randomised.similarity.values())


@pytest.mark.parametrize(
    ("name", "first"),
    [("patch_interest", "heads of interest"), ("interacted", "interaction"), ("visual", "visual backbone")],
)
def test_a_map_changes_with_the_first_part_that_it_comes_from(randomised, name, first):
    values = dict(zip(randomised.stages, randomised.similarity[name], strict=True))
    place = randomised.stages.index(first)
    assert all(values[stage] == pytest.approx(1) for stage in randomised.stages[:place])
    assert values[first] < 0.999


def test_grad_cam_changes_when_weights_are_random(randomised):
    changed = randomised.changed()
    assert changed["grad_cam"] and changed["interacted"] and changed == randomised.to_dict()["changed"]
    assert randomised.changed(limit=0.0)["visual"] is False


def test_the_check_repeats_with_its_seed(model, processor, randomised):
    assert randomisation_check(model, processor, picture(), NOTES[0]) == randomised


def test_a_mask_of_nothing_cannot_be_checked(model, processor):
    with pytest.raises(ValueError, match="marks nothing"):
        randomisation_check(model, processor, picture(), NOTES[0], threshold=1.0)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [([1, 2, 3], [10, 20, 90], 1.0), ([1, 2, 3], [3, 2, 1], -1.0), ([1, 2, 3], [5, 5, 5], 0.0)],
)
def test_rank_correlation(one, other, expected):
    assert rank_correlation(np.array(one, dtype=float), np.array(other, dtype=float)) == pytest.approx(expected)
