"""A certificate of models whose rule is known: one reads its note, one marks everything white."""

from functools import partial

import numpy as np
import pytest
from PIL import Image

from reclmis.evaluation import score_split
from reclmis.evaluation.certificate import METRICS, text_dependence_certificate
from reclmis.evaluation.certificate_report import certificate_body, certificate_markdown
from reclmis.evaluation.note_sets import note_sets
from reclmis.processing_reclmis import NoteTooLongWarning
from tests.evaluation.noted_squares import RuledModel, noted_squares, reading_processor
from tests.parts import NOTE_TEXT, lively, tiny_model, tiny_processor

ROWS = ["right", "none", "shuffled", "side_swapped", "zone_swapped", "distractor", "contradicting", "paraphrased",
        "typos", "word_order", "constant"]  # fmt: skip
RECORD = {"model": "some/model", "dataset": "squares", "split": "validation", "sha256": "abc", "command": "reclmis certify",
          "commit": None, "warnings": []}  # fmt: skip


certified = partial(text_dependence_certificate, resamples=200)


@pytest.fixture(scope="module")
def split():
    return noted_squares(24)


@pytest.fixture(scope="module")
def processor(split):
    return reading_processor(split["note"])


@pytest.fixture(scope="module")
def follower(split, processor):
    return certified(RuledModel(processor, follows=True), processor, split, noted_squares(30, seed=1))


@pytest.fixture(scope="module")
def ignorer(split, processor):
    model = RuledModel(processor, follows=False)
    return certified(model, processor, split, noted_squares(30, seed=1), image_only=(model, processor))


def answers(certificate):
    return {line["claim"]: line["answer"] for line in certificate["verdicts"]}


def test_a_model_that_follows_its_note(follower):
    rows = follower["rows"]
    assert list(rows) == ROWS
    assert all(rows["right"][name] == 1.0 for name in METRICS)
    # Whatever the note says, it marks exactly what the image shows of that.
    for name in ("shuffled", "side_swapped", "zone_swapped", "distractor", "contradicting"):
        assert rows[name]["described"]["by"] == "exact"
        assert rows[name]["described"]["after"] == 1.0 > rows[name]["described"]["before"]
    assert rows["distractor"]["dice_per_image"] == rows["distractor"]["described"]["before"] == 0.0
    assert rows["distractor"]["lost"] == {"estimate": 1.0, "low": 1.0, "high": 1.0}
    assert rows["distractor"]["inside_zones"]["after"] == 1.0 > rows["distractor"]["inside_zones"]["before"]
    assert rows["contradicting"]["empty"] == rows["none"]["empty"] == rows["constant"]["empty"] == 1.0
    for name in ("paraphrased", "typos"):
        assert rows[name]["same_mask_dice_per_image"] == 1.0 and rows[name]["other_places"] == 0
        assert rows[name]["lost"]["estimate"] == 0.0 and "described" not in rows[name]
    assert rows["word_order"]["other_places"] > 0 and "described" not in rows["word_order"]


def test_verdicts_of_a_model_that_follows(follower):
    found = answers(follower)
    assert found.pop("knows more than the image alone shows") == "not measured"
    # The squares never move, so the note alone tells everything.
    assert found.pop("sees more than the note alone says") == "no"
    assert follower["floors"]["text_only"]["dice_per_image"] == 1.0
    assert set(found.values()) == {"yes"} and len(found) == 7


def test_a_model_that_ignores_its_note(ignorer):
    rows = ignorer["rows"]
    for name in ROWS[1:]:
        altered = [rows[name][metric] for metric in METRICS]
        assert altered == [rows[name]["true_note"][metric] for metric in METRICS]
        assert rows[name]["same_mask_dice_per_image"] == 1.0
    assert 0 < rows["right"]["dice_per_image"] < 1
    assert answers(ignorer) == {
        "needs its own note": "no",
        "follows sides": "no",
        "follows heights": "no",
        "tells findings of one image apart": "no",
        "marks nothing where the note names what is not there": "no",
        "understands other words": "yes",
        "understands typos": "yes",
        "sees more than the note alone says": "no",
        "knows more than the image alone shows": "no",
    }


def test_without_distractors_the_text_only_answer_stands_for_the_region(processor):
    split = noted_squares(24, distractors=False)
    model, train = RuledModel(processor, follows=True), noted_squares(30, seed=1)
    certificate = certified(model, processor, split, train)
    rows = certificate["rows"]
    assert "distractor" not in rows and rows["side_swapped"]["described"]["by"] == "text_only"
    assert answers(certificate)["follows sides"] == "yes"
    # The mask is taken for all of the finding: a place without any is named.
    assert rows["contradicting"]["notes_changed"] == 24 and rows["contradicting"]["dice_per_image"] == 0.0
    alone = certified(model, processor, split)
    assert alone["floors"]["text_only"]["why"] == "no training split was given"
    assert alone["rows"]["side_swapped"]["described"]["by"] == "zones"


