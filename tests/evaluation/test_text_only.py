import numpy as np
import pytest

from reclmis.evaluation import TextOnlyPredictor

LEFT, RIGHT = "Unilateral infection, one infected area, upper left lung.", "Unilateral infection, all right lung."


def half(left: bool) -> np.ndarray:
    mask = np.zeros((4, 6), dtype=np.uint8)
    mask[:, :3 if left else 6] = 1
    if not left:
        mask[:, :3] = 0
    return mask


def test_answers_with_the_mean_mask_of_the_zones():
    predictor = TextOnlyPredictor().fit([LEFT, LEFT, RIGHT, RIGHT], [half(True)] * 2 + [half(False)] * 2)
    assert (predictor.predict(LEFT) == half(True)).all()
    assert (predictor.predict("One infected area, upper left lung") == half(True)).all()
    assert predictor.score([LEFT, RIGHT], [half(True), half(False)], ["a", "b"])["dice_per_image"] == 1.0
    assert predictor.exact == 1.0


def test_unseen_zones_take_the_nearest_and_are_counted():
    predictor = TextOnlyPredictor().fit([LEFT, LEFT, RIGHT, RIGHT], [half(True)] * 2 + [half(False)] * 2)
    assert (predictor.predict("upper middle left lung") == half(True)).all()
    assert predictor.exact == 0.0


def test_threshold_comes_from_training_alone():
    masks = [np.eye(4, dtype=np.uint8)] * 3 + [np.ones((4, 4), dtype=np.uint8)]
    predictor = TextOnlyPredictor().fit([LEFT] * 4, masks)
    assert 0.1 <= predictor.threshold <= 0.7
    with pytest.raises(ValueError, match="one size"):
        TextOnlyPredictor().fit([LEFT, LEFT], [np.ones((2, 2)), np.ones((3, 3))])
    with pytest.raises(ValueError, match="Fit"):
        TextOnlyPredictor().predict(LEFT)
