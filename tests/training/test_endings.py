"""What stops a run is one sentence, and mistakes of code are none."""

import errno
import json

import pytest

from reclmis.losses import NonFiniteLossError
from reclmis.training.checkpoint import COMPLETE
from reclmis.training.endings import kept
from reclmis.training.finite import NonFiniteModelError
from reclmis.training.processes import LaunchError
from reclmis.training.run_folder import RunFolderError

RESUME = "last holds the last complete epoch; --resume goes on from there."
SOUND = "last holds epoch 3, which is sound: start another run from it by --init"


@pytest.mark.parametrize(
    ("error", "message", "left"),
    [
        (KeyboardInterrupt(), "Interrupted. ", RESUME),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device. ", RESUME),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
            "Killed. Often memory ran out",
            RESUME,
        ),
        (NonFiniteLossError("Loss term(s) not finite: dice = nan."), "dice = nan. ", SOUND),
        (NonFiniteModelError("After epoch 4, head.weight"), "head.weight ", SOUND),
    ],
)
def test_it_says_why_and_what_is_left(tmp_path, error, message, left):
    with pytest.raises(SystemExit) as ended, kept(tmp_path):
        raise error
    assert message in ended.value.code and ended.value.code.endswith("No epoch was saved.")
    (tmp_path / "last").mkdir()
    (tmp_path / "last" / COMPLETE).write_text(json.dumps({"epoch": 3}))
    with pytest.raises(SystemExit) as ended, kept(tmp_path):
        raise error
    assert message in ended.value.code and left in ended.value.code


@pytest.mark.parametrize("error", [RunFolderError("Another run."), LaunchError("One of two.")])
def test_what_was_asked_wrongly_is_its_own_sentence(tmp_path, error):
    with pytest.raises(SystemExit, match=f"^{error}$"), kept(tmp_path):
        raise error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EPIPE, "Broken pipe"),
        PermissionError(errno.EACCES, "Permission denied", "/data/images/1.png"),  # of another folder
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ValueError("a mistake"),
    ],
)
def test_mistakes_pass_through(tmp_path, error):
    with pytest.raises(type(error)) as raised, kept(tmp_path):
        raise error
    assert raised.value is error


def test_a_worker_that_dies_while_something_is_computed_is_still_the_reason(tmp_path):
    with (
        pytest.raises(SystemExit, match=r"^DataLoader worker \(pid 7\) is killed by signal: Killed\. Often"),
        kept(tmp_path),
    ):
        try:
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
        except RuntimeError as error:
            raise ValueError("The loss term 'dice' cannot be computed.") from error


def test_a_folder_that_cannot_be_made_is_the_runs_own(tmp_path):
    with pytest.raises(SystemExit, match="Nothing can be written"), kept(tmp_path / "runs" / "one"):
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path / "runs"))
