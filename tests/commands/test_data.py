import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from reclmis.cli import main
from reclmis.data import load_dataset_by_name, make_sample
from reclmis.data.tables import read_note_table
from reclmis.notes import fits


@pytest.fixture
def root(tmp_path):
    """A set of six drawn radiographs, three of them for validation, listed in a table."""
    folder = tmp_path / "set"
    folder.mkdir()
    lines = ["image;mask;note;split"]
    for number in range(6):
        sample = make_sample(number, size=64)
        Image.fromarray(sample["image"]).save(folder / f"{number}.png")
        Image.fromarray(sample["mask"] * 255).save(folder / f"{number}_mask.png")
        lines.append(f"{number}.png;{number}_mask.png;{sample['note']};{'val' if number > 2 else 'train'}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_audit_of_a_clean_set_writes_what_is_asked_for(root, tmp_path, capsys):
    paths = {name: tmp_path / name for name in ("sheet.png", "manifest.json", "report.json")}
    answer = main(["data", "audit", str(root), "--sheet", str(paths["sheet.png"]), "--manifest",
                   str(paths["manifest.json"]), "--report", str(paths["report.json"])])  # fmt: skip
    assert answer == 0
    assert "0 error(s), 0 warning(s)" in capsys.readouterr().out
    assert json.loads(paths["manifest.json"].read_text())["train"]["images"] == 3
    assert json.loads(paths["report.json"].read_text())["splits"]["validation"]["images"] == 3
    with Image.open(paths["sheet.png"]) as sheet:
        assert sheet.width > 800 and len(np.unique(np.asarray(sheet))) > 50


def test_audit_fails_on_errors_and_strictly_on_warnings(root, capsys):
    Image.new("L", (64, 64)).save(root / "0_mask.png")
    assert main(["data", "audit", str(root)]) == 0
    assert main(["data", "audit", str(root), "--strict"]) == 1
    assert main(["data", "audit", str(root), "--strict", "--accept", "empty mask"]) == 0
    (root / "1.png").write_bytes((root / "5.png").read_bytes())
    (root / "2.png").write_bytes(b"")
    capsys.readouterr()
    assert main(["data", "audit", str(root)]) == 1
    text = capsys.readouterr().out
    for words in ("duplicate across splits (1)", "2.png is empty", "empty mask (1)", "2 error(s)"):
        assert words in text


def test_audit_against_what_a_checkpoint_was_trained_on(root, tmp_path, capsys):
    manifest = tmp_path / "data_manifest.json"
    assert main(["data", "audit", str(root), "--manifest", str(manifest)]) == 0
    content = json.loads(manifest.read_text())
    content["train"]["samples"] += content["validation"]["samples"][:1]
    manifest.write_text(json.dumps(content))
    assert main(["data", "audit", str(root), "--against", str(tmp_path)]) == 1
    assert "trained on (1)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["audit", "nowhere"], "No dataset 'nowhere'"),
        (["audit", "{root}", "--accept", "sins"], "kinds are"),
        (["audit", "{root}", "--against", "{root}"], "No manifest"),
        (["audit", "{root}", "--missing-notes", "x"], "original downloads"),
        (["unpack", "nowhere.zip", "out"], "missing"),
        (["notes", "nowhere", "--output", "x.csv"], "no folder"),
        (["export", "{root}", "{root}"], "holds something"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(root, capsys, arguments, message):
    assert main(["data", *(argument.format(root=root) for argument in arguments)]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and "Traceback" not in captured.err


def test_unpack(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("x/y.txt", "content")
    assert main(["data", "unpack", str(tmp_path / "a.zip"), str(tmp_path / "out")]) == 0
    assert (tmp_path / "out/x/y.txt").read_text() == "content"


@pytest.mark.parametrize("kind", ["parquet", "saved"])
def test_export(root, tmp_path, kind):
    before = load_dataset_by_name(root)
    assert main(["data", "export", str(root), str(tmp_path / "out"), "--format", kind]) == 0
    after = load_dataset_by_name(tmp_path / "out")
    assert {split: rows["note"] for split, rows in after.items()} == {s: r["note"] for s, r in before.items()}


def test_notes_for_masks(root, tmp_path, capsys):
    masks = tmp_path / "masks"
    masks.mkdir()
    for number in range(3):
        (root / f"{number}_mask.png").rename(masks / f"{number}.png")
    assert main(["data", "notes", str(masks), "--output", str(tmp_path / "notes.csv")]) == 0
    rows = read_note_table(tmp_path / "notes.csv")
    assert [name for name, _ in rows] == ["0.png", "1.png", "2.png"]
    for number, (_, note) in enumerate(rows):
        assert fits(note, make_sample(number, size=64)["mask"], orientation="image").holds
    assert main(["data", "notes", str(masks), "--output", str(tmp_path / "notes.csv")]) == 2  # never overwritten
    (masks / "1.png").write_bytes(b"")
    assert main(["data", "notes", str(masks), "--output", str(tmp_path / "others.csv")]) == 1
    assert "1.png is empty" in capsys.readouterr().err


def test_an_absent_package_is_said_in_a_sentence(root, capsys, monkeypatch):
    import sys

    (root / "0.png").write_bytes(bytes(128) + b"DICM")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert main(["data", "audit", str(root)]) == 2
    assert "pip install 'reclmis[medical]'" in capsys.readouterr().err