def test_rows_are_about_the_notes_that_could_be_altered(processor):
    split = noted_squares(24)
    row = certified(RuledModel(processor, follows=True), processor, split)["rows"]["zone_swapped"]
    swapped = next(line for line in note_sets(split, null_note=False) if line.name == "zone_swapped")
    assert 0 < row["images"] == row["notes_changed"] == len(swapped.notes) == 24 - row["left_out_images"] < 24
    assert row["other_places"] == row["notes_changed"]
    assert row["left_out"] == "not understood, or upper and lower not told apart"


def test_notes_that_the_parser_does_not_understand(processor):
    """As of MoNuSeg: no sides, heights or contradictions to exchange, and the report says so."""
    nuclei = ["The nuclei are evenly distributed.", "The nuclei density in the upper right is high."]
    split = noted_squares(16, distractors=False).remove_columns("note").add_column("note", nuclei * 8)
    certificate = certified(RuledModel(processor, follows=False), processor, split, split)
    rows = certificate["rows"]
    for name in ("side_swapped", "zone_swapped", "contradicting", "paraphrased"):
        assert rows[name]["notes_changed"] == 0 and rows[name]["left_out"]
    for name in ("shuffled", "typos", "word_order", "constant", "none"):
        assert rows[name]["notes_changed"] == 16
    assert "described" not in rows["shuffled"]
    assert answers(certificate)["follows sides"] == answers(certificate)["needs its own note"] == "not measured"
    text = certificate_markdown({**RECORD, **certificate})
    assert "| left and right exchanged | 0 of 16 | not possible |" in text
    assert "Left and right exchanged: 16 of 16 images are left out (not understood" in text


def test_answers_are_those_of_the_evaluator():
    """Images are encoded once for all notes; that changes no score."""
    split = noted_squares(7)
    model, processor = lively(tiny_model(text_config=NOTE_TEXT)), tiny_processor(split["note"])
    certificate = certified(model, processor, split, batch_size=4)
    with pytest.warns(NoteTooLongWarning):
        summary = score_split(model, processor, split).summary()
    assert {name: certificate["rows"]["right"][name] for name in METRICS} == {name: summary[name] for name in METRICS}
    assert certificate["rows"]["right"]["notes_cut"] > 0


def test_several_classes_are_scored_without_regions():
    """What a note describes is one region, and the text-only predictor answers for one class."""
    split = noted_squares(4, distractors=False)
    split = split.map(lambda row: {"mask": Image.fromarray(np.array(row["mask"]) // 255 * 2)}, features=split.features)
    model, processor = tiny_model(text_config=NOTE_TEXT, num_labels=3), tiny_processor(split["note"])
    certificate = certified(model, processor, split, split)
    rows = certificate["rows"]
    assert certificate["floors"]["text_only"]["why"] == "it answers for one class only"
    assert rows["side_swapped"]["images"] > 0 and "described" not in rows["side_swapped"]
    assert rows["contradicting"]["images"] == 0 and "several classes" in rows["contradicting"]["left_out"]
    assert "| not possible |" in certificate_markdown({**RECORD, **certificate})


def test_a_model_with_a_null_note_is_asked_without_any():
    split = noted_squares(4)
    model, processor = tiny_model(text_config=NOTE_TEXT, note_dropout=0.1), tiny_processor(split["note"])
    processor.null_note = True
    rows = certified(model, processor, split)["rows"]
    assert rows["none"]["what"] == "no note: the learned null note"
    with pytest.raises(ValueError, match="at least two images, got 1"):
        certified(model, processor, split.select([0]))


def test_alterations_depend_on_seed_and_id_alone():
    split = noted_squares(6)
    back = split.select(range(5, -1, -1))
    for name in ("typos", "paraphrased", "word_order"):
        one, other, reseeded = (
            {rows["id"][row]: note for row, note in line.notes.items()}
            for rows, seed in ((split, 0), (back, 0), (split, 1))
            for line in note_sets(rows, null_note=False, seed=seed)
            if line.name == name
        )
        assert one == other != reseeded


def test_of_other_words_those_are_chosen_that_the_model_reads_whole():
    split = noted_squares(6)

    def longest(name, **options):
        found = next(line for line in note_sets(split, null_note=False, **options) if line.name == name)
        return max(len(note) for note in found.notes.values())

    most = longest("paraphrased") - 1
    assert longest("paraphrased", fits=lambda note: len(note) <= most) <= most
    # Where nothing fits, the first is taken, and counted as cut.
    assert longest("paraphrased", fits=lambda note: False) == longest("paraphrased")


def test_report(follower):
    text = certificate_markdown({**RECORD, **follower, "warnings": ["3 images were trained on."]})
    assert text.startswith("# Does the mask follow the note? some/model on squares, validation\n")
    assert "**3 images were trained on.**" in text
    assert "| follows sides | yes | Dice lost" in text
    assert "| the findings of the same image that the true note leaves out | 24 | 0.0 | 0.0 |" in text
    assert "100.0 (100.0 to 100.0) | 0.0 → 100.0 |" in text
    assert "not measured: no checkpoint trained with one note for all was given" in text
    with pytest.raises(ValueError, match="no sha256"):
        certificate_body({name: value for name, value in {**RECORD, **follower}.items() if name != "sha256"})
