import numpy as np
import pytest
from PIL import Image

from reclmis.medical import Volume, predict_volume
from reclmis.medical.prediction import note_for
from reclmis.prediction import predict
from tests.parts import NOTE_TEXT, lively, tiny_model, tiny_processor

NOTE = "Unilateral pulmonary infection, one infected area, upper left lung."
MIRRORED = "Unilateral pulmonary infection, one infected area, upper right lung."


def volume_of(slices, plane="axial", view="radiological"):
    return Volume(slices, np.eye(4), slices.shape[::-1], plane, view, "a scan")


@pytest.fixture(scope="module")
def parts():
    return lively(tiny_model(text_config=NOTE_TEXT)), tiny_processor([NOTE, MIRRORED])


@pytest.fixture
def slices():
    return np.random.default_rng(0).integers(0, 256, (5, 40, 48), dtype=np.uint8)


def test_every_slice_is_what_the_image_alone_would_be(parts, slices):
    model, processor = parts
    answer = predict_volume(model, processor, volume_of(slices), NOTE, orientation="image", batch_size=2,
                            keep_probability=True)  # fmt: skip
    assert answer.mask.shape == slices.shape and answer.mask.dtype == np.uint8 and answer.note == NOTE
    for number, pixels in enumerate(slices):
        (alone,) = predict(model, processor, [(Image.fromarray(pixels), NOTE)])
        np.testing.assert_allclose(answer.probability[number], alone.probability, atol=1e-5)
    assert predict_volume(model, processor, volume_of(slices), NOTE, orientation="image").probability is None


@pytest.mark.parametrize(
    ("plane", "view", "orientation", "expected"),
    [
        ("axial", "radiological", "image", NOTE),
        ("axial", "radiological", "patient", MIRRORED),
        ("coronal", "radiological", "patient", MIRRORED),
        ("axial", "neurological", "patient", NOTE),
        ("axial", "neurological", "image", NOTE),
    ],
)
def test_whose_left(slices, plane, view, orientation, expected):
    assert note_for(volume_of(slices, plane, view), NOTE, orientation) == expected


def test_what_cannot_be_decided_is_refused(parts, slices):
    with pytest.raises(TypeError, match="orientation"):
        predict_volume(*parts, volume_of(slices), NOTE)
    with pytest.raises(ValueError, match="whose left"):
        note_for(volume_of(slices), NOTE, "doctor")
    with pytest.raises(ValueError, match="names a side, which sagittal slices do not show"):
        note_for(volume_of(slices, "sagittal"), NOTE, "image")
    assert note_for(volume_of(slices, "sagittal"), "Pulmonary infection.", "patient") == "Pulmonary infection."
    with pytest.raises(ValueError, match="cannot be exchanged with certainty"):
        note_for(volume_of(slices), "Infection of the middle lobe, right of the heart.", "patient")
