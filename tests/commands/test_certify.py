"""`reclmis certify` as a user types it, and what its certificate does to a model's card."""

import json

import pytest

from reclmis.cli import main
from reclmis.evaluation.certificate import METRICS
from tests.parts import write_checkpoint

SYNTHETIC = ("--dataset", "synthetic", "--num-synthetic", "16", "--resamples", "100")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from reclmis.data import make_sample

    folder = tmp_path_factory.mktemp("model")
    write_checkpoint(folder, [make_sample(index, size=64)["note"] for index in range(6)])
    return folder


@pytest.fixture(scope="module")
def written(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("certificate")
    assert main(["certify", str(folder), *SYNTHETIC, "--image-only", str(folder), "--output", str(output)]) == 0
    return output


def refused(*arguments, capsys):
    assert main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error and len(error.strip().splitlines()) == 1
    return error


def test_what_it_writes(written):
    certificate = json.loads((written / "certificate.json").read_text())
    assert certificate["images"] == 4 and certificate["dataset"] == "synthetic" and len(certificate["sha256"]) == 64
    assert certificate["rows"]["distractor"]["notes_changed"] == 4
    assert set(METRICS) < set(certificate["floors"]["text_only"])
    assert set(METRICS) < set(certificate["floors"]["image_only"])
    command = certificate["command"]
    assert command.startswith("reclmis certify path/to/") and "--num-synthetic 16" in command and "--seed 0" in command
    assert certificate["warnings"] == [
        f"{certificate['model']} has no data_manifest.json here: whether it was trained on these images is not known."
    ]
    text = (written / "certificate.md").read_text()
    assert text.startswith("# Does the mask follow the note?") and "| the true note | 4 |" in text
    assert str(written.parent) not in text + (written / "certificate.json").read_text()
    assert sorted(path.name for path in written.iterdir()) == ["certificate.json", "certificate.md"]


def test_the_card_has_it(folder, written, tmp_path, capsys):
    card = tmp_path / "card.md"
    certificate = written / "certificate.json"
    arguments = ["push", str(folder), "org/name", "--card-only", str(card)]
    assert main([*arguments, "--certificate", str(certificate)]) == 0
    text = card.read_text()
    assert "## Does the mask follow the note?" in text and "### Asked with other notes" in text
    assert "| needs its own note | not measured |" in text
    assert main(arguments) == 0
    assert "Does the mask follow" not in card.read_text()
    torn = tmp_path / "torn.json"
    torn.write_text(json.dumps({"rows": {}}))
    assert "has no model, dataset" in refused(*arguments, "--certificate", torn, capsys=capsys)


def test_refusals(folder, tmp_path, capsys):
    output = ("--output", tmp_path)
    assert "no model folder" in refused("certify", "nowhere", *SYNTHETIC, *output, capsys=capsys)
    assert "no split 'test'" in refused("certify", folder, *SYNTHETIC, "--split", "test", *output, capsys=capsys)
    lacking = refused("certify", folder, *SYNTHETIC, "--train-split", "practice", *output, capsys=capsys)
    assert "no split 'practice'" in lacking
    assert not list(tmp_path.iterdir())


def test_without_a_training_split(folder, tmp_path):
    assert main(["certify", str(folder), *SYNTHETIC, "--train-split", "none", "--output", str(tmp_path)]) == 0
    certificate = json.loads((tmp_path / "certificate.json").read_text())
    assert certificate["floors"]["text_only"]["why"] == "no training split was given"
    assert certificate["floors"]["image_only"]["why"] == "no checkpoint trained with one note for all was given"
