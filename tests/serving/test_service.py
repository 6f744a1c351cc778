"""What a network may ask, and what it is told."""

import io
import pickle
import struct
import threading
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from reclmis.serving import RefusedRequest, SegmentationService
from tests.parts import NOTE_TEXT, lively, tiny_model, tiny_processor
from tests.serving.conftest import NOTES, png


def bomb():
    """A PNG of a few bytes that says it has 100000 x 100000 pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_is_the_models_answer(service):
    answer = service.answer(png(), NOTES[0])
    image = Image.open(io.BytesIO(png()))
    with torch.no_grad():
        outputs = service.model(**service.processor(images=image, text=NOTES[0], return_tensors="pt"))
    (expected,) = service.processor.post_process_semantic_segmentation(
        outputs, target_sizes=[(50, 70)], return_probabilities=True
    )
    np.testing.assert_allclose(answer.probability, expected.numpy(), atol=1e-6)
    assert answer.mask.shape == (50, 70) and (answer.mask == (answer.probability >= 0.5)).all()
    assert answer.patch_interest.shape == (4, 4) and answer.patch_interest.sum() == pytest.approx(1, abs=1e-5)
    words = [word for word, _ in answer.word_interest]
    assert "".join(words).replace(" ", "") == NOTES[0].replace(" ", "")
    assert all(weight > 0 for _, weight in answer.word_interest)


def test_another_note_does_not_encode_the_image_again(service, monkeypatch):
    seen = []
    real = service.model.get_image_embeddings
    monkeypatch.setattr(service.model, "get_image_embeddings", lambda pixels: (seen.append(1), real(pixels))[1])
    first, second = (service.answer(png(seed=1), note) for note in NOTES)
    assert len(seen) == 1 and not np.allclose(first.probability, second.probability)
    for seed in range(2, 7):
        service.answer(png(seed=seed), NOTES[0])
    service.answer(png(seed=1), NOTES[0])
    assert len(seen) == 1 + 5 + 1  # forgotten meanwhile


def test_threads_get_their_own_answers(service):
    expected = {seed: service.answer(png(seed=seed), NOTES[seed % 2]).probability for seed in range(6)}
    answers = {}

    def ask(seed):
        answers[seed] = service.answer(png(seed=seed), NOTES[seed % 2]).probability

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(answers[seed], expected[seed]) for seed in expected)


class Exploit:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"<html>no image</html>", "no image of a kind that is read"),
        (png()[:200], "damaged"),
        (pickle.dumps(Exploit()), "no image"),
        (b"x" * 100_001, r"0\.1 MB"),
        (bomb(), "refused"),
        (b"II*\x00" + b"\xff" * 60, "The file"),
    ],
)
def test_bad_files_are_answered_with_a_sentence(service, content, message):
    with pytest.raises(RefusedRequest, match=message) as refusal:
        service.answer(content, NOTES[0])
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("note", "message"), [("", "empty"), (" ", "empty"), (None, "empty"), ("x" * 2001, "2001"),
                                             ("\ud800 lung", "half of a character")])  # fmt: skip
def test_bad_notes_are_answered_with_a_sentence(service, note, message):
    with pytest.raises(RefusedRequest, match=message):
        service.answer(png(), note)


def test_a_long_note_is_answered_with_a_remark(service):
    answer = service.answer(png(), "upper left lung " * 20)
    assert len(answer.remarks) == 1 and "dropped" in answer.remarks[0]
    assert not service.answer(png(), NOTES[0]).remarks


def test_a_note_that_stays_as_written_is_answered_with_a_remark(service, monkeypatch):
    monkeypatch.setattr(service.processor, "normalise_notes", True)
    (remark,) = service.answer(png(), "zz lung").remarks
    assert "'zz' is not understood" in remark


def blank(side, name="PNG"):
    buffer = io.BytesIO()
    Image.new("L", (side, side)).save(buffer, format=name)
    return buffer.getvalue()


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(service, monkeypatch):
    monkeypatch.setattr(service, "max_pixels", 10_000)
    assert service.answer(blank(100), NOTES[0]).mask.shape == (100, 100)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("It was decoded."))
    with pytest.raises(RefusedRequest, match="101 x 101 pixels, 10201 in all; at most 10000 are read"):
        service.answer(blank(101), NOTES[0])
    with pytest.raises(RefusedRequest, match="at most 16000000 are read"):
        SegmentationService(service.model, service.processor).answer(blank(4001), NOTES[0])


def test_images_are_kept_as_far_as_their_pixels_allow(monkeypatch):
    service = SegmentationService(tiny_model(text_config=NOTE_TEXT), tiny_processor(NOTES), max_pixels=20_000)
    seen = []
    real = service.model.get_image_embeddings
    monkeypatch.setattr(service.model, "get_image_embeddings", lambda pixels: (seen.append(1), real(pixels))[1])
    for side in (90, 91, 90, 91, 120, 90):
        service.answer(blank(side), NOTES[0])
    # Both of the smaller fit together, but not beside the largest.
    assert len(seen) == 4


@pytest.mark.parametrize("size", [(33, 47), (64, 47)])
def test_an_image_that_the_model_does_not_take_is_refused(service, size):
    processor = tiny_processor(NOTES)
    processor.image_processor.do_resize = processor.image_processor.do_pad = False
    with pytest.raises(RefusedRequest, match="multiple") as refusal:
        SegmentationService(service.model, processor).answer(png(size), NOTES[0])
    assert "\n" not in str(refusal.value)


def test_probabilities_are_float32_whatever_the_model_computes_in(service, monkeypatch):
    half = torch.full((50, 70), 0.75, dtype=torch.bfloat16)
    monkeypatch.setattr(service.processor, "post_process_semantic_segmentation", lambda *args, **kwargs: [half])
    answer = service.answer(png(), NOTES[0])
    assert answer.probability.dtype == np.float32 and (answer.probability == 0.75).all()


def test_a_threshold_out_of_range(service):
    with pytest.raises(RefusedRequest, match="between 0 and 1"):
        service.answer(png(), NOTES[0], threshold=1.5)


def test_presence_null_note_and_pruned_models():
    model = lively(tiny_model(text_config=NOTE_TEXT, note_dropout=0.2, presence=True))
    processor = tiny_processor(NOTES)
    processor.null_note = True
    answer = SegmentationService(model.optimize_for_inference(), processor).answer(png(), None)
    assert 0 <= answer.presence <= 1 and answer.patch_interest is None and answer.word_interest is None
