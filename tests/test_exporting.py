"""Exported graphs answer as the model does."""

import json
import shutil

import numpy as np
import pytest
import torch
from google.protobuf.message import DecodeError

from reclmis import RecLMISProcessor
from reclmis.exported import BACKENDS, ExportedModel
from reclmis.exporting import GRAPHS, IMAGE_ENCODER, MANIFEST, _check_parity, export_onnx, export_programs
from reclmis.prediction import predict
from reclmis.text import with_note_table
from tests.parts import NOTE_TEXT, lively, make_inputs, tiny_model, tiny_processor

NOTES = ["upper left lung", "lower right lung"]
CLIP = {"vocab_size": 400, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "projection_dim": 32}  # fmt: skip


BERT = {"model_type": "bert", "vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32}  # fmt: skip
# Every kind of part once; the presets' full sizes are compared in `benchmarks/speed.py`.
MODELS = {
    "unet": {"note_dropout": 0.2, "presence": True, "id2label": {0: "background", 1: "a", 2: "b"}},
    "resnet and clip, self-attention, padding attended": {
        "visual_backbone": "timm:resnet18", "visual_config": {}, "text_encoder": "clip", "text_config": CLIP,
        "interaction": "self", "text_padding": "attend", "interaction_block": "residual",
    },
    "vit and bert": {"visual_backbone": "timm:vit_tiny_patch16_224", "visual_config": {}, "text_encoder": "hf:bert",
                     "text_config": BERT},
}  # fmt: skip


@pytest.fixture(scope="module", params=MODELS)
def pair(request, tmp_path_factory):
    """A model and the folder of its export."""
    changes = {"text_config": NOTE_TEXT, **MODELS[request.param]}
    model = lively(tiny_model(**changes), make_inputs(8, vocabulary=400))
    folder = tmp_path_factory.mktemp("pair") / "exported"
    return model, export_onnx(model, tiny_processor(NOTES), folder, optimize="resnet" not in request.param)


@pytest.mark.parametrize("backend", BACKENDS)
def test_logits_are_the_models(pair, backend):
    model, folder = pair
    exported = ExportedModel.from_pretrained(folder, backend, threads=1)
    fixed = model.visual_backbone.input_size is not None or (backend == "openvino" and exported.manifest.antialiased)
    stride = model.backbone_stride
    shapes = [(1, 64, 64), (3, 64, 64)] if fixed else [(1, 64, 64), (2, 2 * stride, 3 * stride), (3, 96, 160)]
    for batch, height, width in shapes:
        inputs = make_inputs(batch, height, width, vocabulary=400)
        with torch.inference_mode():
            wanted, given = model(**inputs), exported(**inputs)
        assert given.logits.shape == wanted.logits.shape and wanted.logits.std() > 0.1
        scale = max(1.0, float(wanted.logits.std()))
        assert (given.logits - wanted.logits).abs().max() < 2e-4 * scale
        if model.config.presence:
            assert torch.allclose(given.presence_logits, wanted.presence_logits, atol=1e-3)


def test_openvino_answers_pixels_with_one_graph_as_with_two(pair):
    _, folder = pair
    exported = ExportedModel.from_pretrained(folder, "openvino", threads=1)
    inputs = make_inputs(3, vocabulary=400)
    notes = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    given = exported(**inputs)
    encoder, joined = exported._runners[IMAGE_ENCODER], exported._joined
    assert encoder._request is None and joined._request is not None  # the other way is not even compiled
    # Nothing is picked from the maps, that is, copied: the index says nothing here.
    asked = {"pixel_values": inputs["pixel_values"].numpy(), "attention_mask": notes["attention_mask"].numpy(),
             "text_hidden_states": exported.encode_text(**notes).numpy(), "image_index": np.zeros(3, np.int64)}  # fmt: skip
    np.testing.assert_array_equal(joined(asked)[0], given.logits.numpy())
    wanted = exported(image_embeddings=exported.get_image_embeddings(inputs["pixel_values"]), **notes)
    assert encoder._request is not None
    assert torch.allclose(given.logits, wanted.logits, atol=1e-5 * float(wanted.logits.std()))
    if wanted.presence_logits is not None:
        assert torch.allclose(given.presence_logits, wanted.presence_logits, atol=1e-5)


def test_images_are_kept_from_the_first_that_is_asked_again(exported, monkeypatch):
    model, folder = exported
    processor = tiny_processor(NOTES)
    other = ExportedModel.from_pretrained(folder, "openvino", threads=1)
    pictures = [np.random.default_rng(seed).integers(0, 255, (64, 64), dtype=np.uint8) for seed in range(6)]
    encoded = []
    encode = other.get_image_embeddings
    monkeypatch.setattr(other, "get_image_embeddings", lambda pixels: encoded.append(len(pixels)) or encode(pixels))

    def ask(requests, batch_size):
        encoded.clear()
        masks = [answer.mask for answer in predict(other, processor, requests, batch_size=batch_size)]
        alone = [next(iter(predict(model, processor, [request]))).mask for request in requests]
        assert all(np.array_equal(mask, own) for mask, own in zip(masks, alone, strict=True))
        return sum(encoded)

    for batch_size in (1, 2, 3):
        assert ask([(picture, NOTES[0]) for picture in pictures], batch_size) == 0
        assert ask([(picture, note) for picture in pictures for note in NOTES], batch_size) == len(pictures)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_image_is_encoded_once_for_many_notes(pair, backend):
    model, folder = pair
    exported = ExportedModel.from_pretrained(folder, backend, threads=1)
    inputs = make_inputs(3, vocabulary=400)
    notes = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        image = exported.get_image_embeddings(inputs["pixel_values"][:1])
        given = exported(image_embeddings=image, **notes).logits
        wanted = model(inputs["pixel_values"][:1].expand(3, -1, -1, -1), **notes).logits
    assert (given - wanted).abs().max() < 2e-4 * max(1.0, float(wanted.std()))


def test_masks_of_predict(pair):
    model, folder = pair
    processor = RecLMISProcessor.from_pretrained(folder)
    exported = ExportedModel.from_pretrained(folder, threads=1)
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((40, 56), (65, 63))]
    requests = [(picture, note) for picture in pictures for note in NOTES]
    for ours, theirs in zip(predict(exported, processor, requests), predict(model, processor, requests), strict=True):
        np.testing.assert_allclose(ours.probability, theirs.probability, atol=1e-3)


