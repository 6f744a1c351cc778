"""The handler as an endpoint calls it."""

import base64
import importlib.util
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from reclmis.serving import EndpointHandler
from tests.conftest import REPOSITORY
from tests.parts import NOTE_TEXT, lively, tiny_model, tiny_processor, write_checkpoint
from tests.serving.conftest import NOTES, png


@pytest.fixture(scope="module")
def handler(tmp_path_factory):
    """As it lies in a repository beside the weights."""
    folder = tmp_path_factory.mktemp("repository")
    write_checkpoint(folder, NOTES)
    spec = importlib.util.spec_from_file_location("handler", REPOSITORY / "hub" / "handler.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EndpointHandler(str(folder))


def request(image=None, note=NOTES[0], **parameters):
    image = base64.b64encode(png()).decode() if image is None else image
    return {"inputs": {"image": image, "note": note}, **({"parameters": parameters} if parameters else {})}


def test_answers_in_json(handler):
    (entry,) = json.loads(json.dumps(handler(request())))
    mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(entry["mask"]))))
    expected = handler.service.answer(png(), NOTES[0])
    assert entry["label"] == "foreground" and (mask == 255 * expected.mask).all()
    assert entry["score"] == pytest.approx(float(expected.probability[expected.mask > 0].mean()))
    (all_of_it,) = handler(request(threshold=0))
    assert (np.asarray(Image.open(io.BytesIO(base64.b64decode(all_of_it["mask"])))) == 255).all()


def test_lines_of_base64_may_be_broken(handler):
    lines = base64.encodebytes(png()).decode()
    assert lines.count("\n") > 10
    assert handler(request(image=lines)) == handler(request())
    assert handler(request(image=lines.replace("\n", " \r\n\t"))) == handler(request())


def test_a_model_in_half_precision_answers(tmp_path):
    lively(tiny_model(text_config=NOTE_TEXT)).to(torch.bfloat16).save_pretrained(tmp_path)
    tiny_processor(NOTES).save_pretrained(tmp_path)
    (entry,) = EndpointHandler(str(tmp_path))(request())
    assert entry["label"] == "foreground" and 0 <= entry["score"] <= 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "A request is"),
        ([], "A request is"),
        ({"inputs": "text"}, "A request is"),
        (request(image=3), "image is missing"),
        (request(image="no base64!"), "no base64"),
        (request(image="iVBORw0KGgoÄ"), "no base64: it holds characters beyond ASCII"),
        (request(image=base64.b64encode(b"text").decode()), "no image"),
        (request(image="A" * 30_000_000), "too large"),
        (request(note=""), "empty"),
        (request(note=["a"]), "is a text"),
        (request(threshold="high"), "is a number"),
        (request(threshold=2), "between 0 and 1"),
        (request(size=3), "Unknown parameter"),
        ({**request(), "parameters": [1]}, "Unknown parameter"),
    ],
)
def test_says_why_not(handler, data, message):
    answer = handler(data)
    assert message in answer["error"] and "\n" not in answer["error"]
