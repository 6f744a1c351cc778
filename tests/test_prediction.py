import os
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from reclmis import RecLMISImageProcessor, RecLMISProcessor
from reclmis.images import UnreadableImageError
from reclmis.prediction import TiledNoteWarning, predict
from reclmis.processing_reclmis import NoteTooLongWarning
from reclmis.text.note_tokenizer import build_note_tokenizer
from tests.parts import LENGTH, lively, tiny_model

NOTES = ["upper left lung", "lower right lung", "all left lung"]
TEXT = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
SIZES = [(40, 56), (65, 63), (16, 100), (64, 64), (33, 47)]


@pytest.fixture(scope="module")
def model():
    return lively(tiny_model(text_config=TEXT))


@pytest.fixture(scope="module")
def processor():
    tokenizer = build_note_tokenizer(NOTES * 2, vocab_size=400)
    image_processor = RecLMISImageProcessor(size={"height": 64, "width": 64})
    return RecLMISProcessor(image_processor, tokenizer, max_length=LENGTH)


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]


def requests_of(pictures):
    return [(picture, NOTES[index % 3]) for index, picture in enumerate(pictures)]


def test_masks_have_the_size_of_their_images(model, processor, pictures):
    answers = list(predict(model, processor, requests_of(pictures), batch_size=2))
    assert [answer.mask.shape for answer in answers] == SIZES
    assert [answer.index for answer in answers] == [0, 1, 2, 3, 4]
    assert [answer.note for answer in answers] == [NOTES[index % 3] for index in range(5)]
    for answer, picture in zip(answers, pictures, strict=True):
        assert answer.mask.dtype == np.uint8 and answer.probability.shape == answer.mask.shape
        assert (answer.mask == (answer.probability >= 0.5)).all()
        assert (np.asarray(answer.image) == picture).all()
    assert 0 < np.concatenate([answer.mask.ravel() for answer in answers]).mean() < 1


def test_the_batch_size_does_not_matter(model, processor, pictures):
    alone = list(predict(model, processor, requests_of(pictures), batch_size=1))
    together = list(predict(model, processor, requests_of(pictures), batch_size=8))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.probability, other.probability, atol=1e-5)


def test_it_is_the_five_lines_of_the_readme(model, processor, pictures):
    answer = next(predict(model, processor, requests_of(pictures)[:1]))
    with torch.no_grad():
        outputs = model(**processor(images=pictures[0], text=NOTES[0], return_tensors="pt"))
    mask = processor.post_process_semantic_segmentation(outputs, target_sizes=[SIZES[0]])[0]
    assert (answer.mask == mask.numpy()).all()


def test_requests_are_read_one_batch_at_a_time(model, processor, pictures):
    drawn = []

    def endless():
        while True:
            drawn.append(len(drawn))
            yield pictures[0], NOTES[0]

    answers = predict(model, processor, endless(), batch_size=3)
    for _ in range(4):
        next(answers)
    assert len(drawn) == 6


def test_a_bad_request_is_left_out_and_reported(model, processor, pictures, tmp_path):
    Image.fromarray(pictures[0]).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"")
    requests = [
        (tmp_path / "good.png", NOTES[0]),
        (tmp_path / "bad.png", NOTES[0]),
        (pictures[1], "  "),
        (pictures[1], None),
        (np.full((8, 8), -1.0), NOTES[0]),
        (pictures[2], NOTES[0]),
    ]
    failures = []
    answers = list(predict(model, processor, requests, batch_size=4, on_error=lambda *pair: failures.append(pair)))
    assert [answer.index for answer in answers] == [0, 5]
    assert answers[0].source == str(tmp_path / "good.png") and answers[1].source == "5"
    assert [source for source, _ in failures] == [str(tmp_path / "bad.png"), "2", "3", "4"]
    messages = [str(error) for _, error in failures]
    assert "0 bytes" in messages[0] and "note for 2 is empty" in messages[1] and "from -1 to -1" in messages[3]


def test_without_a_listener_a_bad_request_raises(model, processor, tmp_path):
    with pytest.raises(UnreadableImageError, match=r"nowhere\.png"):
        list(predict(model, processor, [(tmp_path / "nowhere.png", NOTES[0])]))


def test_several_classes(processor, pictures):
    model = tiny_model(num_labels=4, text_config=TEXT)
    answer = next(predict(model, processor, requests_of(pictures)))
    assert answer.probability.shape == (4, *SIZES[0])
    assert (answer.mask == answer.probability.argmax(axis=0)).all()


