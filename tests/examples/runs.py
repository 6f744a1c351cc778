"""Runs of the training example, each in a process of its own: Accelerate keeps global state.

The processes are forked from one that has imported what every run needs, which takes longer than a run itself.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.conftest import REPOSITORY

OPTIONS = ["--dataset", "synthetic", "--num_synthetic", "9", "--preset", "tiny", "--image_size", "32", "--epochs", "2",
           "--batch_size", "4", "--tracker", "none", "--set", 'visual_config={"widths":[4,8,12]}', "hidden_size=16",
           "decoder_widths=[8,8]", 'text_config={"hidden_size":16,"num_hidden_layers":1,"num_attention_heads":2}',
           "reconstruction_layers=1", "dropout=0.1"]  # fmt: skip
SETTINGS = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
SCRIPT = "examples/train.py"

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["accelerate", "datasets", "torchvision", "reclmis.modeling_reclmis", "reclmis.data",
                               "reclmis.processing_reclmis", "reclmis.training", "torch.utils.tensorboard"])  # fmt: skip


def run(output, *more, check=True) -> subprocess.CompletedProcess:
    """As `subprocess.run` of the script would, with its output as text."""
    arguments = [SCRIPT, *OPTIONS, "--output_dir", str(output), *more]
    with tempfile.TemporaryDirectory() as folder:
        said = [Path(folder) / name for name in ("stdout", "stderr")]
        process = _FORKS.Process(target=_train, args=(arguments, said))
        process.start()
        process.join()
        stdout, stderr = (path.read_text() for path in said)
    if check and process.exitcode:
        raise subprocess.CalledProcessError(process.exitcode, arguments, stdout, stderr)
    return subprocess.CompletedProcess(arguments, process.exitcode, stdout, stderr)


def _train(arguments: list[str], said: list[Path]) -> None:
    for descriptor, path in enumerate(said, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.chdir(REPOSITORY)
    os.environ.update(SETTINGS)
    sys.argv = arguments
    sys.path.insert(0, str(REPOSITORY / "examples"))
    runpy.run_path(SCRIPT, run_name="__main__")
