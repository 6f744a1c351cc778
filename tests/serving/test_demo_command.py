"""`reclmis demo` up to the page."""

import pytest

from reclmis.cli import main
from reclmis.exporting import export_onnx
from tests.parts import NOTE_TEXT, lively, tiny_model, tiny_processor, write_checkpoint
from tests.serving.conftest import NOTES, png


@pytest.fixture
def launched(monkeypatch):
    """What was served, in place of serving it."""
    services = []
    monkeypatch.setattr("reclmis.serving.web.launch", lambda service, **options: services.append((service, options)))
    return services


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    model = lively(tiny_model(text_config=NOTE_TEXT))
    return export_onnx(model, tiny_processor(NOTES), tmp_path_factory.mktemp("demo") / "exported")


def test_a_model(launched, tmp_path):
    write_checkpoint(tmp_path, NOTES)
    assert main(["demo", str(tmp_path), "--port", "65535"]) == 0
    ((service, options),) = launched
    assert options["port"] == 65535 and service.answer(png(), NOTES[0]).patch_interest is not None


@pytest.mark.parametrize("backend", [(), ("--backend", "onnxruntime")])
def test_an_exported_model(launched, exported, backend):
    assert main(["demo", str(exported), *backend]) == 0
    ((service, _),) = launched
    answer = service.answer(png(), NOTES[0])
    assert service.model.backend == "onnxruntime" and answer.mask.shape == (50, 70) and answer.word_interest is None


def test_an_exported_model_elsewhere_than_on_the_cpu(launched, exported, capsys):
    assert main(["demo", str(exported), "--device", "cuda"]) == 2
    assert "exported models compute on the CPU; leave --device cuda out" in capsys.readouterr().err
    assert not launched


@pytest.mark.parametrize("port", ["0", "-1", "70000", "65536"])
def test_a_port_that_there_is_not(launched, port, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["demo", "folder", "--port", port])
    assert f"must be from 1 to 65535, got {port}" in capsys.readouterr().err and not launched
