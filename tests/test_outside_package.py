"""CONTRIBUTING's five steps, followed: its code becomes a package that entry points find, trained, saved and loaded."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

LOAD = """
import sys
import torch
from reclmis import RecLMISModel, RecLMISProcessor
folder = sys.argv[1]
assert "my_package" not in sys.modules
for prune in (False, True):
    model = RecLMISModel.from_pretrained(folder, prune_reconstruction=prune)
    processor = RecLMISProcessor.from_pretrained(folder)
    assert type(model.visual_backbone).__module__ == type(model.text_encoder).__module__ == "my_package"
    assert model.visual_backbone.channels == [8, 16] and model.backbone_stride == 8
    image = torch.zeros(3, 40, 30, dtype=torch.uint8)
    with torch.no_grad():
        logits = model(**processor(images=image, text="left lung", return_tensors="pt")).logits
    assert prune is False or torch.equal(logits, before)
    before = logits
"""


def block(language: str) -> str:
    """The first code block of a language in CONTRIBUTING.md, without the list's indentation."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text()
    content = re.search(rf"^   ```{language}\n(.*?)^   ```$", text, re.DOTALL | re.MULTILINE)[1]
    return re.sub(r"^   ", "", content, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    site = tmp_path_factory.mktemp("site")
    (site / "my_package.py").write_text(block("python"))
    information = site / "my_package-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    # What an installer makes of the table in pyproject.toml.
    points = re.sub(r'\[project\.entry-points\."(.+?)"\]', r"[\1]", block("toml")).replace('"', "")
    (information / "entry_points.txt").write_text(points)
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


def test_the_guide_as_it_stands(environment, tmp_path):
    command = shlex.split(block("bash").replace("\\\n", " "))
    command[0], command[-1] = sys.executable, str(tmp_path)
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    command = [sys.executable, "-c", LOAD, str(tmp_path / "best")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_the_package_loading_names_what_is_missing(environment, tmp_path):
    script = """
from reclmis import RecLMISConfig, RecLMISModel
try:
    RecLMISModel(RecLMISConfig.tiny(visual_backbone="patches"))
except ValueError as error:
    assert "Unknown visual backbone 'patches'" in str(error), error
else:
    raise SystemExit("built")
"""
    bare = {key: value for key, value in environment.items() if key != "PYTHONPATH"}
    if inherited := os.environ.get("PYTHONPATH"):
        bare["PYTHONPATH"] = inherited
    done = subprocess.run([sys.executable, "-c", script], env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
