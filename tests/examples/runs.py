"""Runs of the training example, each in a process of its own: Accelerate keeps global state."""

import multiprocessing
import os
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import datasets.config

from tests.conftest import REPOSITORY
from tests.processes import FORKS

OPTIONS = ["--dataset", "synthetic", "--num_synthetic", "9", "--preset", "tiny", "--image_size", "32", "--epochs", "2",
           "--batch_size", "4", "--tracker", "none", "--set", 'visual_config={"widths":[4,8,12]}', "hidden_size=16",
           "decoder_widths=[8,8]", 'text_config={"hidden_size":16,"num_hidden_layers":1,"num_attention_heads":2}',
           "reconstruction_layers=1", "dropout=0.1"]  # fmt: skip
SETTINGS = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
SCRIPT = "examples/train.py"


def run(output, *more, check=True, file_size=None) -> subprocess.CompletedProcess:
    """As `subprocess.run` of the script would, with its output as text.

    Args:
        file_size: largest file in bytes that the script can write, as if the disk were full behind it.
    """
    with started(output, *more, file_size=file_size) as process:
        process.join()
        done = subprocess.CompletedProcess(process.arguments, process.exitcode, *process.said())
    if check and done.returncode:
        raise subprocess.CalledProcessError(done.returncode, done.args, done.stdout, done.stderr)
    return done


@contextmanager
def started(output, *more, file_size=None):
    """The script's process while it runs, with `arguments` and, of what it said so far, `said() -> (stdout, stderr)`."""
    with tempfile.TemporaryDirectory() as folder:
        said = [Path(folder) / name for name in ("stdout", "stderr")]
        arguments = [SCRIPT, *OPTIONS, "--output_dir", str(output), *more]
        process = FORKS.Process(target=_train, args=(arguments, said, file_size))
        process.start()
        process.arguments = arguments
        process.said = lambda: [path.read_text() for path in said]
        try:
            yield process
        finally:
            process.kill()
            process.join()


def _train(arguments: list[str], said: list[Path], file_size: int | None) -> None:
    for descriptor, path in enumerate(said, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    if file_size is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails, and the process lives to say so
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    # A script's own default on Linux. A child of a fork server would start another one for its workers.
    multiprocessing.set_start_method("fork", force=True)
    # datasets waits for threads at the end of every stream, five seconds a time.
    datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0.3
    os.chdir(REPOSITORY)
    os.environ.update(SETTINGS)
    sys.argv = arguments
    sys.path.insert(0, str(REPOSITORY / "examples"))
    runpy.run_path(SCRIPT, run_name="__main__")
