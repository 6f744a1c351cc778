"""A checkpoint is whole or not there at all."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from reclmis import RecLMISModel, RecLMISProcessor
from reclmis.training import keep_newest, latest_complete, load_training_state, save_checkpoint
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


class Killed(BaseException):
    """The process ends here."""


class Part:
    """Something with `save_pretrained` that is quick to write."""

    def __init__(self, epoch):
        self.epoch = epoch

    def save_pretrained(self, folder):
        Path(folder).mkdir(exist_ok=True)
        save_file({"epoch": torch.tensor(self.epoch)}, Path(folder) / "model.safetensors")


def save(folder, epoch):
    save_checkpoint(folder, Part(epoch), Part(epoch), state={"epoch": epoch}, record={"epoch": epoch})


def newest_epoch(output_dir):
    """Of the newest checkpoint, after reading every file of it."""
    folder = latest_complete(output_dir)
    epochs = {read_record(folder)["epoch"], load_training_state(folder)["epoch"]}
    assert epochs == {load_file(folder / "model.safetensors")["epoch"].item()}
    return epochs.pop()


def save_and_die(monkeypatch, folder, epoch, survived):
    """Saves, and dies in the middle of the filesystem call after `survived` of them. Whether it got that far."""
    left = [survived]

    def dying(call, half_done=None):
        def run(*args, **kwargs):
            if left[0] == 0:
                if half_done is not None:
                    half_done(*args)
                raise Killed
            left[0] -= 1
            return call(*args, **kwargs)

        return run

    def remove_half(path):
        for file in sorted(Path(path).glob("*"))[::2]:
            os.remove(file)

    with monkeypatch.context() as patch:
        for name in ("replace", "fsync"):
            patch.setattr(f"reclmis.training.checkpoint.os.{name}", dying(getattr(os, name)))
        patch.setattr("shutil.rmtree", dying(shutil.rmtree, remove_half))
        patch.setattr(Path, "unlink", dying(Path.unlink))
        patch.setattr(Path, "write_text", dying(Path.write_text, lambda path, text: path.write_bytes(b"{")))
        patch.setattr(torch, "save", dying(torch.save, lambda state, file: file.write(b"PK")))
        patch.setattr(Part, "save_pretrained", dying(Part.save_pretrained))
        try:
            save(folder, epoch)
        except Killed:
            return True
    return False


def test_death_at_every_step_of_two_saves_in_a_row(monkeypatch, tmp_path):
    """Dies at each filesystem call of a save, and, from every state that this leaves, at each of the next one. The
    newest checkpoint is always whole, and never older than it was before."""
    first = deaths = 0
    while True:
        output = tmp_path / f"{first}"
        save(output / "last", 1)
        if not save_and_die(monkeypatch, output / "last", 2, first):
            break
        before, second = newest_epoch(output), 0
        assert before in (1, 2)
        while True:
            again = tmp_path / f"{first}-{second}"
            shutil.copytree(output, again)
            died = save_and_die(monkeypatch, again / "last", 3, second)
            assert newest_epoch(again) in ({before, 3} if died else {3})
            save(again / "last", 4)
            assert newest_epoch(again) == 4 and [path.name for path in again.iterdir()] == ["last"]
            if not died:
                break
            second, deaths = second + 1, deaths + 1
        first += 1
    assert first > 10 and deaths > 100


def test_retention_keeps_the_newest_and_counts_whole_ones_only(parts, tmp_path):
    for name in ("00001", "00002", "00010"):
        save_checkpoint(tmp_path / name, *parts)
    (tmp_path / "00011").mkdir()
    assert [path.name for path in keep_newest(tmp_path, 2)] == ["00002", "00010"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00002", "00010", "00011"]
    assert keep_newest(tmp_path, 5) == [tmp_path / "00002", tmp_path / "00010"]


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


class Failing(Part):
    def __init__(self, error):
        super().__init__(2)
        self.error = error

    def save_pretrained(self, folder):
        super().save_pretrained(folder)
        raise self.error


@pytest.mark.parametrize(
    ("error", "number"),
    [
        # As safetensors and tokenizers, both in Rust, say it.
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), errno.ENOSPC),
        (Exception("File too large (os error 27)"), errno.EFBIG),
        (OSError(errno.EROFS, "Read-only file system"), errno.EROFS),
        (RuntimeError("two tensors share memory"), None),
    ],
)
def test_a_save_that_fails_frees_its_space_and_tells_the_disk_from_mistakes(tmp_path, error, number):
    save(tmp_path / "last", 1)
    with pytest.raises(type(error) if number is None else OSError) as raised:
        save_checkpoint(tmp_path / "last", Failing(error), Part(2), record={"epoch": 2})
    assert getattr(raised.value, "errno", None) == number
    assert newest_epoch(tmp_path) == 1 and [path.name for path in tmp_path.iterdir()] == ["last"]


def save_until_killed(output_dir, kills):
    """Run by the next test in a process of its own: forks savers and kills each at some moment of its endless saving."""
    torch.set_num_threads(1)
    # A progress bar's lock is shared between processes: a saver that dies holding it would stop everyone.
    logging.disable_progress_bar()
    model = tiny_model(**CONFIG)
    processor = RecLMISProcessor.from_model_config(tiny_config(**CONFIG), notes=["a note"])
    moments, newest = random.Random(0), 0
    for _ in range(kills):
        ready, written = os.pipe()
        child = os.fork()
        if child == 0:
            for epoch in range(newest + 1, 10**6):
                state = {"epoch": epoch}
                save_checkpoint(Path(output_dir) / "last", model, processor, state=state, record=state)
                os.write(written, b".")
        os.close(written)
        os.read(ready, 1)
        time.sleep(moments.uniform(0, 0.06))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        done = newest + 1
        while more := os.read(ready, 1000):
            done += len(more)
        os.close(ready)
        folder = latest_complete(output_dir)
        newest = read_record(folder)["epoch"]
        assert done <= newest <= done + 1, (done, newest)
        assert load_training_state(folder)["epoch"] == newest
        RecLMISModel.from_pretrained(folder)
    print(f"{kills} kills, {newest} epochs")


def test_a_killed_save_leaves_a_checkpoint_that_loads(tmp_path):
    """SIGKILL at twenty random moments: the newest complete checkpoint always loads, and no finished save is lost."""
    code = f"from tests.training.test_checkpoint import save_until_killed; save_until_killed({str(tmp_path)!r}, 20)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False,
                          timeout=240)  # fmt: skip
    assert done.stdout.startswith("20 kills"), done.stderr[-3000:]
