"""The command as a user types it: what it writes, says and returns."""

import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from reclmis import RecLMISModel, RecLMISProcessor
from reclmis.cli import main
from reclmis.text.note_tokenizer import build_note_tokenizer
from tests.parts import write_checkpoint

NOTE = "upper left lung"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_checkpoint(folder, [NOTE, "lower right lung"])
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Where the command writes when nobody says where."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def images(tmp_path):
    inside = tmp_path / "images"
    inside.mkdir()
    for number, size in enumerate([(40, 56), (65, 63), (30, 20)]):
        pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(inside / f"scan{number}.png")
    return inside


def reclmis(*arguments, capsys):
    """Runs the command: exit code, standard output, standard error."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refused(*arguments, capsys):
    """The one sentence that the command refuses with."""
    code, _, error = reclmis(*arguments, capsys=capsys)
    assert code == 2 and "Traceback" not in error
    assert len(error.strip().splitlines()) == 1, error
    return error


# predict -----------------------------------------------------------------------------------------------------------


def test_several_notes_are_several_masks_of_an_image(folder, images, tmp_path, capsys):
    second = "lower right lung"
    arguments = ("predict", images, "--model", folder, "--no-overlay", "--output")
    code, said, _ = reclmis(*arguments, tmp_path / "both", "--note", NOTE, "--note", second, capsys=capsys)
    assert code == 0 and "6 of 6" in said
    for note, ending in ((NOTE, ""), (second, "_2")):
        reclmis(*arguments, tmp_path / "one", "--note", note, capsys=capsys)
        for mask in (tmp_path / "one").glob("*_mask.png"):
            both = tmp_path / "both" / mask.name.replace("_mask", f"{ending}_mask")
            assert (np.asarray(Image.open(both)) == np.asarray(Image.open(mask))).mean() > 0.999
        shutil.rmtree(tmp_path / "one")
    assert "is empty" in refused(*arguments, tmp_path, "--note", NOTE, "--note", " ", capsys=capsys)


def test_tiles(folder, images, tmp_path, capsys):
    arguments = ("predict", images / "scan1.png", "--model", folder, "--note", "nuclei", "--output", tmp_path / "out")
    code, _, _ = reclmis(*arguments, "--tile", 40, "--overlap", 0.5, capsys=capsys)
    assert code == 0 and Image.open(tmp_path / "out" / "scan1_mask.png").size == (63, 65)
    assert "begun with --tile 40" in refused(*arguments, "--resume", capsys=capsys)
    for wrong in (("--tile", "0"), ("--overlap", "1")):
        assert reclmis(*arguments, *wrong, capsys=capsys)[0] == 2


def test_export_and_its_backends(folder, images, tmp_path, capsys):
    code, said, _ = reclmis("export", folder, tmp_path / "exported", capsys=capsys)
    assert code == 0 and "image_encoder.onnx" in said and "checked" in said
    arguments = ("predict", images, "--note", NOTE, "--no-overlay")
    assert reclmis(*arguments, "--model", folder, "--output", tmp_path / "torch", capsys=capsys)[0] == 0
    exported = (*arguments, "--model", tmp_path / "exported", "--output")
    for backend in ("onnxruntime", "openvino"):
        assert reclmis(*exported, tmp_path / backend, "--backend", backend, capsys=capsys)[0] == 0
        for mask in (tmp_path / "torch").glob("*_mask.png"):
            theirs = np.asarray(Image.open(tmp_path / backend / mask.name))
            assert (theirs == np.asarray(Image.open(mask))).mean() > 0.995
    other = tmp_path / "other"
    assert "exported" in refused(*exported, other, "--backend", "openvino", "--optimize", capsys=capsys)
    assert "--device" in refused(*exported, other, "--backend", "openvino", "--device", "cuda", capsys=capsys)
    missing = ("--model", folder, "--output", other, "--backend", "onnxruntime")
    assert "reclmis export" in refused(*arguments, *missing, capsys=capsys)
    assert "folder of its own" in refused("export", folder, images, capsys=capsys)


def test_a_launcher_shares_the_images_out(folder, images, tmp_path, monkeypatch, capsys):
    """As `accelerate launch` and torchrun number their processes; what `--share` says goes before."""
    arguments = [images, "--note", NOTE, "--model", folder, "--no-overlay", "--output"]
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", "2")
        reclmis("predict", *arguments, tmp_path / rank, capsys=capsys)
        reclmis("predict", *arguments, tmp_path / f"said-{rank}", "--share", "2/3", capsys=capsys)
    written = [{path.stem for path in (tmp_path / name).glob("*.png")} for name in ("0", "1", "said-0", "said-1")]
    assert written == [{"scan0_mask", "scan2_mask"}, {"scan1_mask"}, {"scan2_mask"}, {"scan2_mask"}]
    monkeypatch.setenv("RANK", "2")
    assert "RANK is 2" in refused("predict", *arguments, tmp_path / "none", capsys=capsys)
    monkeypatch.delenv("WORLD_SIZE")  # a number alone is no launcher's
    reclmis("predict", *arguments, tmp_path / "all", capsys=capsys)
    assert len(list((tmp_path / "all").glob("*.png"))) == 3


def test_masks_of_other_weights_are_not_mixed(folder, images, tmp_path, capsys):
    copied = tmp_path / "model"
    shutil.copytree(folder, copied)
    arguments = ["predict", images, "--note", NOTE, "--model", copied, "--output", tmp_path / "masks", "--resume"]
    assert reclmis(*arguments, capsys=capsys)[0] == 0
    model = RecLMISModel.from_pretrained(copied)
    torch.nn.init.ones_(model.decoder.head.bias)
    model.save_pretrained(copied)
    capsys.readouterr()  # transformers' bars
    assert "other weights" in refused(*arguments, capsys=capsys)


def test_shares_of_several_processes_make_one_whole(folder, images, tmp_path, capsys):
    arguments = ("predict", images, "--note", NOTE, "--model", folder, "--output")
    assert reclmis(*arguments, tmp_path / "whole", capsys=capsys)[0] == 0
    for part, number in ((0, 2), (1, 1)):
        code, said, _ = reclmis(*arguments, tmp_path / "shared", "--share", f"{part}/2", capsys=capsys)
        assert code == 0 and f"{number} of {number}" in said
    names = {path.name for path in (tmp_path / "whole").glob("*.png")}
    assert names == {path.name for path in (tmp_path / "shared").glob("*.png")} and len(names) == 6
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "shared" / name).read_bytes()
    for share in ("2/2", "1", "a/b", "-1/2"):
        assert reclmis(*arguments, tmp_path / "none", f"--share={share}", capsys=capsys)[0] == 2


def test_an_interrupted_run_goes_on_and_never_mixes_two(folder, images, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ("predict", images, "--note", NOTE, "--model", folder, "--output", out)
    assert reclmis(*arguments, capsys=capsys)[0] == 0
    (out / "scan1_mask.png").unlink()
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*_mask.png")}
    code, said, _ = reclmis(*arguments, "--resume", capsys=capsys)
    assert code == 0 and "1 of 1" in said and (out / "scan1_mask.png").is_file()
    assert all((out / name).stat().st_mtime_ns == stamp for name, stamp in before.items())
    assert "Nothing left to do" in reclmis(*arguments, "--resume", capsys=capsys)[1]
    assert "--threshold 0.5, not 0.9" in refused(*arguments, "--resume", "--threshold", "0.9", capsys=capsys)
    assert not list(out.glob(".writing*"))
    (out / "predictions.json").write_text("{")
    assert "predictions.json cannot be read" in refused(*arguments, "--resume", capsys=capsys)
    (out / "predictions.json").unlink()
    assert "no predictions.json" in refused(*arguments, "--resume", capsys=capsys)


def test_one_image(folder, images, tmp_path, capsys):
    image, out = images / "scan0.png", tmp_path / "out"
    code, said, _ = reclmis("predict", image, "--note", NOTE, "--model", folder, "--output", out, capsys=capsys)
    assert code == 0 and "1 of 1" in said
    assert sorted(file.name for file in out.glob("*_*")) == ["scan0_mask.png", "scan0_overlay.png"]
    mask = Image.open(out / "scan0_mask.png")
    model = RecLMISModel.from_pretrained(folder, prune_reconstruction=True)
    processor = RecLMISProcessor.from_pretrained(folder)
    with torch.no_grad():
        outputs = model(**processor(images=image, text=NOTE, return_tensors="pt"))
    expected = processor.post_process_semantic_segmentation(outputs, target_sizes=[(40, 56)])[0]
    assert mask.mode == "L" and (np.asarray(mask) == expected.numpy() * 255).all()
    assert Image.open(out / "scan0_overlay.png").size == (56, 40)


def test_a_folder_with_a_broken_image_does_the_rest_and_lists_the_failures(folder, images, tmp_path, capsys):
    (images / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (images / "empty.png").write_bytes(b"")
    (images / "readme.txt").write_text("not an image")
    out = tmp_path / "out"
    arguments = ("predict", images, "--note", NOTE, "--model", folder, "--output", out, "--no-overlay")
    code, said, error = reclmis(*arguments, "--batch-size", 2, capsys=capsys)
    assert code == 1 and "3 of 5" in said
    failures = [line for line in error.splitlines() if line.startswith("reclmis predict:")]
    assert len(failures) == 2 and "broken.png" in failures[0] and "empty.png" in failures[1]
    assert sorted(file.name for file in out.glob("*_*")) == [f"scan{number}_mask.png" for number in range(3)]


def test_a_table_gives_each_image_its_notes(folder, images, tmp_path, capsys):
    table = images / "notes.csv"
    table.write_text(
        'Image,Description\nscan0.png,"upper left lung, and more"\nscan1.png,\nscan0.png,lower right lung\n'
    )
    out = tmp_path / "out"
    code, said, error = reclmis("predict", "--table", table, "--model", folder, "--output", out, capsys=capsys)
    assert code == 1 and "2 of 3" in said and "scan1.png is empty" in error
    # Two questions about one image are two answers.
    masks = [np.asarray(Image.open(out / name)) for name in ("scan0_mask.png", "scan0_2_mask.png")]
    assert masks[0].shape == masks[1].shape == (40, 56)
    named = ("predict", images / "scan0.png", "--csv", table, "--model", folder, "--output", tmp_path / "again")
    assert reclmis(*named, capsys=capsys)[0] == 0
    for name in ("scan0_mask.png", "scan0_2_mask.png"):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()
    assert "no note for" in refused("predict", images, "--table", table, "--model", folder, capsys=capsys)


def test_images_of_one_name_do_not_overwrite_each_other(folder, images, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    Image.new("L", (20, 20)).save(other / "scan0.png")
    out = tmp_path / "out"
    arguments = (
        "predict",
        images / "scan0.png",
        other / "scan0.png",
        "--note",
        NOTE,
        "--model",
        folder,
        "--output",
        out,
    )
    assert reclmis(*arguments, "--no-overlay", capsys=capsys)[0] == 0
    assert sorted(file.name for file in out.glob("*_*")) == ["images_scan0_png_mask.png", "other_scan0_png_mask.png"]


def test_a_long_note_is_cut_with_one_sentence(folder, images, tmp_path, capsys):
    arguments = ("predict", images, "--note", "lung " * 500, "--model", folder, "--output", tmp_path / "out")
    with warnings.catch_warnings(record=True) as others:
        code, said, error = reclmis(*arguments, "--batch-size", 1, capsys=capsys)
    assert code == 0 and "3 of 3" in said and not [warning for warning in others if "token" in str(warning.message)]
    told = [line for line in error.splitlines() if "token" in line]
    assert len(told) == 1 and told[0].startswith("reclmis predict:") and "dropped" in told[0]


@pytest.mark.parametrize("note", ["", "  "])
def test_an_empty_note_is_refused(folder, images, capsys, note):
    assert "note is empty" in refused("predict", images, "--note", note, "--model", folder, capsys=capsys)


def test_requests_that_make_no_sense_are_refused(folder, images, tmp_path, capsys):
    model = ("--model", folder)
    assert "say what to look for" in refused("predict", images, *model, capsys=capsys)
    assert "at least one image" in refused("predict", "--note", NOTE, *model, capsys=capsys)
    assert "not both" in refused("predict", images, "--note", NOTE, "--table", "a.csv", *model, capsys=capsys)
    assert "a.csv" in refused("predict", images, "--table", "a.csv", *model, capsys=capsys)
    (tmp_path / "empty").mkdir()
    assert "holds no image" in refused("predict", tmp_path / "empty", "--note", NOTE, *model, capsys=capsys)


def test_one_image_that_cannot_be_read(folder, tmp_path, capsys):
    missing = tmp_path / "nowhere.png"
    arguments = ("predict", missing, "--note", NOTE, "--model", folder, "--output", tmp_path / "out")
    assert "nowhere.png is missing" in refused(*arguments, capsys=capsys)


def test_models_that_cannot_be_loaded(folder, images, tmp_path, capsys):
    def refusal(model):
        return refused("predict", images, "--note", NOTE, "--model", model, "--output", tmp_path / "o", capsys=capsys)

    assert "no model folder" in refusal(tmp_path / "absent")
    assert "config.json is missing" in refusal(images)
    assert "If this machine is offline" in refusal("nobody/nothing")
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    assert "'" + str(damaged) + "' cannot be loaded" in refusal(damaged)
    (damaged / "config.json").write_text("{")
    assert "cannot be loaded" in refusal(damaged)


def test_places_that_cannot_be_written_and_devices_that_are_not_there(folder, images, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    arguments = ("predict", images, "--note", NOTE, "--model", folder)
    assert "cannot write to" in refused(*arguments, "--output", tmp_path / "file", capsys=capsys)
    blocked = tmp_path / "blocked"
    (blocked / "scan0_mask.png").mkdir(parents=True)
    assert "cannot write to" in _last_line(*arguments, "--output", blocked, capsys=capsys)
    if not torch.cuda.is_available():
        assert "device 'cuda'" in refused(*arguments, "--device", "cuda", "--output", tmp_path / "o", capsys=capsys)


def _last_line(*arguments, capsys):
    code, _, error = reclmis(*arguments, capsys=capsys)
    assert code == 2 and "Traceback" not in error
    return error.strip().splitlines()[-1]


@pytest.mark.parametrize("option, value", [("--threshold", "2"), ("--batch-size", "0")])
def test_options_out_of_range(folder, images, capsys, option, value):
    code, _, error = reclmis("predict", images, "--note", NOTE, "--model", folder, option, value, capsys=capsys)
    assert code == 2 and option in error and f"got {value}" in error


# The other commands ------------------------------------------------------------------------------------------------


def test_info(folder, capsys):
    code, said, _ = reclmis("info", folder, capsys=capsys)
    parameters = sum(p.numel() for p in RecLMISModel.from_pretrained(folder).parameters())
    assert code == 0 and f"{parameters / 1e6:.2f} M parameters" in said
    for fact in ("unet, stride 16", "tokens", "64 x 64", "12 tokens", "visual_reconstructor"):
        assert fact in said


def test_convert_refuses_what_is_no_checkpoint(tmp_path, capsys):
    assert "absent.pth.tar" in refused("convert", tmp_path / "absent.pth.tar", tmp_path / "out", capsys=capsys)


def test_help_lists_the_commands(capsys):
    code, said, _ = reclmis("--help", capsys=capsys)
    assert code == 0 and all(command in said for command in ("predict", "convert", "info"))
    assert reclmis(capsys=capsys)[0] == 2
    assert "--note" in reclmis("predict", "--help", capsys=capsys)[1]


def test_a_tokenizer_of_another_model_is_refused(folder, images, tmp_path, capsys):
    mixed = tmp_path / "mixed"
    shutil.copytree(folder, mixed)
    build_note_tokenizer([f"{a}{b} lung" for a in "abcdefghijklmnop" for b in "qrstuvwxyz"] * 2).save_pretrained(mixed)
    arguments = ("predict", images, "--note", NOTE, "--model", mixed, "--output", tmp_path / "out")
    assert "its text encoder knows 400" in refused(*arguments, capsys=capsys)


def test_cache_notes_writes_a_model_that_answers_them_alike(folder, images, tmp_path, capsys):
    notes = tmp_path / "notes.txt"
    notes.write_text(f"{NOTE}\n\nlower right lung\n{NOTE}\n")
    small = tmp_path / "small"
    code, out, _ = reclmis("cache-notes", folder, notes, small, capsys=capsys)
    assert code == 0 and "2 notes kept" in out
    for model, output in ((folder, "before"), (small, "after")):
        code, *_ = reclmis("predict", images, "--note", NOTE, "--model", model, "--output", tmp_path / output,
                           "--batch-size", 1, capsys=capsys)  # fmt: skip
        assert code == 0
    for mask in (tmp_path / "before").glob("*_mask.png"):
        assert mask.read_bytes() == (tmp_path / "after" / mask.name).read_bytes()
    code, _, error = reclmis("predict", images, "--note", "another note", "--model", small, capsys=capsys)
    assert code == 2 and "Traceback" not in error and error.count("not among the 2") == 3


def test_resumed_masks_are_of_the_same_questions(folder, images, tmp_path, capsys):
    table = tmp_path / "images" / "notes.csv"

    def write(note):
        table.write_text("image,note\n" + "".join(f"scan{number}.png,{note}\n" for number in range(2)))

    write(NOTE)
    arguments = ("predict", "--table", table, "--model", folder, "--output", tmp_path / "masks", "--resume")
    assert reclmis(*arguments, capsys=capsys)[0] == 0
    with table.open("a") as file:
        file.write(f"scan2.png,{NOTE}\n")
    code, said, _ = reclmis(*arguments, capsys=capsys)
    assert code == 0 and "1 of 1" in said
    write("lower right lung")
    assert "begun with another image or note for scan0" in refused(*arguments, capsys=capsys)
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(images / "scan0.png", other)
    alike = ("predict", "--note", NOTE, "--model", folder, "--output", tmp_path / "two")
    assert reclmis(*alike, images / "scan0.png", capsys=capsys)[0] == 0
    assert "begun with another image" in refused(*alike, other / "scan0.png", "--resume", capsys=capsys)
    # Asked anew, old masks must not pass for new ones if the run is interrupted.
    anew = ("predict", "--note", "lower right lung", *alike[3:], images / "scan0.png")
    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        patch.setattr("reclmis.prediction.predict", interrupted)
        main([str(argument) for argument in anew])
    code, said, _ = reclmis(*anew, "--resume", capsys=capsys)
    assert code == 0 and "1 of 1" in said


def interrupted(*given, **more):
    raise KeyboardInterrupt


def test_cache_notes_refuses_a_model_without_a_text_encoder(folder, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text(NOTE)
    (tmp_path / "others.txt").write_text("lower right lung")
    assert reclmis("cache-notes", folder, tmp_path / "notes.txt", tmp_path / "table", capsys=capsys)[0] == 0
    arguments = ("cache-notes", tmp_path / "table", tmp_path / "others.txt", tmp_path / "o")
    assert "cannot be encoded" in refused(*arguments, capsys=capsys)


def test_cache_notes_refuses_notes_that_are_none(folder, tmp_path, capsys):
    assert "cannot be read" in refused("cache-notes", folder, tmp_path / "absent.txt", tmp_path / "o", capsys=capsys)
    (tmp_path / "blank.txt").write_text(" \n\n")
    assert "holds no note" in refused("cache-notes", folder, tmp_path / "blank.txt", tmp_path / "o", capsys=capsys)
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in refused("cache-notes", folder, tmp_path / "bytes.txt", tmp_path / "o", capsys=capsys)


# predict without a note, and optimised --------------------------------------------------------------------------------


def test_without_a_note_all_that_is_found_or_one_sentence(folder, images, tmp_path, capsys):
    error = refused("predict", images, "--model", folder, "--no-note", capsys=capsys)
    assert "was trained with notes only: give --note or --table" in error
    error = refused("predict", images, "--model", folder, "--no-note", "--note", NOTE, capsys=capsys)
    assert "--no-note goes without" in error
    beyond = tmp_path / "beyond"
    write_checkpoint(beyond, [NOTE], note_dropout=0.1, presence=True)
    processor = RecLMISProcessor.from_pretrained(beyond)
    processor.null_note = True
    processor.save_pretrained(beyond)
    code, out, _ = reclmis("predict", images, "--model", beyond, "--no-note", capsys=capsys)
    assert code == 0 and "3 of 3 image(s) segmented" in out and out.count("shown with probability") == 3
    assert len(list(tmp_path.glob("predictions/*_mask.png"))) == 3
    for path in tmp_path.glob("predictions/*_presence.json"):
        assert f"{json.loads(path.read_text())['presence']:.2f}" in out
    assert len(list(tmp_path.glob("predictions/*_presence.json"))) == 3


def test_optimised_masks_are_the_same_but_for_rounding(folder, images, tmp_path, capsys):
    for name, options in (("plain", []), ("fast", ["--optimize"])):
        code, *_ = reclmis(
            "predict", images, "--model", folder, "--note", NOTE, "--output", name, *options, capsys=capsys
        )
        assert code == 0
    for path in sorted((tmp_path / "plain").glob("*_mask.png")):
        plain, fast = (np.asarray(Image.open(tmp_path / name / path.name)) for name in ("plain", "fast"))
        assert plain.any() and (plain != fast).mean() < 0.001
