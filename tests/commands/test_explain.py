"""`reclmis explain` as a user types it."""

import json

import numpy as np
import pytest
from PIL import Image

from reclmis.cli import main
from tests.explanation.conftest import NOTES, picture
from tests.parts import NOTE_TEXT, lively, tiny_model, tiny_processor, write_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_checkpoint(folder, NOTES)
    return folder


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "scan.png"
    picture().save(path)
    return path


def reclmis(*arguments, capsys):
    """Runs the command: exit code, standard output, standard error."""
    try:
        code = main(["explain", *map(str, arguments)])
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refused(*arguments, capsys):
    """The one sentence that the command refuses with."""
    code, _, error = reclmis(*arguments, capsys=capsys)
    assert code == 2 and len(error.strip().splitlines()) == 1, error
    return error


def test_one_figure(folder, image, tmp_path, capsys):
    truth = tmp_path / "truth.png"
    Image.fromarray(np.eye(50, 70, dtype=np.uint8) * 255).save(truth)
    sizes = {}
    given = (image, "--note", NOTES[0], "--model", folder)
    for name, more in {"plain": (), "edited": ("--edit", NOTES[1], "--edit", "lungs", "--truth", truth)}.items():
        out = tmp_path / "new" / f"{name}.png"
        code, said, error = reclmis(*given, *more, "--output", out, capsys=capsys)
        assert code == 0 and f"Written to {out}." in said and "reclmis explain" not in error
        sizes[name] = Image.open(out).size
    assert sizes["plain"][0] == sizes["edited"][0] and sizes["plain"][1] < sizes["edited"][1]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["edited.png", "plain.png"]


def test_checks(folder, image, tmp_path, capsys):
    out = tmp_path / "why.png"
    code, said, _ = reclmis(image, "--note", NOTES[0], "--model", folder, "--checks", "--seed", 3, "--output", out,
                            capsys=capsys)  # fmt: skip
    assert code == 0 and out.is_file() and "grad_cam" in said and "insertion" in said
    checks = json.loads(out.with_suffix(".json").read_text())
    assert checks["seed"] == 3 == checks["randomisation"]["seed"] and checks["note"] == NOTES[0]
    assert set(checks["deletion_insertion"]) == {"grad_cam", "patch_interest", "visual", "interacted", "word_attention"}
    assert checks["deletion_insertion"]["grad_cam"]["seed"] == 3
    assert sum(weight for _, weight in checks["words"] + checks["left_out"]) == pytest.approx(1, abs=1e-5)
    assert [word for word, _ in checks["word_removal"]] == [word for word, _ in checks["words"]]
    assert -1 <= checks["words_against_removal"] <= 1 and "Rank correlation" in said
    kept = checks["deletion_insertion"]["grad_cam"]["kept"]
    assert ("keeps" in said) is (kept > 0.5)
    assert 0 <= checks["patch_interest_in_mask"] <= 1


def test_dicom(folder, tmp_path, capsys):
    from tests.medical.conftest import write_dicom

    path = write_dicom(tmp_path / "scan.dcm", np.arange(48 * 40, dtype=np.uint16).reshape(48, 40))
    out = tmp_path / "why.svg"
    code, _, error = reclmis(path, "--note", NOTES[0], "--model", folder, "--output", out, capsys=capsys)
    assert code == 0, error
    assert b"<svg" in out.read_bytes()[:2000]


def test_notes_that_are_cut_are_announced_once(folder, image, tmp_path, capsys):
    long = "upper left lung " * 9
    code, _, error = reclmis(image, "--note", long, "--edit", long, "--model", folder, "--output", tmp_path / "a.png",
                             capsys=capsys)  # fmt: skip
    said = [line for line in error.splitlines() if line.startswith("reclmis explain:")]
    assert code == 0 and len(said) == 1 and "dropped" in said[0]


def test_mistakes_are_told_in_a_sentence(folder, image, tmp_path, capsys):
    given = ("--model", folder, "--output", tmp_path / "why.png")
    note = ("--note", NOTES[0])
    assert ".png, .svg, .pdf" in refused(image, *note, *given[:3], tmp_path / "why.jpg", capsys=capsys)
    assert "note is empty" in refused(image, "--note", " ", *given, capsys=capsys)
    assert "is empty" in refused(image, *note, "--edit", "", *given, capsys=capsys)
    assert "missing" in refused(tmp_path / "none.png", *note, *given, capsys=capsys)
    assert "no model folder" in refused(image, *note, "--model", "./none", *given[2:], capsys=capsys)
    wrong = tmp_path / "wrong.png"
    Image.fromarray(np.zeros((70, 50), dtype=np.uint8)).save(wrong)
    assert "50 x 70" in refused(image, *note, *given, "--truth", wrong, capsys=capsys)
    assert "marks nothing" in refused(image, *note, *given, "--threshold", 1, "--checks", capsys=capsys)
    (tmp_path / "file").write_text("")
    assert "cannot write" in refused(image, *note, *given[:3], tmp_path / "file" / "why.png", capsys=capsys)
    assert not (tmp_path / "why.png").exists()


def test_a_pruned_checkpoint(image, tmp_path, capsys):
    pruned = tmp_path / "pruned"
    tiny_model(text_config=NOTE_TEXT, prune_reconstruction=True).save_pretrained(pruned)
    tiny_processor(NOTES).save_pretrained(pruned)
    capsys.readouterr()
    arguments = (image, "--note", NOTES[0], "--model", pruned, "--output", tmp_path / "why.png")
    assert "pruned" in refused(*arguments, capsys=capsys)


def test_a_model_without_interaction_says_so(image, tmp_path, capsys):
    folder = tmp_path / "none"
    lively(tiny_model(text_config=NOTE_TEXT, interaction="none")).save_pretrained(folder)
    tiny_processor(NOTES).save_pretrained(folder)
    out = tmp_path / "why.png"
    code, _, error = reclmis(image, "--note", NOTES[0], "--model", folder, "--output", out, capsys=capsys)
    assert code == 0 and "no interaction" in error
