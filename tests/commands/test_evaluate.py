import json
import shutil

import pytest

from reclmis import RecLMISModel
from reclmis.cli import main
from reclmis.data import build_manifest, load_dataset_by_name
from reclmis.data.manifest import write_manifest
from reclmis.evaluation.predictions import evaluate
from reclmis.evaluation.splits import load_split
from reclmis.prediction import TiledNoteWarning
from tests.parts import tiny_processor, write_checkpoint

SYNTHETIC = ("--dataset", "synthetic", "--num-synthetic", 16, "--resamples", 40, "--cases", 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "best"
    notes = load_split("synthetic", "validation", num_synthetic=16, size=64)["note"]
    write_checkpoint(folder, notes, max_text_length=32)
    processor = tiny_processor(notes)
    processor.max_length = 32
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def reclmis(*arguments, capsys):
    code = main([str(argument) for argument in ("evaluate", *arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refused(*arguments, capsys):
    code, _, error = reclmis(*arguments, capsys=capsys)
    lines = [line for line in error.splitlines() if line.startswith("reclmis evaluate:")]
    assert code == 2 and "Traceback" not in error and len(lines) == 1, error
    return lines[0]


def test_what_it_writes(folder, tmp_path, capsys):
    code, said, error = reclmis(folder, *SYNTHETIC, "--surfaces", "--scored-at", "both", "--seed", 0, capsys=capsys)
    assert code == 0 and "Dice, %" in said and "HD95 per image, pixels" in said
    assert {path.name for path in (tmp_path / "evaluation").iterdir()} == {
        "evaluation.json",
        "report.md",
        "report.html",
    }
    report = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    split = load_split("synthetic", "validation", num_synthetic=16, size=64)
    assert report["sha256"] == build_manifest({"validation": split})["validation"]["sha256"]
    assert report["images"] == 4 and list(report["results"]) == ["native", "model"] and "monai" in report["versions"]
    assert report["command"].startswith("reclmis evaluate path/to/best --dataset synthetic --split validation")
    assert "--num-synthetic 16" in report["command"] and report["model"] == "path/to/best"
    assert str(tmp_path) not in json.dumps(report) and str(folder.parent) not in json.dumps(report)
    # Nobody said what the model was trained on.
    assert any("whether it was trained on these images is not known" in line for line in report["warnings"])
    assert "not known" in error and "not known" in (tmp_path / "evaluation" / "report.html").read_text()

    model = RecLMISModel.from_pretrained(folder)
    from reclmis import RecLMISProcessor

    metrics = evaluate(model, RecLMISProcessor.from_pretrained(folder), split, list(split["note"]), batch_size=16)
    assert {name: report["metrics"]["right"][name] for name in metrics} == metrics
    arguments = [
        "push",
        str(folder),
        "org/tiny",
        "--evaluation",
        "evaluation/evaluation.json",
        "--card-only",
        "card.md",
    ]
    assert main(arguments) == 0
    assert "Sensitivity (pooled)" in (tmp_path / "card.md").read_text()


def test_images_that_were_trained_on_are_said(folder, tmp_path, capsys):
    known = tmp_path / "known"
    shutil.copytree(folder, known)
    splits = load_dataset_by_name("synthetic", num_train=16, num_validation=4, size=64)
    write_manifest(build_manifest({"train": splits["validation"].select(range(3))}), known / "data_manifest.json")
    _, _, error = reclmis(known, *SYNTHETIC, capsys=capsys)
    assert "3 of these 4 images were trained on: the figures are no test." in error
    write_manifest(build_manifest(splits), known / "data_manifest.json")
    _, _, error = reclmis(known, *SYNTHETIC, capsys=capsys)
    assert "trained on" not in error


def test_against_an_evaluation_and_against_a_model(folder, tmp_path, capsys):
    changed = tmp_path / "changed"
    shutil.copytree(folder, changed)
    model = RecLMISModel.from_pretrained(folder)
    model.decoder.head.bias.data.fill_(5.0)
    model.save_pretrained(changed)
    assert reclmis(folder, *SYNTHETIC, "--output", "first", capsys=capsys)[0] == 0
    found = []
    for other in ("first", "first/evaluation.json", folder):
        code, said, error = reclmis(changed, *SYNTHETIC, "--against", other, "--output", "second", capsys=capsys)
        assert code == 0 and "better / equal / worse" in said and "hashes differ" not in error
        comparison = json.loads((tmp_path / "second" / "evaluation.json").read_text())["comparison"]
        assert comparison["other"] == "path/to/best"
        found.append(comparison["results"]["native"]["differences"])
    assert found[0] == found[1] == found[2]
    dice = found[0]["sensitivity_per_image"]
    assert dice["first"] > dice["second"] and dice["wins"] == 4

    _, _, error = reclmis(changed, *SYNTHETIC, "--against", "first", "--split", "train", capsys=capsys)
    assert "not of the same images" in error
    error = refused(changed, *SYNTHETIC, "--against", "first", "--scored-at", "model", capsys=capsys)
    assert "was scored at native size" in error
    report = json.loads((tmp_path / "first" / "evaluation.json").read_text())
    (tmp_path / "moved.json").write_text(json.dumps({**report, "sha256": "00"}))
    assert "hashes differ" in reclmis(changed, *SYNTHETIC, "--against", "moved.json", capsys=capsys)[2]


def test_without_notes(tmp_path, capsys):
    write_checkpoint(tmp_path / "null", ["left lung"], note_dropout=0.2)
    processor = tiny_processor(["left lung"])
    processor.null_note = True
    processor.save_pretrained(tmp_path / "null")
    code, _, _ = reclmis("null", *SYNTHETIC, "--no-note", capsys=capsys)
    report = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    assert code == 0 and list(report["metrics"]) == ["none"] and "--no-note" in report["command"]
    assert "no note" in (tmp_path / "evaluation" / "report.html").read_text()


def test_refusals_are_one_sentence(folder, tmp_path, capsys):
    assert "no model folder 'nothing'" in refused("nothing", *SYNTHETIC, capsys=capsys)
    assert "no split 'test'" in refused(folder, *SYNTHETIC, "--split", "test", capsys=capsys)
    assert "leave --no-note out" in refused(folder, *SYNTHETIC, "--no-note", capsys=capsys)
    assert "add --surfaces" in refused(folder, *SYNTHETIC, "--spacing", 1, 1, capsys=capsys)
    assert "two numbers above 0" in refused(folder, *SYNTHETIC, "--surfaces", "--spacing", 1, -1, capsys=capsys)
    assert "cannot be loaded" in refused(folder, *SYNTHETIC, "--backend", "onnxruntime", capsys=capsys)
    assert "no OPTION=JSON" in refused(folder, *SYNTHETIC, "--data", "num_labels=three", capsys=capsys)
    (tmp_path / "file").write_text("")
    assert "cannot write to file" in refused(folder, *SYNTHETIC, "--output", "file", capsys=capsys)


def test_long_notes_are_said_once(tmp_path, capsys, recwarn):
    notes = load_split("synthetic", "validation", num_synthetic=16, size=64)["note"]
    write_checkpoint(tmp_path / "short", notes)
    code, _, error = reclmis("short", *SYNTHETIC, "--batch-size", 1, capsys=capsys)
    assert code == 0 and error.count("exceed 12 tokens") == 1
    assert not [warning for warning in recwarn if "exceed" in str(warning.message)]


def test_tiles(folder, tmp_path, capsys):
    with pytest.warns(TiledNoteWarning, match="names a place"):
        code, _, _ = reclmis(folder, *SYNTHETIC, "--tile", 48, "--overlap", 0.5, capsys=capsys)
    assert code == 0
    report = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    assert "--tile 48 --overlap 0.5" in report["command"]
    code, _, _ = reclmis(folder, *SYNTHETIC, "--output", "whole", capsys=capsys)
    assert report["results"] != json.loads((tmp_path / "whole" / "evaluation.json").read_text())["results"]
    assert "native" in refused(folder, *SYNTHETIC, "--tile", 48, "--scored-at", "both", capsys=capsys)
