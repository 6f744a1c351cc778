"""What may be gone on with, what may be overwritten, and what is written down."""

import json

import pytest

from reclmis.training.checkpoint import COMPLETE, STATE
from reclmis.training.run_folder import (
    RunFolderError,
    check_options,
    refuse_occupied,
    resumable,
    tidy,
    write_metrics,
    write_run,
)

OPTIONS = {"learning_rate": 3e-4, "schedule": "cosine", "epochs": 20, "workers": 0, "keep": 0, "ema": 0.0, "seed": 0,
           "set": ["dropout=0.1", 'interaction="none"'], "dataset": "data"}  # fmt: skip
DATA = {"train": {"images": 9, "sha256": "a" * 64}, "validation": {"images": 2, "sha256": "b" * 64}}


def checkpoint(folder, record=None, state=True, data=DATA):
    folder.mkdir(parents=True)
    (folder / COMPLETE).write_text(json.dumps({"options": OPTIONS, "processes": 1} if record is None else record))
    manifest = {split: {**entry, "samples": []} for split, entry in data.items()}
    (folder / "data_manifest.json").write_text(json.dumps(manifest))
    if state:
        (folder / STATE).write_bytes(b"")
    return folder


@pytest.mark.parametrize("name", ["last", "best", ".last.new", ".best.old", "epochs/00003"])
def test_a_folder_with_epochs_is_not_begun_in(tmp_path, name):
    refuse_occupied(tmp_path / "not there")
    write_run(tmp_path, {"seed": 0}, 0)  # of a run that was stopped in its first epoch
    refuse_occupied(tmp_path)
    checkpoint(tmp_path / name)
    with pytest.raises(RunFolderError, match="holds a run already.*--resume.*--overwrite"):
        refuse_occupied(tmp_path)


def test_overwriting_removes_what_a_run_wrote_and_nothing_else(tmp_path):
    for name in ("last", ".last.new", "best", "epochs/00001"):
        checkpoint(tmp_path / name)
    (tmp_path / "logs" / "reclmis").mkdir(parents=True)
    write_run(tmp_path, {}, 0)
    write_metrics(tmp_path, [])
    (tmp_path / "evaluation.json").write_text("{}")
    tidy(tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation.json"]
    tidy(tmp_path / "not there", overwrite=True)
    checkpoint(tmp_path / "last")
    for mine in ("logs", "epochs"):
        (tmp_path / mine).mkdir()
        (tmp_path / mine / "mine.txt").write_text("precious")
    tidy(tmp_path, overwrite=True)
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["evaluation.json", "mine.txt", "mine.txt"]


def test_what_no_run_wrote_is_not_overwritten(tmp_path):
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "mine.txt").write_text("precious")
    with pytest.raises(RunFolderError, match=r"holds best, but neither run\.json"):
        tidy(tmp_path, overwrite=True)
    assert (tmp_path / "best" / "mine.txt").read_text() == "precious"


def test_checkpoints_of_a_killed_save_get_their_names(tmp_path):
    for name in (".last.new", ".best.old"):
        checkpoint(tmp_path / name)
    tidy(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "last"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.1}, "learning_rate 0.0003, not 0.1"),
        ({"seed": 1, "ema": 0.9}, "ema 0.0, not 0.9; seed 0, not 1"),
        ({"epochs": 30}, "epochs 20, not 30"),
        ({"set": ["dropout=0.2", 'interaction="none"']}, "not dropout=0.2 interaction"),
        ({"set": []}, "not none"),
        ({"processes": 2}, "processes 1, not 2"),
        ({"set": ['interaction = "none"'.replace(" ", ""), "dropout=0.10"]}, None),
        ({"workers": 2, "keep": 3, "dataset": "moved/data", "output_dir": "moved", "newer_option": 1}, None),
    ],
)
def test_options_that_change_the_course_of_a_run_stay(tmp_path, changes, message):
    checkpoint(tmp_path / "last")
    options = {**OPTIONS, **changes}
    processes = options.pop("processes", 1)
    if message is None:
        assert resumable(tmp_path, options, processes, DATA) == tmp_path / "last"
        return
    with pytest.raises(RunFolderError, match=f"{message}.*--init"):
        resumable(tmp_path, options, processes, DATA)


@pytest.mark.parametrize("schedule", ["constant", "restarts"])
def test_without_a_cosine_that_ends_with_them_epochs_may_be_added(tmp_path, schedule):
    check_options({**OPTIONS, "schedule": schedule}, {**OPTIONS, "schedule": schedule, "epochs": 30}, tmp_path)


def test_an_older_checkpoint_has_its_options_in_the_record_of_the_run(tmp_path):
    checkpoint(tmp_path / "last", record={"epoch": 1})
    with pytest.raises(RunFolderError, match="Nothing .* says with which options"):
        resumable(tmp_path, OPTIONS, 1, DATA)
    write_run(tmp_path, {"arguments": OPTIONS, "processes": 1}, 0)
    assert resumable(tmp_path, OPTIONS, 1, DATA) == tmp_path / "last"
    with pytest.raises(RunFolderError, match="seed 0, not 3"):
        resumable(tmp_path, {**OPTIONS, "seed": 3}, 1, DATA)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunFolderError, match="damaged"):
        resumable(tmp_path, OPTIONS, 1, DATA)


def test_other_data_and_a_missing_state_are_refused_and_an_empty_folder_begins(tmp_path):
    assert resumable(tmp_path, OPTIONS, 1, DATA) is None
    checkpoint(tmp_path / "last")
    changed = {**DATA, "train": {"images": 10, "sha256": "c" * 64}}
    with pytest.raises(RunFolderError, match=r"train: 9 images \(sha256 a{12}\), not the 10 \(c{12}\)"):
        resumable(tmp_path, OPTIONS, 1, changed)
    (tmp_path / "last" / STATE).unlink()
    with pytest.raises(RunFolderError, match="has no training_state.pt"):
        resumable(tmp_path, OPTIONS, 1, DATA)


def test_the_record_is_of_the_first_session_and_lists_all(tmp_path):
    write_run(tmp_path, {"seed": 0, "command": "train", "commit": "a"}, 0)
    write_run(tmp_path, {"seed": 0, "command": "train --resume", "commit": "b"}, 3)
    record = json.loads((tmp_path / "run.json").read_text())
    assert (record["command"], record["commit"]) == ("train", "a")
    assert record["sessions"] == [
        {"after_epoch": 0, "command": "train", "commit": "a"},
        {"after_epoch": 3, "command": "train --resume", "commit": "b"},
    ]
    write_run(tmp_path, {"command": "another"}, 0)
    assert json.loads((tmp_path / "run.json").read_text())["command"] == "another"
