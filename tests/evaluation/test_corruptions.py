"""Worse images: pure functions, the worse the name says, and strengths that a reader checks by hand."""

import numpy as np
import pytest

from reclmis.data import make_sample
from reclmis.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt, seed_of

GREY = make_sample(0, size=224)["image"]
COLOUR = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_pure_and_worse_from_name_to_name(name):
    before, distances = GREY.copy(), []
    for severity in SEVERITIES:
        worse = corrupt(GREY, name, severity, seed=3)
        assert worse.dtype == np.uint8 and worse.shape == GREY.shape
        assert (worse == corrupt(GREY, name, severity, seed=3)).all()
        assert (worse == worse[:, :, :1]).all()
        distances.append(np.abs(worse.astype(float) - GREY).mean())
    assert (before == GREY).all()
    assert all(less < more for less, more in zip([0, *distances], distances, strict=False))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_chance_is_the_seeds(name):
    other = corrupt(COLOUR, name, "strong", seed=4)
    assert other.shape == COLOUR.shape
    assert (other != corrupt(COLOUR, name, "strong", seed=5)).any() == (name in ("noise", "low_dose"))


def test_strengths_by_hand():
    flat = np.full((64, 64, 3), 100, dtype=np.uint8)
    step = np.zeros((64, 64, 3), dtype=np.uint8)
    step[:, 32:] = 200
    assert (corrupt(flat, "brightness", "mild", 0) == 126).all()  # 100 + 0.1 * 255 = 125.5, to the even number
    assert (corrupt(flat, "gamma", "severe", 0) == 15).all()  # 255 * (100 / 255) ** 3 = 15.4
    assert (corrupt(step, "contrast", "moderate", 0)[0, [0, 63], 0] == [50, 150]).all()  # half the distance from 100
    assert corrupt(flat, "noise", "moderate", 0).std() == pytest.approx(25.5, rel=0.05)
    # 4 pixels of an image of 224 are 1.1 of one of 64: white from the step on, grey next to it, nothing changes far away.
    blurred = corrupt(step, "blur", "severe", 0)[5, :, 0]
    assert 0 < blurred[31] < 100 < blurred[32] < 200 and blurred[20] == 0 and blurred[44] == 200


def test_low_dose_is_noisiest_where_an_image_is_bright():
    """Counts n of a Poisson variable vary by sqrt(n): of 400 photons exp(-4 * 0.8) = 16 pass, of 0.2 there pass 180."""
    dark, bright = (np.full((80, 80, 3), 51 * step, dtype=np.uint8) for step in (1, 4))
    spread = [corrupt(image, "low_dose", "moderate", 0)[:, :, 0].std() / 255 for image in (dark, bright)]
    assert spread[0] == pytest.approx(1 / np.sqrt(180) / 4, rel=0.1)
    assert spread[1] > 3 * spread[0]


def test_size_changes_no_severity():
    """A blur goes by the shorter side."""
    small, large = (np.zeros((side, side, 3), dtype=np.uint8) for side in (64, 256))
    small[:, 32:] = large[:, 128:] = 200
    blurred = [corrupt(image, "blur", "severe", 0)[0, :, 0].astype(float) for image in (small, large)]
    assert np.abs(blurred[0] - blurred[1].reshape(64, 4).mean(axis=1)).max() < 8


def test_seeds_of_images():
    assert seed_of(0, "noise", "a") == seed_of(0, "noise", "a")
    assert (
        len({seed_of(0, "noise", "a"), seed_of(1, "noise", "a"), seed_of(0, "blur", "a"), seed_of(0, "noise", "b")})
        == 4
    )


def test_what_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="no corruption 'fog'; there are noise, blur"):
        corrupt(GREY, "fog", "mild", 0)
    with pytest.raises(ValueError, match="no severity 'extreme'; there are slight"):
        corrupt(GREY, "noise", "extreme", 0)
    with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\], got float64 \[4, 4\]"):
        corrupt(np.zeros((4, 4)), "noise", "mild", 0)
