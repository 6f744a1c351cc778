import math
import sys
import warnings

import numpy as np
import pytest
from scipy import ndimage

from reclmis.errors import MissingPackageError
from reclmis.evaluation.surfaces import surface_distances

pytest.importorskip("monai", reason="monai is not installed")


def plane(*places, size=(5, 6)):
    mask = np.zeros(size, dtype=np.uint8)
    for place in places:
        mask[place] = 1
    return mask


# One pixel, and one that is 3 lower and 4 to the right. A row of three pixels (all of them outline) and its first: 0, 1
# and 2 apart there, 0 back; the 95th percentile of (0, 1, 2) is 1.9, and the mean of all four is 0.75.
@pytest.mark.parametrize(
    ("prediction", "target", "spacing", "hd95", "assd"),
    [
        (plane((0, 0)), plane((0, 0)), None, 0.0, 0.0),
        (plane((0, 0)), plane((3, 4)), None, 5.0, 5.0),
        (plane((0, 0)), plane((3, 4)), (2.0, 0.5), math.hypot(6, 2), math.hypot(6, 2)),
        (plane((2, 1), (2, 2), (2, 3)), plane((2, 1)), None, 1.9, 0.75),
        (plane((2, 1)), plane((2, 1), (2, 2), (2, 3)), None, 1.9, 0.75),
        (plane(), plane(), None, 0.0, 0.0),
        (plane(size=(3, 4)), plane((1, 1), size=(3, 4)), None, 5.0, 5.0),
        (plane((1, 1), size=(3, 4)), plane(size=(3, 4)), (2.0, 2.0), 10.0, 10.0),
    ],
)
def test_table(prediction, target, spacing, hd95, assd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = surface_distances(prediction, target, spacing=spacing)
    assert found == (pytest.approx((hd95, assd), abs=1e-5),)


def test_each_class_by_itself_and_no_background():
    first, second = np.array([[1, 0, 0, 2]]), np.array([[0, 1, 0, 2]])
    assert surface_distances(first, second, num_labels=3) == (pytest.approx((1, 1)), (0, 0))


def independent(first, second, steps):
    """By distance transforms of the outlines."""
    outlines = [mask & ~ndimage.binary_erosion(mask) for mask in (first, second)]
    there, back = (
        ndimage.distance_transform_edt(~other, sampling=steps)[own] for own, other in (outlines, outlines[::-1])
    )
    return max(np.percentile(there, 95), np.percentile(back, 95)), np.concatenate([there, back]).mean()


@pytest.mark.parametrize("spacing", [None, (0.7, 1.3)])
def test_agrees_with_distance_transforms(spacing):
    draw = np.random.default_rng(0)
    for _ in range(5):
        first, second = (ndimage.gaussian_filter(draw.normal(size=(40, 33)), 4) > 0.01 for _ in range(2))
        expected = independent(first, second, spacing or (1.0, 1.0))
        assert surface_distances(first, second, spacing=spacing)[0] == pytest.approx(expected, rel=1e-5)


def test_mistakes_are_named(monkeypatch):
    with pytest.raises(ValueError, match=r"\[5, 6\] and \[3, 4\]"):
        surface_distances(plane(), plane(size=(3, 4)))
    with pytest.raises(ValueError, match="two numbers above 0, got"):
        surface_distances(plane(), plane(), spacing=(1.0, 0.0))
    monkeypatch.setitem(sys.modules, "monai.metrics", None)
    with pytest.raises(MissingPackageError, match=r"pip install reclmis\[evaluation\]"):
        surface_distances(plane(), plane())
