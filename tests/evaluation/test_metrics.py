import os
import random

import pytest
import torch
from torch import distributed

from reclmis.evaluation import SegmentationMeter
from tests.processes import in_two_processes


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


# Found of the mask, and right of the prediction. Where only one of the two is empty, both are 0, also the one whose quotient
# is 0 / 0.
@pytest.mark.parametrize(
    ("prediction", "target", "sensitivity", "precision"),
    [
        (mask([1, 1, 1, 0]), mask([1, 0, 0, 1]), 1 / 2, 1 / 3),
        (mask([1, 0, 0, 0]), mask([1, 1, 1, 1]), 1 / 4, 1.0),
        (mask([0, 0, 0, 0]), mask([0, 0, 0, 0]), 1.0, 1.0),
        (mask([1, 0, 0, 0]), mask([0, 0, 0, 0]), 0.0, 0.0),
        (mask([0, 0, 0, 0]), mask([1, 0, 0, 0]), 0.0, 0.0),
    ],
)
def test_sensitivity_and_precision(prediction, target, sensitivity, precision):
    meter = SegmentationMeter()
    meter.update([prediction], [target])
    for family in ("per_image", "pooled"):
        assert meter.compute()[f"sensitivity_{family}"] == pytest.approx(sensitivity)
        assert meter.compute()[f"precision_{family}"] == pytest.approx(precision)