def test_answers_without_a_note_where_the_model_does(exported):
    model, folder = exported
    other = ExportedModel.from_pretrained(folder, threads=1)
    inputs = make_inputs(2, vocabulary=400)
    inputs["attention_mask"][1] = 0
    with torch.inference_mode():
        assert torch.allclose(other(**inputs).logits, model(**inputs).logits, atol=1e-3)
        pixels = inputs["pixel_values"]
        assert torch.allclose(other(pixels).logits, model(pixels).logits, atol=1e-3)


def test_says_what_it_is(exported):
    model, folder = exported
    assert sorted(path.name for path in folder.iterdir() if path.suffix == ".onnx") == sorted(
        f"{g}.onnx" for g in GRAPHS
    )
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["stride"] == model.backbone_stride and manifest["precision"] == "float32"
    assert {path.suffix for path in folder.iterdir()} <= {".onnx", ".json", ".jinja", ".txt"}
    assert not list(folder.parent.glob(".exporting*"))


def test_programs_of_torch_export(exported):
    model, _ = exported
    programs = export_programs(model, optimize=False)
    inputs = make_inputs(2, 32, 96)
    index = torch.arange(2)
    with torch.inference_mode():
        visual, *skips = programs["image_encoder"].module()(inputs["pixel_values"])
        states = programs["text_encoder"].module()(inputs["input_ids"], inputs["attention_mask"])
        logits = programs["mask_decoder"].module()(states, inputs["attention_mask"], index, visual, tuple(skips))
        assert torch.allclose(logits, model(**inputs).logits, atol=1e-5)


def test_refuses_what_does_not_fit(exported):
    _, folder = exported
    other = ExportedModel.from_pretrained(folder, threads=1)
    inputs = make_inputs(3, vocabulary=400)
    image = other.get_image_embeddings(inputs["pixel_values"][:2])
    with pytest.raises(ValueError, match="2 images, but 3 notes"):
        other(image_embeddings=image, input_ids=inputs["input_ids"])
    with pytest.raises(ValueError, match="multiples of 16"):
        other(inputs["pixel_values"][:, :, :50], inputs["input_ids"])
    with pytest.raises(ValueError, match="notes of 12 tokens"):
        other(inputs["pixel_values"], inputs["input_ids"][:, :5])
    with pytest.raises(ValueError, match="1 images, but 3 notes"):
        other(inputs["pixel_values"][:1], inputs["input_ids"])
    with pytest.raises(ValueError, match=r"must be \[B, 3, H, W\], got \[3, 1, 64, 64\]"):
        other(inputs["pixel_values"][:, :1], inputs["input_ids"])
    with pytest.raises(ValueError, match=r"must be \[B, 3, H, W\], got \[3, 64, 64\]"):
        other(inputs["pixel_values"][0], inputs["input_ids"][:1])
    with pytest.raises(ValueError, match=r"`attention_mask` is \[1, 12\], but the notes are \[3, 12\]"):
        other(inputs["pixel_values"], inputs["input_ids"], inputs["attention_mask"][:1])
    with pytest.raises(ValueError, match="ids 0 to 399, got 400"):
        other(inputs["pixel_values"], torch.full_like(inputs["input_ids"], 400))
    with pytest.raises(ValueError, match="either `pixel_values`"):
        other()
    with pytest.raises(ValueError, match="onnxruntime, openvino"):
        ExportedModel.from_pretrained(folder, "tensorrt")
    with pytest.raises(ValueError, match="`threads`"):
        ExportedModel.from_pretrained(folder, threads=0)


