"""`reclmis robustness` as a user types it."""

import json

import numpy as np
import pytest
from PIL import Image

from reclmis.cli import main
from tests.parts import write_checkpoint

SYNTHETIC = ("--dataset", "synthetic", "--num-synthetic", "24", "--corruptions", "jpeg")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from reclmis.data import make_sample

    folder = tmp_path_factory.mktemp("model")
    write_checkpoint(folder, [make_sample(index, size=64)["note"] for index in range(6)])
    return folder


@pytest.fixture
def elsewhere(tmp_path):
    """A table with a validation split."""
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 256, (40, 40), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        Image.fromarray((pixels > 200).astype(np.uint8) * 255).save(tmp_path / f"{index}_mask.png")
    rows = [f"{index}.png,{index}_mask.png,Fuzzy infection in the left lung,validation" for index in range(3)]
    table = tmp_path / "elsewhere.csv"
    table.write_text("\n".join(["image,mask,note,split", *rows]) + "\n")
    return table


def test_what_it_writes(folder, elsewhere, tmp_path, capsys):
    output = tmp_path / "robust"
    assert main(["robustness", str(folder), *SYNTHETIC, "--shift", str(elsewhere), "--output", str(output)]) == 0
    assert sorted(path.name for path in output.iterdir()) == ["robustness.json", "robustness.md", "robustness.png"]
    report = json.loads((output / "robustness.json").read_text())
    assert report["images"] == 6 and list(report["corruptions"]) == ["jpeg"] and len(report["sha256"]) == 64
    assert report["domains"]["elsewhere.csv"]["images"] == 3
    assert report["shift"]["reference"]["images"] == 24
    assert "fuzzy" in report["shift"]["sets"]["elsewhere.csv"]["most_frequent_unknown_words"]
    calibration = report["calibration"]
    assert calibration["fitted_on"] + calibration["reported_on"] == 6
    assert "--shift path/to/elsewhere.csv --corruptions jpeg" in report["command"]
    # The tiny model reads 12 tokens.
    assert report["notes_cut"] == {"this split": 6, "elsewhere.csv": 3}
    text = (output / "robustness.md").read_text()
    assert "This split: 6 notes are longer than the model reads, and cut." in text
    assert "| jpeg |" in text and "| elsewhere.csv | 3 |" in text and "](robustness.png)" in text
    assert str(tmp_path) not in text + json.dumps(report)
    assert "corruption jpeg" in capsys.readouterr().err


def test_refusals(folder, elsewhere, tmp_path, capsys):
    for more, said in (
        (("--corruptions", "fog"), "no corruption 'fog'"),
        (("--shift", str(elsewhere), str(elsewhere)), "two datasets are called 'elsewhere.csv'"),
        (("--shift", "nowhere"), "No dataset 'nowhere'"),
    ):
        assert main(["robustness", str(folder), *SYNTHETIC, *more, "--output", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert said in error[-1] and "Traceback" not in "".join(error)
