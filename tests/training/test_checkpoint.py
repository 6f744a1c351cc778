"""A checkpoint is whole or not there at all."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from reclmis import RecLMISModel, RecLMISProcessor
from reclmis.training import latest_complete, load_training_state, save_checkpoint
from reclmis.training.checkpoint import COMPLETE, STATE, read_record
from tests.conftest import REPOSITORY
from tests.parts import tiny_config, tiny_model

CONFIG = {"text_config": {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}}


@pytest.fixture(scope="module")
def parts():
    return tiny_model(**CONFIG), RecLMISProcessor.from_model_config(tiny_config(**CONFIG), notes=["a note"])


def test_what_is_saved_comes_back(parts, tmp_path):
    folder = save_checkpoint(tmp_path / "last", *parts, state={"step": 3, "x": torch.ones(2)}, record={"epoch": 1})
    assert latest_complete(tmp_path) == folder
    assert read_record(folder) == {"epoch": 1}
    state = load_training_state(folder)
    assert state["step"] == 3 and torch.equal(state["x"], torch.ones(2))
    loaded = RecLMISModel.from_pretrained(folder).state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in parts[0].state_dict().items())
    assert RecLMISProcessor.from_pretrained(folder).max_length == parts[1].max_length
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_the_newest_replaces_the_old(parts, tmp_path):
    for epoch in (1, 2):
        save_checkpoint(tmp_path / "last", *parts, record={"epoch": epoch})
    assert read_record(latest_complete(tmp_path)) == {"epoch": 2}


def test_a_half_written_one_does_not_count(parts, tmp_path):
    save_checkpoint(tmp_path / "last", *parts, record={"epoch": 1})
    half = tmp_path / ".last.new"
    half.mkdir()
    (half / "config.json").write_text("{}")
    assert read_record(latest_complete(tmp_path)) == {"epoch": 1}
    (tmp_path / "last" / COMPLETE).unlink()
    assert latest_complete(tmp_path) is None
    with pytest.raises(FileNotFoundError, match="no complete checkpoint"):
        load_training_state(tmp_path / "last")


def test_between_the_two_exchanges_of_names(parts, tmp_path):
    save_checkpoint(tmp_path / "last", *parts, record={"epoch": 1})
    os.replace(tmp_path / "last", tmp_path / ".last.old")
    assert read_record(latest_complete(tmp_path)) == {"epoch": 1}


def test_nothing_pickled_is_executed(parts, tmp_path):
    folder = save_checkpoint(tmp_path / "last", *parts, state={})
    flag = tmp_path / "executed"

    class Planted:
        def __reduce__(self):
            return (open, (str(flag), "w"))

    torch.save({"model": Planted()}, folder / STATE)
    with pytest.raises(ValueError, match="cannot be read"):
        load_training_state(folder)
    assert not flag.exists()


def test_only_the_training_state_is_no_safe_format(parts, tmp_path):
    folder = save_checkpoint(tmp_path / "best", *parts, record={})
    assert {path.suffix for path in folder.iterdir()} <= {".safetensors", ".json", ".txt", ".jinja"}


def test_a_killed_save_leaves_a_checkpoint_that_loads(tmp_path):
    """SIGKILL at several moments of endless saving: the newest complete checkpoint always loads."""
    script = (
        "import sys, torch\n"
        "from reclmis import RecLMISProcessor\n"
        "from reclmis.training import save_checkpoint\n"
        "from tests.parts import tiny_config, tiny_model\n"
        "from tests.training.test_checkpoint import CONFIG\n"
        "torch.set_num_threads(1)\n"
        "model = tiny_model(**CONFIG)\n"
        "processor = RecLMISProcessor.from_model_config(tiny_config(**CONFIG), notes=['a note'])\n"
        "epoch = int(sys.argv[2])\n"
        "while True:\n"
        "    epoch += 1\n"
        "    save_checkpoint(sys.argv[1] + '/last', model, processor, state={'epoch': epoch}, record={'epoch': epoch})\n"
        "    print(epoch, flush=True)\n"
    )
    seen = 0
    for delay in (0.003, 0.011, 0.019, 0.033, 0.052):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path), str(seen)],
            stdout=subprocess.PIPE, text=True, cwd=REPOSITORY,
        )  # fmt: skip
        assert process.stdout.readline().strip() == str(seen + 1)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        lines = process.stdout.read().split()
        process.wait()
        printed = int(lines[-1]) if lines else seen + 1
        newest = latest_complete(tmp_path)
        seen = json.loads((newest / COMPLETE).read_text())["epoch"]
        assert seen >= printed
        assert load_training_state(newest)["epoch"] == seen
        assert RecLMISModel.from_pretrained(newest) is not None
