import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from reclmis.data import Collator, synthetic_dataset
from reclmis.data.collate import decode_sample
from reclmis.evaluation import Evaluation, SegmentationMeter, score_image, score_split
from reclmis.evaluation.predictions import evaluate
from reclmis.evaluation.scores import score_sizes
from reclmis.prediction import TiledNoteWarning, predict
from tests.parts import NOTE_TEXT, lively, tiny_model, tiny_processor

NOTE = "upper left lung"


@pytest.fixture(scope="module")
def split():
    dataset = synthetic_dataset(num_train=1, num_validation=7, size=80)["validation"]
    # Short enough for the tiny model.
    return dataset.map(lambda row, place: {"note": f"{'left' if place % 2 else 'right'} lung"}, with_indices=True)


@pytest.fixture(scope="module")
def parts(split):
    return lively(tiny_model(text_config=NOTE_TEXT)), tiny_processor(split["note"])


def test_an_image_by_hand():
    prediction = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    target = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    score = score_image("sub-s1_run-1", prediction, target, note=NOTE)
    assert score.size == (3, 4) and score.counts == ((1, 2, 3),) and score.patient == "sub-s1"
    # The pixels of the first two rows touch at a corner.
    assert score.truth_areas == 2 and score.truth_share == 3 / 12
    assert score.dice == 2 / 5 and score.iou == 1 / 4
    assert score.sensitivity == pytest.approx(1 / 3) and score.precision == 1 / 2
    assert score.hd95 is None and score.presence is None and not score.found_nothing
    assert score_image("one", prediction, target, patient="somebody").patient == "somebody"
    assert score_image("one", prediction, target).patient is None


def test_classes_by_hand():
    score = score_image("a", np.array([[1, 2, 2]]), np.array([[1, 1, 2]]), num_labels=3, surfaces=True)
    assert score.counts == ((1, 1, 2), (1, 2, 1))
    assert score.dice == pytest.approx(2 / 3) and score.truth_areas == 1 and score.truth_share == 1
    # 0, and 0 and 1 back: the 95th percentile is 0.95, the mean of all three a third.
    assert score.hd95 == pytest.approx(0.95, abs=1e-6) and score.assd == pytest.approx(1 / 3, abs=1e-6)
    with pytest.raises(ValueError, match="'a', mask: values from 1 to 2"):
        score_image("a", np.array([[1, 1, 1]]), np.array([[1, 1, 2]]))


def test_the_summary_is_the_meters_to_the_bit(parts, split):
    model, processor = parts
    summary = score_split(model, processor, split, surfaces=True).summary()
    metrics = evaluate(model, processor, split, list(split["note"]))
    assert 0 < metrics["dice_per_image"] < 1 and summary["hd95_per_image"] > summary["assd_per_image"] > 0
    assert summary.keys() == metrics.keys() | {"hd95_per_image", "assd_per_image"}
    assert {name: summary[name] for name in metrics} == metrics


def test_batch_size_and_order_change_nothing(parts, split):
    model, processor = parts
    whole = score_split(model, processor, split, batch_size=7, surfaces=True)
    assert whole.ids == tuple(sorted(split["id"]))
    for dataset, batch_size in ((split, 1), (split, 3), (split.select(range(6, -1, -1)), 4)):
        other = score_split(model, processor, dataset, batch_size=batch_size, surfaces=True)
        assert all(abs(value - other.summary()[name]) < 1e-12 for name, value in whole.summary().items())
        assert other == whole


def test_the_models_size_is_that_of_training(parts, split):
    model, processor = parts
    found = score_sizes(model, processor, split, scored_at=("native", "model"))
    assert found["native"] == score_split(model, processor, split)
    assert found["model"] == score_split(model, processor, split, scored_at="model")
    batch = Collator(processor)([decode_sample(row) for row in split])
    with torch.no_grad():
        logits = model(**{name: batch[name] for name in ("pixel_values", "input_ids", "attention_mask")}).logits
    meter = SegmentationMeter()
    meter.update((logits[:, 0] >= 0).long(), batch["labels"], batch["ids"])
    assert found["model"].images[0].size == (64, 64) and found["native"].images[0].size == (80, 80)
    assert found["model"].summary() == meter.compute() != found["native"].summary()


def test_images_that_keep_their_size_are_not_answered_according_to_their_company(parts):
    model, processor = parts[0], tiny_processor(["left lung"])
    processor.image_processor.do_resize = False
    rows = [synthetic_dataset(num_train=1, num_validation=2, size=size)["validation"] for size in (48, 80)]
    from datasets import concatenate_datasets

    mixed = concatenate_datasets(rows).map(
        lambda row, place: {"id": str(place), "note": "left lung"}, with_indices=True
    )
    together = score_split(model, processor, mixed, batch_size=4)
    assert together == score_split(model, processor, mixed, batch_size=1)
    assert {image.size for image in together.images} == {(48, 48), (80, 80)}
    assert score_split(model, processor, mixed, scored_at="model").images == together.images


