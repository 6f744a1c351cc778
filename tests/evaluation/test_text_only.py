import numpy as np
import pytest

from reclmis.evaluation import TextOnlyPredictor

LEFT, RIGHT = "Unilateral infection, one infected area, upper left lung.", "Unilateral infection, all right lung."


def half(left: bool) -> np.ndarray:
    mask = np.zeros((4, 6), dtype=np.uint8)
    mask[:, : 3 if left else 6] = 1
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
    predictor.predict(LEFT)
    assert predictor.exact == 0.5


def test_each_half_is_answered_from_notes_that_agree_on_it():
    """An unseen combination of two seen sides: upper left as beside a lower right, all right as beside a middle left."""
    notes = ["upper left lung and lower right lung", "middle left lung and all right lung"]
    masks = np.zeros((2, 4, 7), dtype=np.uint8)
    masks[0, 0, :3] = masks[0, 3, 4:] = 1
    masks[1, 1, :3] = masks[1, :, 4:] = 1
    predictor = TextOnlyPredictor().fit(notes * 3, np.concatenate([masks] * 3))
    expected = np.zeros((4, 7), dtype=bool)
    expected[0, :3] = expected[:, 4:] = True
    assert (predictor.predict("upper left lung and all right lung") == expected).all()
    assert predictor.exact == 0.0


def test_no_mask_takes_part_in_the_threshold_for_itself():
    """Masks without a common pixel: left out of the mean, no threshold helps any, and the first is kept. Taking part, the
    two small ones would win with a threshold that cuts the large one away."""
    masks = np.zeros((3, 3, 8), dtype=np.uint8)
    masks[0, 0, 0] = masks[1, 0, 7] = masks[2, 1:, :6] = 1
    assert TextOnlyPredictor().fit([LEFT] * 3, masks).threshold == pytest.approx(0.1)


def test_small_masks_count_as_much_as_large_ones():
    """Two small masks agree, two large ones share no pixel: the plain mean would say the same of all."""
    masks = np.zeros((4, 1, 20), dtype=np.uint8)
    masks[0, 0, :2] = masks[1, 0, :2] = 1
    masks[2, 0, 2:11] = masks[3, 0, 11:] = 1
    predictor = TextOnlyPredictor().fit([LEFT] * 4, masks)
    assert predictor.predict(LEFT)[0, :2].all()
    assert not predictor.predict(LEFT)[0, 2:].any()


def test_empty_masks_are_answered_with_nothing():
    predictor = TextOnlyPredictor().fit([LEFT, LEFT], [np.zeros((2, 2))] * 2)
    assert not predictor.predict(LEFT).any()
    assert predictor.score([LEFT], [np.zeros((2, 2))], ["a"])["dice_per_image"] == 1.0


def test_threshold_comes_from_training_alone():
    """Leaving one out, the core is the better answer where three of four are cores, and the whole where one is."""
    core, whole = np.eye(4, dtype=np.uint8), np.ones((4, 4), dtype=np.uint8)
    predictor = TextOnlyPredictor().fit([LEFT] * 4, [core, core, core, whole])
    assert (predictor.predict(LEFT) == core).all() and 0.1 <= predictor.threshold <= 0.7
    predictor = TextOnlyPredictor().fit([LEFT] * 4, [core, whole, whole, whole])
    assert (predictor.predict(LEFT) == whole).all()
    with pytest.raises(ValueError, match="one size"):
        TextOnlyPredictor().fit([LEFT, LEFT], [np.ones((2, 2)), np.ones((3, 3))])
    with pytest.raises(ValueError, match="1 notes and 2 masks"):
        TextOnlyPredictor().fit([LEFT], [np.ones((2, 2))] * 2)
    with pytest.raises(ValueError, match="Fit"):
        TextOnlyPredictor().predict(LEFT)


def test_floor_on_real_notes(shared):
    """The figure that README quotes beside the network's."""
    from reclmis.data import load_dataset_by_name, read_mask

    root = shared / "data" / "QaTa-COV19"
    if not root.is_dir():
        pytest.skip(f"No {root}.")
    splits = load_dataset_by_name(str(root), splits=["train", "validation"], verify=False)
    masks = {split: [read_mask(mask)[::4, ::4] for mask in splits[split]["mask"]] for split in splits}
    predictor = TextOnlyPredictor().fit(list(splits["train"]["note"]), masks["train"])
    validation = splits["validation"]
    metrics = predictor.score(list(validation["note"]), masks["validation"], list(validation["id"]))
    assert metrics["dice_per_image"] > 0.44 and predictor.exact > 0.95