def test_the_threshold(model, processor, pictures):
    shares = [next(predict(model, processor, requests_of(pictures), threshold=t)).mask.mean() for t in (0.0, 0.5, 1.0)]
    assert shares[0] == 1 and shares[0] > shares[1] > shares[2]


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"threshold": 1.5}])
def test_wrong_options_raise_at_once(model, processor, options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}`"):
        predict(model, processor, [], **options)


@pytest.fixture
def counted(model, monkeypatch):
    """The model, and how many images and notes it encoded."""
    counts = {"images": 0, "notes": 0}
    see, read = model.get_image_embeddings, model.encode_text

    def seen(pixels):
        counts["images"] += len(pixels)
        return see(pixels)

    def heard(ids, mask=None):
        counts["notes"] += len(ids)
        return read(ids, mask)

    monkeypatch.setattr(model, "get_image_embeddings", seen)
    monkeypatch.setattr(model, "encode_text", heard)
    return model, counts


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_an_image_and_a_note_are_encoded_once(counted, processor, pictures, batch_size):
    model, counts = counted
    requests = [(picture, note) for picture in pictures[:3] for note in NOTES]
    together = list(predict(model, processor, iter(requests), batch_size=batch_size))
    assert counts == {"images": 3, "notes": 3}
    assert [(answer.index, answer.note) for answer in together] == [(i, NOTES[i % 3]) for i in range(9)]
    for answer, (picture, note) in zip(together, requests, strict=True):
        with torch.no_grad():
            outputs = model(**processor(images=picture, text=note, return_tensors="pt"))
        target_sizes = [picture.shape[:2]]
        (alone,) = processor.post_process_semantic_segmentation(
            outputs, target_sizes=target_sizes, return_probabilities=True
        )
        np.testing.assert_allclose(answer.probability, alone.numpy(), atol=1e-5)


def test_a_path_is_read_once_for_its_notes(counted, processor, pictures, tmp_path, monkeypatch):
    model, counts = counted
    Image.fromarray(pictures[0]).save(tmp_path / "a.png")
    reads = []
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda path, **more: (reads.append(path), real(path, **more))[1])
    list(predict(model, processor, [(tmp_path / "a.png", note) for note in NOTES]))
    assert counts["images"] == 1 and len(reads) == 1


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_memory_and_files_that_are_drawn_over_are_other_images(model, processor, pictures, tmp_path, batch_size):
    frames = [picture[:33, :47] for picture in (pictures[1], pictures[3], pictures[4])]
    expected = [answer.probability for answer in predict(model, processor, [(frame, NOTES[0]) for frame in frames])]
    assert np.abs(expected[0] - expected[1]).max() > 0.1
    array, picture, path = frames[0].copy(), Image.fromarray(frames[0].copy()), tmp_path / "frame.png"

    def drawn(frame, number):
        array[:] = frame
        picture.paste(Image.fromarray(frame))
        Image.fromarray(frame).save(path)
        os.utime(path, ns=(number, number))  # clocks of file systems may be slower than this test
        return {"array": array, "picture": picture, "path": path}

    for kind in ("array", "picture", "path"):
        requests = ((drawn(frame, number)[kind], NOTES[0]) for number, frame in enumerate(frames))
        for answer, alone in zip(predict(model, processor, requests, batch_size=batch_size), expected, strict=True):
            np.testing.assert_allclose(answer.probability, alone, atol=1e-5)


def test_what_cannot_be_asked_is_reported_and_the_rest_answered(model, processor, pictures):
    keeping = RecLMISProcessor(
        RecLMISImageProcessor(do_resize=False, do_pad=False),
        processor.tokenizer,
        max_length=LENGTH,
        on_long_note="raise",
    )
    long = "upper left lung and " * 9
    requests = [(pictures[3], NOTES[0]), (pictures[4], NOTES[0]), (pictures[3], long), (pictures[3], NOTES[1])]
    failures = []
    answers = list(predict(model, keeping, requests, on_error=lambda *failure: failures.append(failure)))
    assert [answer.index for answer in answers] == [0, 3]
    assert [source for source, _ in failures] == ["1", "2"]
    assert "Image 1: The image has 33 x 47 pixels" in str(failures[0][1]) and "tokens" in str(failures[1][1])


def test_a_long_note_is_told_once(model, processor, pictures):
    with pytest.warns(NoteTooLongWarning) as told:
        list(predict(model, processor, [(picture, "upper left lung and " * 9) for picture in pictures], batch_size=2))
    assert len(told) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_in_half_precision_answers(model, processor, pictures, dtype):
    half = lively(tiny_model(text_config=TEXT)).to(dtype)
    whole = predict(model, processor, requests_of(pictures))
    for answer, wanted in zip(predict(half, processor, requests_of(pictures)), whole, strict=True):
        assert answer.probability.dtype == np.float32
        np.testing.assert_allclose(answer.probability, wanted.probability, atol=0.2)


def test_images_that_keep_their_sizes_are_answered_as_if_alone(model, processor, pictures):
    """Padded to the largest of their batch they would not be."""
    keeping = RecLMISProcessor(
        RecLMISImageProcessor(do_resize=False, pad_size_divisor=16), processor.tokenizer, max_length=LENGTH
    )
    requests = requests_of(pictures)
    alone = list(predict(model, keeping, requests, batch_size=1))
    for one, other in zip(alone, predict(model, keeping, requests, batch_size=5), strict=True):
        np.testing.assert_allclose(one.probability, other.probability, atol=1e-5)


class TestTiles:
    def test_one_tile_is_the_image(self, model, processor, pictures):
        whole = list(predict(model, processor, requests_of(pictures)))
        with warnings.catch_warnings():
            warnings.simplefilter("error", TiledNoteWarning)  # its places are the image's
            tiled = list(predict(model, processor, requests_of(pictures), tile=100))
        for one, other in zip(whole, tiled, strict=True):
            np.testing.assert_allclose(one.probability, other.probability, atol=1e-5)

    def test_every_pixel_is_an_average_of_the_tiles_that_show_it(self, model, processor):
        """Tiles without overlap are images of their own, side by side; with it, they cover twice what they share."""
        picture = np.random.default_rng(3).integers(0, 256, (64, 128, 3), dtype=np.uint8)
        (tiled,) = predict(model, processor, [(picture, "dense nuclei")], tile=64, overlap=0)
        halves = [predict(model, processor, [(picture[:, x : x + 64], "dense nuclei")]) for x in (0, 64)]
        expected = np.concatenate([next(half).probability for half in halves], axis=1)
        np.testing.assert_allclose(tiled.probability, expected, atol=1e-5)

        (tiled,) = predict(model, processor, [(picture, "dense nuclei")], tile=64, overlap=0.5)
        parts = {x: next(predict(model, processor, [(picture[:, x : x + 64], "dense nuclei")])) for x in (0, 32, 64)}
        # Column 40 is 41st of the first tile and 9th of the second: it weighs 24 there (from the right) and 9 here.
        mixed = (24 * parts[0].probability[:, 40] + 9 * parts[32].probability[:, 8]) / 33
        np.testing.assert_allclose(tiled.probability[:, 40], mixed, atol=1e-5)
        assert tiled.mask.shape == (64, 128) and (tiled.mask == (tiled.probability >= 0.5)).all()

    def test_tiles_are_asked_in_batches(self, model, processor, monkeypatch):
        sizes = []
        see = model.get_image_embeddings
        monkeypatch.setattr(model, "get_image_embeddings", lambda pixels: (sizes.append(len(pixels)), see(pixels))[1])
        picture = np.random.default_rng(5).integers(0, 256, (96, 96, 3), dtype=np.uint8)
        batched, alone = (
            next(predict(model, processor, [(picture, NOTES[0])], tile=32, overlap=0, batch_size=size))
            for size in (4, 1)
        )
        assert sizes == [4, 4, 1] + [1] * 9
        np.testing.assert_allclose(batched.probability, alone.probability, atol=1e-5)

    def test_many_notes_of_a_large_image(self, counted, processor):
        model, counts = counted
        picture = np.random.default_rng(4).integers(0, 256, (150, 90, 3), dtype=np.uint8)
        notes = ["dense nuclei", "pale nuclei", "round nuclei"]
        tiled = list(
            predict(model, processor, [(picture, note) for note in notes], tile=64, overlap=0.25, batch_size=2)
        )
        # Three notes in batches of two: the image comes in two batches, and each encodes its tiles once.
        assert counts["notes"] == 3 and counts["images"] == 2 * 3 * 2
        assert [answer.probability.shape for answer in tiled] == [(150, 90)] * 3
        for note, answer in zip(notes, tiled, strict=True):
            (alone,) = predict(model, processor, [(picture, note)], tile=64, overlap=0.25)
            np.testing.assert_allclose(answer.probability, alone.probability, atol=1e-5)

    @pytest.mark.parametrize(
        ("options", "message"),
        [({"tile": 0}, "`tile`"), ({"overlap": 1.0}, "`overlap`"), ({"overlap": -0.1}, "`overlap`")],
    )
    def test_refuses_what_covers_nothing(self, model, processor, options, message):
        with pytest.raises(ValueError, match=message):
            predict(model, processor, [], **options)
