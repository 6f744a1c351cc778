"""The notebook from folder to card: executed from top to bottom on a few tiny images, offline."""

import base64
import io
import json
import shlex

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

from tests.conftest import REPOSITORY
from tests.examples.runs import OPTIONS, SETTINGS

NOTEBOOK = REPOSITORY / "examples" / "notebooks" / "from_folder_to_card.ipynb"
TINY = ["--preset", "tiny", "--batch_size", "8", *OPTIONS[OPTIONS.index("--set") :]]
SMALL = {"NOTEBOOK_IMAGES": "60", "NOTEBOOK_IMAGE_SIZE": "32", "NOTEBOOK_EPOCHS": "1",
         "NOTEBOOK_TRAINING": shlex.join(TINY)}  # fmt: skip


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The folder that the notebook leaves behind, and the notebook with its outputs."""
    work, home = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("home")
    beside = sorted(NOTEBOOK.parent.iterdir())
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR"):
            patch.setenv(name, str(home / name))
        for name, value in {**SETTINGS, **SMALL, "NOTEBOOK_WORK": str(work), "HF_HUB_OFFLINE": "1"}.items():
            patch.setenv(name, value)
        # With it, a kernel does not show what its child processes print.
        patch.delenv("PYTEST_CURRENT_TEST", raising=False)
        where = {"metadata": {"path": str(NOTEBOOK.parent)}}
        NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
    assert sorted(NOTEBOOK.parent.iterdir()) == beside
    return work, notebook


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(notebook, kind: str) -> list[str]:
    """What the cells show of a kind, in order."""
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    return [output.data[kind] for output in outputs if "data" in output and kind in output.data]


def printed(notebook) -> str:
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")


def test_is_stored_clean():
    stored = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (stored["nbformat"], stored["metadata"]["kernelspec"]["name"]) == (4, "python3")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not [cell.source for cell in code(notebook) if cell.outputs or cell.execution_count is not None]
    # A sentence stands before all that computes.
    kinds = [cell.cell_type for cell in notebook.cells]
    assert (
        kinds[0] == kinds[-1] == "markdown"
        and kinds.count("code") > 12
        and max(map(len, NOTEBOOK.read_text().splitlines())) < 200
    )


def test_runs_from_top_to_bottom(executed):
    _, notebook = executed
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    assert not [output for cell in code(notebook) for output in cell.outputs if output.output_type == "error"]


def test_shows_its_pictures(executed):
    """Audit, training, cases, explanation, edited notes, robustness."""
    _, notebook = executed
    pictures = [Image.open(io.BytesIO(base64.b64decode(data))) for data in shown(notebook, "image/png")]
    assert len(pictures) == 6
    for picture in pictures:
        lightest, darkest = picture.convert("L").getextrema()[::-1]
        assert min(picture.size) > 250 and lightest - darkest > 200


def test_prints_what_the_commands_say(executed):
    _, notebook = executed
    said = printed(notebook)
    for line in ("0 error(s), 0 warning(s).", "epoch 1: loss", "Scores at the images' own size", "follows sides:",
                 "images are below a Dice of 50 %", "Card written to"):  # fmt: skip
        assert line in said, line


def test_ends_in_a_card(executed):
    work, notebook = executed
    card = (work / "card.md").read_text(encoding="utf-8")
    metrics = json.loads((work / "evaluation" / "evaluation.json").read_text())["metrics"]["right"]
    assert f"| right | {100 * metrics['dice_per_image']:.1f} |" in card and "follows sides" in card
    assert "examples/train.py --dataset path/to/synthetic-lungs-60-64px" in card and str(work) not in card
    rendered = shown(notebook, "text/markdown")[-1]
    assert "# reclmis-tutorial" in rendered and "license" not in rendered and rendered.strip() in card
    for name in ("sheet.png", "run/best/model.safetensors", "evaluation/report.html", "certificate/certificate.md",
                 "robustness/robustness.md"):  # fmt: skip
        assert (work / name).is_file(), name
