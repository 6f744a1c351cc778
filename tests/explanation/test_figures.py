"""Figures say what was computed, in the right place, and no text covers another."""

import io
import sys
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from matplotlib import _pylab_helpers
from matplotlib.backends.backend_agg import FigureCanvasAgg

from reclmis.errors import MissingPackageError
from reclmis.explanation import (
    DeletionInsertion,
    RandomisationCheck,
    deletion_insertion_curves,
    explain,
    grad_cam,
    note_panel,
    overview,
    randomisation_curves,
)
from reclmis.explanation.drawing import laid_out, text_width
from reclmis.explanation.figures import weightiest
from tests.explanation.conftest import NOTES, picture
from tests.parts import NOTE_TEXT, lively, tiny_model, tiny_processor


@pytest.fixture(scope="module")
def explanation(model, processor):
    return explain(model, processor, picture(), NOTES[0])


def texts(figure):
    """Every text that is drawn, and its box in pixels."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    found = [*figure.texts]
    for axes in figure.axes:
        found += axes.texts
        if axes.axison:
            labels = [*axes.get_xticklabels(), *axes.get_yticklabels()] if axes.xaxis.get_visible() else []
            found += [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label, *labels]
        if axes.get_legend() is not None:
            found += [*axes.get_legend().get_texts(), axes.get_legend().get_title()]
    return [(text.get_text(), text.get_window_extent(renderer)) for text in found if text.get_text().strip()]


def assert_readable(figure):
    placed = texts(figure)
    for (one, here), (other, there) in combinations(placed, 2):
        across = min(here.x1, there.x1) - max(here.x0, there.x0)
        down = min(here.y1, there.y1) - max(here.y0, there.y0)
        assert across < 1 or down < 1, f"{one!r} and {other!r} overlap"
    for text, box in placed:
        assert box.x0 >= 0 and box.y0 >= 0, f"{text!r} leaves the figure"
        assert box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, f"{text!r} leaves the figure"
    return [text for text, _ in placed]


def panels(figure):
    """Pictures by the title above them."""
    return {axes.texts[0].get_text(): axes for axes in figure.axes if axes.images and len(axes.texts) > 1}


def test_overview(model, processor, explanation):
    truth = np.zeros((50, 70), dtype=np.uint8)
    truth[10:20, 10:30] = 1
    figure = overview(explanation, grad_cam(model, processor, picture(), NOTES[0]), truth)
    said = assert_readable(figure)
    assert {"upper", "left", "lung", "Image", "Patches of interest", "Grad-CAM", "Before the note"} <= set(said)
    assert (
        f"{explanation.word_interest[0]:.0%}" in said and "■ found" in said and any("Dice 0." in text for text in said)
    )
    assert not _pylab_helpers.Gcf.figs
    buffer = io.BytesIO()
    figure.savefig(buffer, format="pdf")
    assert buffer.tell() > 10_000


@pytest.mark.parametrize(("height", "width"), [(40, 120), (120, 40)])
def test_a_patch_is_drawn_where_it_is(model, processor, height, width):
    found = explain(model, processor, picture(height, width), NOTES[0])
    corner = np.zeros((4, 4), dtype=np.float32)
    corner[0, 3] = 1
    figure = overview(replace(found, patch_interest=corner))
    assert_readable(figure)
    drawn = panels(figure)["Patches of interest"].images[0].get_array()
    assert drawn.shape == (height, width, 3)
    row, column = np.unravel_index(drawn[..., 0].argmax(), drawn.shape[:2])
    assert row < height / 4 and column >= 3 * width / 4
    # The origin is at the top left, as in the image.
    assert panels(figure)["Patches of interest"].get_ylim()[0] > panels(figure)["Patches of interest"].get_ylim()[1]


def test_what_words_decide_stands_under_their_weights(explanation):
    removal = (("upper", 0.75), ("left", 0.5), ("lung", 0.0))
    said = assert_readable(overview(explanation, removal=removal))
    assert f"{explanation.word_interest[0]:.0%}\nΔ 75%" in said and any(
        "changes without the word" in text for text in said
    )
    assert "Δ 50%" in assert_readable(overview(replace(explanation, word_interest=None), removal=removal))
    with pytest.raises(ValueError, match="not those of the note"):
        overview(explanation, removal=removal[:2])


def test_colours_of_verdicts_are_those_of_the_pictures(explanation):
    mask, truth = np.zeros((2, 50, 70), dtype=np.uint8)
    mask[:20, :20], truth[:20, 10:30] = 1, 1
    figure = overview(replace(explanation, mask=mask), None, truth)
    axes = panels(figure)["Mask against the truth"]
    named = {text.get_text()[2:]: text.get_color() for text in figure.texts}
    drawn = axes.images[0].get_array() / 255
    for name, (row, column) in {"found": (0, 10), "too much": (0, 0), "missed": (0, 29)}.items():
        np.testing.assert_allclose(drawn[row, column], named[name], atol=1e-6)


def test_long_notes_take_more_lines(explanation):
    words = tuple(f"word{number}," for number in range(40))
    figure = overview(
        replace(explanation, words=words, word_interest=(1 / 40,) * 40, word_attention=np.ones((40, 4, 4)))
    )
    said = assert_readable(figure)
    assert "word39," in said and figure.get_size_inches()[1] > overview(explanation).get_size_inches()[1] + 0.25


def test_what_a_model_lacks_is_said():
    processor = tiny_processor(NOTES)
    plain = {"contrastive": False, "visual_reconstruction": False, "language_reconstruction": False}
    model = lively(tiny_model(text_config=NOTE_TEXT, interaction="none", **plain))
    said = " ".join(assert_readable(overview(explain(model, processor, picture(), NOTES[0]))))
    assert "no loss of this model trains weights of words" in said and "has no attention" in said
    assert "has no interaction" in said and "trains patches of interest" in said


def test_an_empty_mask(model, processor):
    nothing = explain(model, processor, picture(), NOTES[0], threshold=1.0)
    said = assert_readable(overview(nothing))
    assert any("Nothing is marked" in text for text in said)


def test_a_grad_cam_of_nothing_is_said(explanation):
    said = " ".join(assert_readable(overview(explanation, np.zeros((8, 8), dtype=np.float32))))
    assert "Nothing in this layer" in said
    assert "Not computed." in " ".join(assert_readable(overview(explanation)))


def test_weightiest_words_are_words(explanation):
    given = replace(explanation, words=("a", ",", "b"), word_interest=(0.1, 0.6, 0.3))
    assert weightiest(given) == [2, 0]
    listened = np.zeros((3, 4, 4))
    listened[0] = 1
    assert weightiest(replace(given, word_interest=None, patch_attention=listened)) == [0, 2]
    assert weightiest(replace(given, word_interest=None, patch_attention=None)) == []


def test_a_word_looks_heavy_only_beside_all_tokens(explanation):
    def fills(weights, rest):
        figure = overview(replace(explanation, word_interest=weights, left_out=(("<end>", rest),)))
        boxes = {text.get_text(): text.get_bbox_patch() for axes in figure.axes for text in axes.texts}
        return [boxes[word].get_facecolor()[2] for word in explanation.words]

    heavy, light = fills((0.6, 0.3, 0.0), 0.1), fills((0.006, 0.003, 0.0), 0.991)
    assert heavy[0] == 0.0 and heavy[2] == 1.0 and 0 < heavy[1] < 1  # the mask's orange has no blue
    assert min(light) > 0.98


def test_note_panel(model, processor):
    truth = np.zeros((50, 70), dtype=np.uint8)
    truth[10:20] = 1
    notes = ["upper left lung", "upper right lung", "lower right lung", "lungs", "$5 or $6"]
    model.train()
    try:
        figure = note_panel(model, processor, picture(), notes, truth)
        assert model.training
    finally:
        model.eval()
    said = assert_readable(figure)
    assert {"The note", "Edited note 4", "■ found", "$5"} <= set(said)
    pictures = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    assert len(pictures) == 5 and not np.array_equal(pictures[0], pictures[1])
    changed = {
        text.get_text() for axes in figure.axes for text in axes.texts if text.get_color() not in ("black", "0.35")
    }
    assert "right" in changed and "upper" not in changed
    alone = note_panel(model.optimize_for_inference(), processor, picture(), notes[:1])
    assert any("% marked" in text for text in assert_readable(alone))


def test_no_note_is_a_note_too(processor):
    processor = tiny_processor(NOTES)
    processor.null_note = True
    model = lively(tiny_model(text_config=NOTE_TEXT, note_dropout=0.2, presence=True))
    said = assert_readable(note_panel(model, processor, picture(), [NOTES[0], None]))
    assert "(no note)" in said and any("present" in text for text in said)
    assert "none: the model was asked for all that it finds" in assert_readable(
        overview(explain(model, processor, picture(), None))
    )


def test_what_cannot_be_drawn(model, processor, explanation, monkeypatch):
    wrong = np.zeros((70, 50), dtype=np.uint8)
    with pytest.raises(ValueError, match=r"50 x 70.*\(70, 50\)"):
        overview(explanation, None, wrong)
    with pytest.raises(ValueError, match=r"50 x 70.*\(70, 50\)"):
        note_panel(model, processor, picture(), NOTES, wrong)
    with pytest.raises(ValueError, match="at least one note"):
        note_panel(model, processor, picture(), [])
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackageError, match=r"reclmis\[explain\]"):
        overview(explanation)


def result(deletion, insertion, **changes):
    given = {"score": "dice", "shares": (0.0, 0.5, 1.0), "random_deletion": (1.0, 0.6, 0.0), "random_orders": 1,
             "random_insertion": (0.0, 0.4, 1.0), "seed": 0, "cells": (1, 2), **changes}  # fmt: skip
    return DeletionInsertion(deletion=deletion, insertion=insertion, **given)


def test_deletion_and_insertion_curves():
    given = {"grad_cam": result((1.0, 0.2, 0.0), (0.0, 0.8, 1.0)), "my map": result((1.0, 0.5, 0.0), (0.0, 0.5, 1.0))}
    figure = deletion_insertion_curves(given)
    said = assert_readable(figure)
    assert any("wholly blurred, 0% of the score stays" in text for text in said)
    assert {"Grad-CAM: 0.35", "my map: 0.50", "random orders: 0.55", "Grad-CAM: 0.65"} <= set(said)
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), (1.0, 0.2, 0.0))
    np.testing.assert_array_equal(figure.axes[1].lines[2].get_ydata(), (0.0, 0.4, 1.0))
    for wrong in ({}, {**given, "other": result((1.0, 0.2, 0.0), (0.0, 0.8, 1.0), score="probability")}):
        with pytest.raises(ValueError, match="one image"):
            deletion_insertion_curves(wrong)


def test_randomisation_curves():
    check = RandomisationCheck(0, ("mask head", "visual backbone"), {"grad_cam": (0.5, -0.1), "visual": (1.0, 0.3)})
    figure = randomisation_curves(check)
    said = assert_readable(figure)
    assert {"Grad-CAM: -0.10", "mask\nhead", "none"} <= set(said)
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), (1.0, 0.5, -0.1))


def test_lines_of_words():
    words = ["upper", "left", "lung", ",", "base"]
    wide = sum(text_width(word, 10) for word in words[:3]) + 2 * 6.2 + 1.8 + 1.8 + 0.1
    lines = laid_out(words, wide, 10)
    assert [[number for number, _ in line] for line in lines] == [[0, 1, 2, 3], [4]]  # a comma starts no line
    starts = [start for _, start in laid_out(["a", "b"], 500, 10, ["1%\n100%", "2%\n3%"])[0]]
    middles = [start + text_width(word, 10) / 2 for start, word in zip(starts, "ab", strict=True)]
    assert middles[1] - middles[0] == pytest.approx(text_width("100%", 7.5) + 5)
