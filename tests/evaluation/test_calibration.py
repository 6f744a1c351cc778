"""Reliability by hand, and a temperature that is known."""

import numpy as np
import pytest

from reclmis.evaluation.calibration import Reliability, calibration, fit_temperature
from tests.evaluation.noted_squares import RuledModel, noted_squares, reading_processor


def test_a_table_by_hand():
    """Bins of a quarter: four pixels at 0.1, one of them foreground, and two at 0.9, one of them foreground."""
    reliability = Reliability(bins=4)
    reliability.update([[0.1, 0.1], [0.1, 0.1]], [[0, 1], [0, 0]])
    reliability.update([0.9, 0.9], [1, 0])
    metrics = reliability.compute()
    # |0.1 - 0.25| on 4 of 6 pixels, |0.9 - 0.5| on 2.
    assert metrics["ece_equal_width_4_pooled"] == pytest.approx((4 * 0.15 + 2 * 0.4) / 6)
    assert metrics["ece_of_predicted_foreground_equal_width_4_pooled"] == pytest.approx(0.4)
    assert metrics["brier_pooled"] == pytest.approx((3 * 0.01 + 0.81 + 0.01 + 0.81) / 6)
    assert reliability.curve() == [
        {"from": 0.0, "to": 0.25, "pixels": 4, "probability": pytest.approx(0.1), "frequency": 0.25},
        {"from": 0.75, "to": 1.0, "pixels": 2, "probability": pytest.approx(0.9), "frequency": 0.5},
    ]


def test_edges_and_refusals():
    reliability = Reliability(bins=2)
    reliability.update([0.0, 0.5, 1.0], [0, 1, 1])
    assert reliability.pixels.tolist() == [1, 2]
    only_background = Reliability(bins=2)
    only_background.update([0.2], [0])
    assert list(only_background.compute()) == ["ece_equal_width_2_pooled", "brier_pooled"]
    with pytest.raises(ValueError, match="even number"):
        Reliability(bins=15)
    with pytest.raises(ValueError, match="no probabilities"):
        reliability.update([2.0], [1])
    with pytest.raises(ValueError, match="no probabilities"):
        reliability.update([float("nan")], [1])
    with pytest.raises(ValueError, match=r"Probabilities \[1\], but truth \[2\]"):
        reliability.update([0.5], [1, 0])
    with pytest.raises(ValueError, match="nothing to average"):
        Reliability().compute()


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_by_which_logits_were_spoilt_is_found_again(temperature):
    draw = np.random.default_rng(0)
    right = draw.normal(0, 3, 100_000)
    truths = draw.random(right.size) < 1 / (1 + np.exp(-right))
    assert fit_temperature(right * temperature, truths) == pytest.approx(temperature, rel=0.03)


def test_temperatures_need_pixels():
    with pytest.raises(ValueError, match="as many truths as logits, got 2 and 1"):
        fit_temperature([1.0, 2.0], [1])
    with pytest.raises(ValueError, match="got 0 and 0"):
        fit_temperature([], [])


@pytest.fixture(scope="module")
def split():
    return noted_squares(19)


def test_a_model_that_is_too_sure_is_told_so(split):
    """It marks all squares at a probability of nearly 1, and about every second is in the mask."""
    processor = reading_processor(split["note"])
    found = calibration(RuledModel(processor, follows=False, scale=9.0), processor, split, batch_size=6)
    assert found["fitted_on"] + found["reported_on"] == 19 and min(found["fitted_on"], found["reported_on"]) > 4
    assert found["temperature"] > 2
    before, after = found["before"]["metrics"], found["after"]["metrics"]
    name = "ece_of_predicted_foreground_equal_width_20_pooled"
    assert 0.3 < before[name] < 0.7 and after[name] < before[name]
    assert after["brier_pooled"] < before["brier_pooled"]
    assert [row["pixels"] for row in found["before"]["curve"]] == [row["pixels"] for row in found["after"]["curve"]]
    assert "20 bins of equal width" in found["binning"]
    # What was fitted on is not reported on.
    assert found["fitted_on"] != found["reported_on"]
    assert sum(row["pixels"] for row in found["before"]["curve"]) == found["reported_on"] * 64 * 64


def test_neither_order_nor_batches_change_it(split):
    processor = reading_processor(split["note"])
    model = RuledModel(processor, follows=True, scale=2.0)
    found = calibration(model, processor, split, batch_size=16)
    other = calibration(model, processor, split.select(range(18, -1, -1)), batch_size=3)
    assert other["temperature"] == pytest.approx(found["temperature"], rel=1e-6)
    assert other["after"]["metrics"] == pytest.approx(found["after"]["metrics"], rel=1e-6)
    # All its pixels are right, so no temperature is small enough.
    assert found["temperature"] < 0.06 and found["after"]["metrics"]["brier_pooled"] < 1e-6


def test_one_image_makes_no_halves(split):
    processor = reading_processor(split["note"])
    with pytest.raises(ValueError, match="1 images do not make two halves"):
        calibration(RuledModel(processor, follows=True), processor, split.select([0]))