def test_sensitivity_and_precision_in_both_families_and_of_classes():
    meter = SegmentationMeter(num_labels=3)
    meter.update([mask([1, 1, 2, 2]), mask([1, 0, 0, 0])], [mask([1, 0, 2, 1]), mask([1, 1, 1, 0])])
    metrics = meter.compute()
    # class 1: 1 of 2 and 1 of 3 found, 1 of 2 and 1 of 1 right; class 2: 1 of 1 and nothing of nothing, 1 of 2 right
    assert metrics["sensitivity_per_image_class1"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert metrics["sensitivity_pooled_class1"] == pytest.approx(2 / 5)
    assert metrics["precision_per_image_class2"] == pytest.approx((1 / 2 + 1) / 2)
    assert metrics["precision_pooled"] == pytest.approx((2 / 3 + 1 / 2) / 2)


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
    meter.update([mask([0, 0, 0, 2])], [mask([1, 1, 1, 2])])
    metrics = meter.compute()
    assert metrics["dice_per_image_class1"] == pytest.approx((2 / 3 + 0) / 2)
    assert metrics["dice_per_image_class2"] == pytest.approx((2 / 3 + 1) / 2)
    # class 1 pooled: 1 in both, 1 predicted, 5 there; class 2: 2, 3 and 2
    assert metrics["dice_pooled_class1"] == pytest.approx(2 / 6)
    assert metrics["iou_pooled_class2"] == pytest.approx(2 / 3)
    assert metrics["dice_pooled"] == pytest.approx((2 / 6 + 4 / 5) / 2)


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


def share(rank, folder):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    ours, truth, ids = cases()
    rows = list(range(rank, len(ids), 2))
    # A sampler that shares out 23 images evenly repeats one; it must not count twice.
    rows += [0] if rank == 1 else []
    meter = SegmentationMeter()
    for start in range(0, len(rows), 5):
        part = rows[start : start + 5]
        meter.update(ours[part], truth[part], [ids[row] for row in part])
    meter.gather()
    torch.save({"metrics": meter.compute(), "rows": meter.per_image()}, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_with_an_odd_remainder_equal_one(tmp_path):
    in_two_processes(share, str(tmp_path))
    whole = SegmentationMeter()
    whole.update(*cases())
    for rank in range(2):
        gathered = torch.load(tmp_path / f"{rank}.pt")
        assert gathered == {"metrics": whole.compute(), "rows": whole.per_image()}


def test_merging_keeps_what_is_there_and_every_image_without_an_id():
    first, second = SegmentationMeter(), SegmentationMeter()
    for meter, prediction in ((first, [1, 1, 0]), (second, [1, 1, 1])):
        meter.update([mask(prediction)], [mask([1, 1, 0])], ["a"])
        meter.update([mask([1, 0, 0])] * 2, [mask([1, 1, 0])] * 2)
    first.merge(second)
    assert len(first) == 5 and first.per_image()[-1] == {"id": "a", "dice": 1.0, "iou": 1.0}
    other = SegmentationMeter()
    other.update([mask([0, 0, 0])], [mask([0, 0, 0])], ["a"])
    with pytest.raises(ValueError, match="'a' has another mask"):
        first.merge(other)


def test_mistakes_are_named():
    meter = SegmentationMeter()
    with pytest.raises(ValueError, match="No image"):
        meter.compute()
    with pytest.raises(ValueError, match="2 predictions, but 1 masks"):
        meter.update([mask([1]), mask([1])], [mask([1])])
    with pytest.raises(ValueError, match="1 predictions, but 1 masks and 2 ids"):
        meter.update([mask([1])], [mask([1])], ["a", "b"])
    with pytest.raises(ValueError, match="'a', mask: values from 0 to 255 are no classes 0 to 1"):
        meter.update([mask([0, 1])], [mask([0, 255])], ["a"])
    with pytest.raises(ValueError, match="'a', prediction: torch.float32 values.*argmax"):
        meter.update([torch.tensor([[0.2, 0.9]])], [mask([0, 1])], ["a"])
    assert len(meter) == 0
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


def test_sensitivity_and_precision_agree_with_monai():
    metrics = pytest.importorskip("monai.metrics", reason="monai is not installed")
    ours, truth, _ = cases()
    rows = [row for row in range(len(ours)) if ours[row].any() and truth[row].any()]
    meter = SegmentationMeter()
    meter.update(ours[rows], truth[rows])
    matrix = metrics.ConfusionMatrixMetric(
        metric_name=("sensitivity", "precision"), compute_sample=True, reduction="mean"
    )
    matrix(y_pred=ours[rows][:, None].float(), y=truth[rows][:, None].float())
    for name, value in zip(("sensitivity", "precision"), matrix.aggregate(), strict=True):
        assert meter.compute()[f"{name}_per_image"] == pytest.approx(value.item(), abs=1e-6)


def test_classes_agree_with_monai():
    metrics = pytest.importorskip("monai.metrics", reason="monai is not installed")
    generator = torch.Generator().manual_seed(0)
    ours, truth = (torch.randint(0, 4, (7, 9, 9), generator=generator) for _ in range(2))
    truth[truth == 3] = 0
    truth[0], ours[0] = 0, 0
    meter = SegmentationMeter(num_labels=4)
    meter.update(ours, truth)
    dice = metrics.DiceMetric(include_background=False, reduction="mean_batch", ignore_empty=False)
    one_hot = (torch.nn.functional.one_hot(part, 4).movedim(-1, 1) for part in (ours, truth))
    dice(*one_hot)
    for c, value in enumerate(dice.aggregate().tolist(), start=1):
        assert meter.compute()[f"dice_per_image_class{c}"] == pytest.approx(value, abs=1e-6)


def test_agrees_with_segmentation_models_pytorch():
    smp = pytest.importorskip("segmentation_models_pytorch", reason="segmentation-models-pytorch is not installed")
    ours, truth, ids = cases()
    meter = SegmentationMeter()
    meter.update(ours, truth, ids)
    counts = smp.metrics.get_stats(ours[:, None], truth[:, None], mode="binary")
    ours_metrics = meter.compute()
    for name, function in (("sensitivity", smp.metrics.recall), ("precision", smp.metrics.precision)):
        assert ours_metrics[f"{name}_pooled"] == pytest.approx(function(*counts, reduction="micro").item(), abs=1e-6)
        # Where one mask is empty, SMP has one answer for 0 / 0, whatever the other mask shows.
        filled = SegmentationMeter()
        rows = [row for row in range(len(ids)) if ours[row].any() and truth[row].any()]
        filled.update(ours[rows], truth[rows])
        per_image = function(*(part[rows] for part in counts), reduction="micro-imagewise").item()
        assert filled.compute()[f"{name}_per_image"] == pytest.approx(per_image, abs=1e-6)
    for name, function in (("dice", smp.metrics.f1_score), ("iou", smp.metrics.iou_score)):
        pooled = function(*counts, reduction="micro").item()
        per_image = function(*counts, reduction="micro-imagewise", zero_division=1.0).item()
        assert ours_metrics[f"{name}_pooled"] == pytest.approx(pooled, abs=1e-6)
        assert ours_metrics[f"{name}_per_image"] == pytest.approx(per_image, abs=1e-6)
