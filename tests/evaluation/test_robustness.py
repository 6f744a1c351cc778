"""Scores on worse images and on other datasets, and how far those lie."""

import json
import sys

import numpy as np
import pytest
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from reclmis.errors import MissingPackageError
from reclmis.evaluation import score_split
from reclmis.evaluation.corruptions import SEVERITIES, corrupt, seed_of
from reclmis.evaluation.distribution_shift import describe, shift_between
from reclmis.evaluation.robustness import corrupted, corruption_table, measure_robustness
from reclmis.evaluation.robustness_report import robustness_figure, robustness_markdown, save_figure
from tests.evaluation.noted_squares import RuledModel, noted_squares, reading_processor

RECORD = {"model": "some/model", "dataset": "squares", "split": "validation", "sha256": "abc", "command": "reclmis",
          "commit": None, "warnings": ["Seen before."]}  # fmt: skip


@pytest.fixture(scope="module")
def split():
    return noted_squares(12)


@pytest.fixture(scope="module")
def processor(split):
    return reading_processor(split["note"])


@pytest.fixture(scope="module")
def report(split, processor):
    other = split.remove_columns("note").add_column("note", ["Novel words, left lung infection."] * 12)
    said = []
    found = measure_robustness(
        RuledModel(processor, follows=True), processor, split, noted_squares(20, seed=1), others={"elsewhere": other},
        corruptions=["gamma", "noise"], progress=said.append,
    )  # fmt: skip
    assert said == ["corruption gamma", "corruption noise", "dataset elsewhere", "calibration", "distributions"]
    return {**RECORD, **found}


def test_images_are_corrupted_as_they_are_read(split):
    worse = corrupted(split, "noise", "strong", seed=2)
    row, clean = worse[3], np.array(split[3]["image"].convert("RGB"))
    assert (np.array(row["image"]) == corrupt(clean, "noise", "strong", seed_of(2, "noise", row["id"]))).all()
    assert row["note"] == split[3]["note"] and list(worse["id"]) == list(split["id"])
    assert (np.array(split[3]["image"].convert("RGB")) == clean).all()


def test_scores_by_severity(report):
    """The model tells black from white: that mid tones get darker changes nothing, and noise at last does."""
    assert report["clean"]["dice_per_image"] == 1.0 and report["clean"]["images"] == 12
    for severity in SEVERITIES:
        assert report["corruptions"]["gamma"][severity]["relative"] == 1.0
    noisy = [report["corruptions"]["noise"][severity]["relative"] for severity in SEVERITIES]
    assert noisy[0] == 1.0 > noisy[-1] and sorted(noisy, reverse=True) == noisy
    assert report["mean_relative"] == pytest.approx((5 + sum(noisy)) / 10)


def test_order_changes_no_noise(split, processor):
    model = RuledModel(processor, follows=False)
    options = {"corruptions": ["low_dose"], "seed": 4}
    back = split.select(range(11, -1, -1))
    assert corruption_table(model, processor, split, **options) == corruption_table(model, processor, back, **options)


def test_other_datasets(report, split, processor):
    """Asked for all of the left lung, the model marks all squares there."""
    found = report["domains"]["elsewhere"]
    left = score_split(RuledModel(processor, follows=True), processor, split, ["Infection, left lung"] * 12).summary()
    assert found["dice_per_image"] == found["relative"] == left["dice_per_image"] < 1
    described = report["shift"]["sets"]
    assert list(described) == ["this split", "elsewhere"] and report["shift"]["reference"]["images"] == 20
    assert described["elsewhere"]["most_frequent_unknown_words"] == ["novel", "words"]
    # novel words left lung infection
    assert described["elsewhere"]["unknown_words"] == pytest.approx(2 / 5)
    assert described["elsewhere"]["new_tokens"] > 0 == described["this split"]["unknown_words"]


def test_distances_by_hand(processor):
    """Of two sets of four, three dark images against one: shares below the grey between them differ by a half."""

    def uniform(values):
        grey = [Image.fromarray(np.full((8, 8), value, dtype=np.uint8)) for value in values]
        rows = [{"image": image, "mask": image, "note": "x", "id": str(place)} for place, image in enumerate(grey)]
        return Dataset.from_list(rows, Features(**dict.fromkeys(("image", "mask"), ImageFeature()),
                                                **dict.fromkeys(("note", "id"), Value("string"))))  # fmt: skip

    black, white = (describe(uniform(values), processor.tokenizer) for values in ((0, 0, 0, 255), (0, 255, 255, 255)))
    found = shift_between(black, white)["kolmogorov_smirnov"]
    assert found["intensity_mean"]["distance"] == found["mask_share"]["distance"] == 0.5
    assert found["intensity_std"] == {"distance": 0.0, "p": 1.0}
    assert shift_between(black, black)["kolmogorov_smirnov"]["mask_share"]["distance"] == 0.0
    summary = black.summary()
    assert summary["intensity_mean_per_image"] == summary["mask_share_per_image"] == 0.25
    assert summary["empty_masks"] == 3 and summary["height"] == [8, 8]
    assert set(summary["intensity_quantiles_per_image"].values()) == {0.25}


def test_without_training_split_or_corruptions(split, processor):
    found = measure_robustness(RuledModel(processor, follows=True), processor, split, corruptions=[])
    assert found["corruptions"] == {} and found["mean_relative"] is None and found["domains"] == {}
    assert found["shift"]["reference"]["name"] == "this split" and found["shift"]["sets"] == {}
    text = robustness_markdown({**RECORD, **found})
    assert "Worse images" not in text and "On the images as they are" in text
    assert len(robustness_figure(found).axes) == 1


def test_report(report, tmp_path):
    assert json.loads(json.dumps(report)) == report
    text = robustness_markdown(report, "robustness.png")
    assert text.startswith("# Robustness of some/model on squares, validation\n")
    assert "**Seen before.**" in text and "](robustness.png)" in text
    assert "| gamma | 100.0 (100.0) | 100.0 (100.0) |" in text
    assert "| squares | 12 | 100.0 | 100.0 | 100.0 | 100.0 | 100.0 |" in text
    assert "40.0 (novel, words)" in text and "Gamma: Mid tones darkened by a power of 1.2 to 3." in text
    figure = robustness_figure(report)
    severities, reliability = figure.axes
    assert [line.get_label() for line in severities.lines] == ["gamma", "noise"]
    assert list(severities.lines[0].get_ydata()) == [100.0] * 6
    assert len(reliability.lines) == 3
    path = save_figure(figure, tmp_path / "figure.png")
    assert Image.open(path).width > 1000 and not list(tmp_path.glob(".*"))


def test_refusals(split, processor, report, monkeypatch):
    model = RuledModel(processor, follows=True)
    with pytest.raises(ValueError, match="no corruption 'fog'"):
        measure_robustness(model, processor, split, corruptions=["fog"])
    blind = split.remove_columns("note").add_column("note", ["Infection"] * 12)
    with pytest.raises(ValueError, match="Dice of the images as they are is 0"):
        corruption_table(model, processor, blind)
    with pytest.raises(ValueError, match="without images"):
        describe(split.select([]), processor.tokenizer)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingPackageError, match=r"reclmis\[evaluation\]"):
        robustness_figure(report)