def test_damaged_and_missing_files_are_named(exported, tmp_path):
    _, folder = exported
    with pytest.raises(FileNotFoundError, match="reclmis export"):
        ExportedModel.from_pretrained(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    graph = copy / "mask_decoder.onnx"
    graph.write_bytes(graph.read_bytes()[:1000])
    for backend in BACKENDS:
        with pytest.raises(ValueError, match=r"mask_decoder\.onnx cannot be read"):
            ExportedModel.from_pretrained(copy, backend)
    graph.unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks mask_decoder\.onnx"):
        ExportedModel.from_pretrained(copy)
    (copy / MANIFEST).write_text("{")
    with pytest.raises(ValueError, match="Export the model again"):
        ExportedModel.from_pretrained(copy)


def test_leaves_other_folders_and_earlier_exports_alone(exported, tmp_path, monkeypatch):
    model, folder = exported
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="folder of its own"):
        export_onnx(model, tiny_processor(NOTES), tmp_path)
    for precious in (tmp_path / "thesis.txt", tmp_path / "link"):
        if precious.name == "link":
            precious.symlink_to(tmp_path / "nowhere")
        with pytest.raises(ValueError, match="is no folder"):
            export_onnx(model, tiny_processor(NOTES), precious)
    assert (tmp_path / "thesis.txt").read_text() == "precious"
    mixed = tmp_path / "mixed"
    shutil.copytree(folder, mixed)
    (mixed / "notes.csv").write_text("precious")
    with pytest.raises(ValueError, match=r"such as notes\.csv"):
        export_onnx(model, tiny_processor(NOTES), mixed)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr("reclmis.exporting._write_onnx", lambda graph, path: path.write_text("half"))
    with pytest.raises(DecodeError):
        export_onnx(model, tiny_processor(NOTES), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not list(folder.parent.glob(".exporting*"))


def test_graphs_that_answer_differently_are_found(exported):
    model, folder = exported
    _check_parity(model, folder)
    other = tiny_model(text_config=NOTE_TEXT, note_dropout=0.2)
    other.decoder.head.bias.data += 5.0
    with pytest.raises(RuntimeError, match="answer differently"):
        _check_parity(other, folder)


def test_a_table_of_notes_is_not_exported(tmp_path):
    model = tiny_model(text_config=NOTE_TEXT)
    small = with_note_table(model, tiny_processor(NOTES), NOTES)
    with pytest.raises(ValueError, match="only looks up notes"):
        export_onnx(small, tiny_processor(NOTES), tmp_path / "exported")


def test_openvino_refuses_sizes_whose_positions_it_would_resize_otherwise(pair):
    model, folder = pair
    exported = ExportedModel.from_pretrained(folder, "openvino", threads=1)
    assert exported.manifest.antialiased == ("vit" in model.config.visual_backbone)
    if exported.manifest.antialiased:
        with pytest.raises(ValueError, match="use onnxruntime"):
            exported.get_image_embeddings(torch.zeros(1, 3, 32, 48))


def test_a_link_to_a_folder_stays_one(exported, tmp_path, monkeypatch):
    model, folder = exported
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setattr("reclmis.exporting._write_onnx", lambda graph, path: shutil.copy(folder / path.name, path))
    export_onnx(model, tiny_processor(NOTES), tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / MANIFEST).is_file()


def test_half_precision_is_exported_in_float32(tmp_path, caplog, capfd):
    model = lively(tiny_model(text_config=NOTE_TEXT), make_inputs(8, vocabulary=400)).to(torch.bfloat16)
    exported = ExportedModel.from_pretrained(
        export_onnx(model, tiny_processor(NOTES), tmp_path / "exported"), threads=1
    )
    assert model.dtype == torch.bfloat16 and "constant folding" not in caplog.text + "".join(capfd.readouterr())
    inputs = make_inputs(2, vocabulary=400)
    with torch.inference_mode():
        assert torch.allclose(exported(**inputs).logits, model.float()(**inputs).logits, atol=1e-3)
