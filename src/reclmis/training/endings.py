"""How a run that cannot go on ends: with one sentence that says why, and what is left."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..data.collate import SampleError
from ..data.pairing import DataError
from ..errors import one_line
from ..losses import NonFiniteLossError
from .checkpoint import latest_complete, read_record
from .finite import NonFiniteModelError
from .processes import LaunchError
from .run_folder import RunFolderError

# A disk that is full, broken or not ours to write to; EFBIG is a limit on the size of a file.
UNWRITABLE = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST,
)  # fmt: skip


@contextmanager
def kept(output_dir: Path) -> Iterator[None]:
    """Turns what can stop a run from outside, and numbers that broke, into one sentence. Mistakes of code pass through.

    Raises:
        SystemExit: with the sentence.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(f"Interrupted. {left(output_dir)}") from None
    except (RunFolderError, LaunchError) as error:
        raise SystemExit(str(error)) from error
    except (NonFiniteLossError, NonFiniteModelError) as error:
        raise SystemExit(f"{error} {sound(output_dir)}") from error
    except OSError as error:
        if error.errno not in UNWRITABLE or not _within(error.filename, output_dir):
            raise
        raise SystemExit(f"Nothing can be written to {output_dir}: {error}. {left(output_dir)}") from error
    except (SampleError, DataError) as error:
        # From a worker of the loader it comes with the worker's traceback.
        raise SystemExit(
            f"{str(error).splitlines()[-1].removeprefix(f'{_name(error)}: ')} {left(output_dir)}"
        ) from error
    except Exception as error:
        death = _death_of_a_worker(error)
        if death is None:
            raise
        reason = str(death).split("\n")[0].strip().rstrip(".")
        raise SystemExit(
            f"{reason}. Often memory ran out; fewer --workers need less of it. {left(output_dir)}"
        ) from error


@contextmanager
def requested() -> Iterator[None]:
    """Turns what is wrong with the options, the data or the model that were asked for into one sentence.

    Raises:
        SystemExit: with the sentence.
    """
    try:
        yield
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise SystemExit(str(error) if isinstance(error, DataError) else one_line(error)) from error


def _death_of_a_worker(error: BaseException | None) -> RuntimeError | None:
    """The error of a loader's worker that was killed. PyTorch raises it from a signal's handler, that is, within whatever
    the process computes at that moment, which may have named itself as the reason."""
    while error is not None:
        if isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker"):
            return error
        error = error.__cause__ or error.__context__
    return None


def _name(error: Exception) -> str:
    return f"{type(error).__module__}.{type(error).__name__}"


def left(output_dir: Path) -> str:
    """What a run that was stopped can go on from."""
    if latest_complete(output_dir) is None:
        return "No epoch was saved."
    return f"{output_dir / 'last'} holds the last complete epoch; --resume goes on from there."


def sound(output_dir: Path) -> str:
    """What is left of a run whose numbers broke. Resumed, it would break again: it draws the same."""
    checkpoint = latest_complete(output_dir)
    if checkpoint is None:
        return "No epoch was saved."
    return (
        f"{checkpoint} holds epoch {read_record(checkpoint).get('epoch')}, which is sound: start another run from it by "
        "--init, with a lower --learning_rate or with --grad_clip."
    )


def _within(filename: str | bytes | None, folder: Path) -> bool:
    """Whether an error is about a file of this folder, or the folder or one above it; where it names none, it may be."""
    if not isinstance(filename, str):
        return True
    path, folder = Path(filename).absolute(), folder.absolute()
    return path.is_relative_to(folder) or folder.is_relative_to(path)


__all__ = ["kept", "left", "requested", "sound"]
