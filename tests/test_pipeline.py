"""transformers' `pipeline`, as its users call it."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

from reclmis import RecLMISModel, RecLMISProcessor
from reclmis.prediction import predict
from tests.parts import write_checkpoint

NOTES = ["upper left lung", "lower right lung", "all lungs"]


def write_model(folder, num_labels=1):
    changes = {"id2label": {0: "background", 1: "left", 2: "right"}} if num_labels == 3 else {}
    write_checkpoint(folder, NOTES, **changes)
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def segment(folder):
    return pipeline("language-guided-segmentation", model=folder)


@pytest.fixture(scope="module")
def images():
    draw = np.random.default_rng(0)
    return [
        Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in [(50, 70), (64, 64), (33, 90)]
    ]


def test_masks_are_those_of_predict_at_the_images_own_sizes(segment, folder, images, tmp_path):
    model, processor = RecLMISModel.from_pretrained(folder), RecLMISProcessor.from_pretrained(folder)
    expected = list(predict(model, processor, zip(images, NOTES, strict=True), batch_size=1))
    for image, note, right in zip(images, NOTES, expected, strict=True):
        (entry,) = segment(image, note=note)
        assert entry["label"] == "foreground" and entry["mask"].size == image.size
        assert np.array_equal(np.asarray(entry["mask"]), right.mask * 255)
        inside = right.probability[right.mask == 1]
        assert entry["score"] == pytest.approx(inside.mean() if inside.size else 0.0, abs=1e-5)
    images[0].save(tmp_path / "image.png")
    (from_file,) = segment(tmp_path / "image.png", note=NOTES[0])
    assert np.array_equal(np.asarray(from_file["mask"]), expected[0].mask * 255)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_lists_and_generators_in_batches(segment, images, batch_size):
    requests = [{"image": image, "note": note} for image, note in zip(images, NOTES, strict=True)]
    listed = segment(requests, batch_size=batch_size)
    streamed = list(segment((request for request in requests), batch_size=batch_size))
    for image, one, other in zip(images, listed, streamed, strict=True):
        assert one[0]["mask"].size == image.size and one[0]["mask"].tobytes() == other[0]["mask"].tobytes()


def test_the_threshold_is_an_option(segment, images):
    areas = [np.asarray(segment(images[0], note=NOTES[0], threshold=t)[0]["mask"]).sum() for t in (0.0, 0.5, 1.0)]
    assert areas[0] == 255 * images[0].width * images[0].height and areas[0] > areas[1] > areas[2]


def test_several_classes_have_an_entry_each(images, tmp_path):
    segment = pipeline("language-guided-segmentation", model=write_model(tmp_path, num_labels=3))
    left, right = segment(images[0], note=NOTES[0])
    assert (left["label"], right["label"]) == ("left", "right")
    assert not (np.asarray(left["mask"]) & np.asarray(right["mask"])).any()


def test_a_pruned_model_and_a_model_in_memory(folder, segment, images):
    model = RecLMISModel.from_pretrained(folder, prune_reconstruction=True)
    again = pipeline(
        "language-guided-segmentation", model=model, processor=RecLMISProcessor.from_pretrained(folder),
        device=torch.device("cpu"),
    )  # fmt: skip
    masks = [pipe(images[0], note=NOTES[0])[0]["mask"].tobytes() for pipe in (again, segment)]
    assert masks[0] == masks[1]


def test_mistakes_are_named(segment, images):
    with pytest.raises(ValueError, match="needs an image and a note"):
        segment(images[0])
    with pytest.raises(ValueError, match="needs an image and a note"):
        segment({"image": images[0], "note": None})
    with pytest.raises(TypeError, match="candidate_labels"):
        segment(images[0], note=NOTES[0], candidate_labels=["a"])