def test_millimetres_of_a_smaller_image_are_larger_pixels(parts, split):
    """80 pixels of 0.5 mm become 64 pixels of 0.625 mm."""
    model, processor = parts
    native = score_split(model, processor, split, surfaces=True, spacing=(0.5, 0.5))
    pixels = score_split(model, processor, split, surfaces=True)
    assert (native.unit, pixels.unit) == ("millimetres", "pixels")
    assert native.summary()["hd95_per_image"] == pytest.approx(pixels.summary()["hd95_per_image"] / 2)
    in_pixels, in_millimetres = (
        score_split(model, processor, split, surfaces=True, scored_at="model", spacing=spacing).summary()
        for spacing in (None, (0.5, 0.5))
    )
    assert in_millimetres["assd_per_image"] == pytest.approx(in_pixels["assd_per_image"] * 0.625)


def test_an_exported_model_without_notes_and_patients_of_a_column(exported, split):
    from reclmis.exported import ExportedModel

    model, folder = exported
    processor = tiny_processor([NOTE])
    processor.null_note = True
    rows = split.select(range(3)).add_column("patient", ["a", "b", "a"])
    notes = [NOTE, None, NOTE]
    there = score_split(ExportedModel.from_pretrained(folder), processor, rows, notes, batch_size=2)
    here = score_split(model, processor, rows, notes, batch_size=2)
    by_id = {image.id: image for image in there.images}
    assert [(by_id[name].note, by_id[name].patient) for name in rows["id"]] == [(NOTE, "a"), (None, "b"), (NOTE, "a")]
    assert there.summary()["dice_per_image"] == pytest.approx(here.summary()["dice_per_image"], abs=1e-3)
    with pytest.raises(ValueError, match="3 samples, but 1 notes"):
        score_split(model, processor, rows, [NOTE])


def test_presence_is_kept(split):
    model = tiny_model(text_config=NOTE_TEXT, presence=True)
    model.presence.score.bias.data.fill_(-30.0)
    found = score_split(model, tiny_processor(split["note"]), split, batch_size=3)
    assert all(image.presence < 1e-6 and image.found_nothing for image in found.images)


def test_no_note_needs_a_model_that_has_learned_it(parts, split):
    with pytest.raises(TypeError, match="None, and this model was trained with notes only"):
        score_split(*parts, split, [None] * len(split))


def test_json_gives_an_equal_evaluation(parts, split):
    evaluation = score_split(*parts, split, surfaces=True, spacing=(0.3, 0.7))
    assert Evaluation.from_dict(json.loads(json.dumps(evaluation.to_dict()))) == evaluation
    plain = Evaluation((replace(evaluation.images[0], surfaces=None, presence=0.1, note=None, patient="p"),))
    assert Evaluation.from_dict(json.loads(json.dumps(plain.to_dict()))) == plain
    for broken in ({}, {**plain.to_dict(), "images": [{"id": "a"}]}, {**plain.to_dict(), "images": None}):
        with pytest.raises(ValueError, match="no evaluation of this library"):
            Evaluation.from_dict(broken)


def test_parts_and_mistakes():
    one, other = (score_image(name, np.eye(2, dtype=int), np.ones((2, 2), dtype=int)) for name in "ab")
    both = Evaluation((other, one))
    assert both.ids == ("a", "b") and len(both) == 2 and both.values("precision") == [1.0, 1.0]
    assert both.where(lambda image: image.id == "b").ids == ("b",) and both.where(lambda image: False) is None
    with pytest.raises(ValueError, match="No image"):
        Evaluation(())
    with pytest.raises(ValueError, match="'a' is there twice"):
        Evaluation((one, other, one))
    with pytest.raises(ValueError, match="'a' has counts of 1 classes, not 2"):
        Evaluation((one,), num_labels=3)
    with pytest.raises(ValueError, match="some have none"):
        Evaluation((one, replace(other, surfaces=((1.0, 1.0),))))
    with pytest.raises(ValueError, match="'hd95' was not computed"):
        both.values("hd95")
    with pytest.raises(ValueError, match="no metric 'auc'"):
        both.values("auc")
    with pytest.raises(ValueError, match="'large'"):
        Evaluation((one,), scored_at="large")


def test_tiles_score_as_predict_answers(parts, split):
    model, processor = parts
    tiled = score_split(model, processor, split, tile=48, overlap=0.5, batch_size=3)
    whole = score_split(model, processor, split, batch_size=3)
    asked = [(row["image"], row["note"]) for row in split]
    with pytest.warns(TiledNoteWarning):
        found = list(predict(model, processor, asked, tile=48, overlap=0.5))
    masks = [decode_sample(row)["mask"] for row in split]
    expected = [
        score_image(row["id"], answer.mask, mask).dice for row, answer, mask in zip(split, found, masks, strict=True)
    ]
    by_id = {image.id: image.dice for image in tiled.images}
    assert [by_id[row["id"]] for row in split] == expected
    assert tiled.ids == whole.ids and tiled != whole


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"tile": 0}, "`tile`"),
        ({"tile": 8, "overlap": -0.1}, "`overlap`"),
        ({"tile": 8, "scored_at": "model"}, "native"),
    ],
)
def test_impossible_tiles_are_refused(parts, split, wrong, named):
    with pytest.raises(ValueError, match=named):
        score_split(*parts, split, **wrong)
