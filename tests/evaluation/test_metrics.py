import random

import pytest
import torch

from reclmis.evaluation import SegmentationMeter


def mask(*rows):
    return torch.tensor(rows)


@pytest.mark.parametrize(
    ("prediction", "target", "dice", "iou"),
    [
        (mask([1, 1, 0, 0]), mask([1, 0, 0, 0]), 2 / 3, 1 / 2),
        (mask([1, 1, 0, 0]), mask([1, 1, 0, 0]), 1.0, 1.0),
        (mask([1, 1, 0, 0]), mask([0, 0, 1, 1]), 0.0, 0.0),
        (mask([0, 0, 0, 0]), mask([0, 0, 0, 0]), 1.0, 1.0),
        (mask([1, 0, 0, 0]), mask([0, 0, 0, 0]), 0.0, 0.0),
        (mask([0, 0, 0, 0]), mask([1, 0, 0, 0]), 0.0, 0.0),
    ],
)
def test_table(prediction, target, dice, iou):
    meter = SegmentationMeter()
    meter.update([prediction], [target])
    metrics = meter.compute()
    assert metrics["dice_per_image"] == pytest.approx(dice) and metrics["iou_per_image"] == pytest.approx(iou)
    assert metrics["images"] == 1


def test_the_two_families_differ_and_pooled_iou_follows_from_pooled_dice():
    meter = SegmentationMeter()
    meter.update([mask([1, 0, 0, 0]), mask([1, 1, 1, 1])], [mask([0, 1, 0, 0]), mask([1, 1, 1, 1])])
    metrics = meter.compute()
    assert metrics["dice_per_image"] == pytest.approx(0.5)
    assert metrics["dice_pooled"] == pytest.approx(8 / 10)
    assert metrics["iou_pooled"] == pytest.approx(metrics["dice_pooled"] / (2 - metrics["dice_pooled"]))


def test_classes_without_background():
    meter = SegmentationMeter(num_labels=3)
    meter.update([mask([0, 1, 2, 2])], [mask([0, 1, 1, 2])])
    # class 1: 2 * 1 / (1 + 2); class 2: 2 * 1 / (2 + 1)
    assert meter.compute()["dice_per_image"] == pytest.approx(2 / 3)


def cases(count=23):
    generator = torch.Generator().manual_seed(0)
    ours = torch.rand(count, 9, 9, generator=generator) > 0.6
    truth = torch.rand(count, 9, 9, generator=generator) > 0.7
    truth[::5] = False
    ours[::10] = False
    return ours.long(), truth.long(), [f"image{i}" for i in range(count)]


@pytest.mark.parametrize("batch_size", [1, 4, 23])
def test_batch_size_and_order_change_nothing(batch_size):
    ours, truth, ids = cases()
    whole = SegmentationMeter()
    whole.update(ours, truth, ids)
    order = list(range(len(ids)))
    random.Random(0).shuffle(order)
    parts = SegmentationMeter()
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        parts.update(ours[rows], truth[rows], [ids[row] for row in rows])
    assert all(abs(whole.compute()[key] - value) < 1e-12 for key, value in parts.compute().items())
    assert parts.per_image() == whole.per_image()


def test_two_processes_with_an_odd_remainder_equal_one():
    """A sampler that shares out 23 images evenly repeats one; it must not count twice."""
    ours, truth, ids = cases()
    whole, first, second = SegmentationMeter(), SegmentationMeter(), SegmentationMeter()
    whole.update(ours, truth, ids)
    first.update(ours[::2], truth[::2], ids[::2])
    second.update([*ours[1::2], ours[0]], [*truth[1::2], truth[0]], [*ids[1::2], ids[0]])
    first.merge(second)
    assert first.compute() == whole.compute()


def test_mistakes_are_named():
    meter = SegmentationMeter()
    with pytest.raises(ValueError, match="No image"):
        meter.compute()
    with pytest.raises(ValueError, match="2 predictions, but 1 masks"):
        meter.update([mask([1]), mask([1])], [mask([1])])
    with pytest.raises(ValueError, match=r"'a'.*\[1, 1\].*\[1, 2\]"):
        meter.update([mask([1])], [mask([1, 1])], ["a"])
    meter.update([mask([1])], [mask([1])], ["a"])
    with pytest.raises(ValueError, match="'a' was added before"):
        meter.update([mask([0])], [mask([1])], ["a"])


def test_agrees_with_monai():
    metrics = pytest.importorskip("monai.metrics", reason="monai is not installed")
    ours, truth, ids = cases()
    meter = SegmentationMeter()
    meter.update(ours, truth, ids)
    # MONAI gives nan for an empty mask unless told otherwise; told so, it scores 1 and 0 as we do.
    dice = metrics.DiceMetric(include_background=True, reduction="mean", ignore_empty=False)
    iou = metrics.MeanIoU(include_background=True, reduction="mean", ignore_empty=False)
    for metric in (dice, iou):
        metric(y_pred=ours[:, None].float(), y=truth[:, None].float())
    assert meter.compute()["dice_per_image"] == pytest.approx(dice.aggregate().item(), abs=1e-6)
    assert meter.compute()["iou_per_image"] == pytest.approx(iou.aggregate().item(), abs=1e-6)


def test_agrees_with_segmentation_models_pytorch():
    smp = pytest.importorskip("segmentation_models_pytorch", reason="segmentation-models-pytorch is not installed")
    ours, truth, ids = cases()
    meter = SegmentationMeter()
    meter.update(ours, truth, ids)
    counts = smp.metrics.get_stats(ours[:, None], truth[:, None], mode="binary")
    ours_metrics = meter.compute()
    for name, function in (("dice", smp.metrics.f1_score), ("iou", smp.metrics.iou_score)):
        pooled = function(*counts, reduction="micro").item()
        per_image = function(*counts, reduction="micro-imagewise", zero_division=1.0).item()
        assert ours_metrics[f"{name}_pooled"] == pytest.approx(pooled, abs=1e-6)
        assert ours_metrics[f"{name}_per_image"] == pytest.approx(per_image, abs=1e-6)
