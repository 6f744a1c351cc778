"""The page from folder to card: every command in it runs, as a shell reads it, on a few tiny images."""

import importlib.util
import re
import shutil
import subprocess

import openpyxl
import pytest
from PIL import Image

from reclmis.cli import main
from tests.conftest import REPOSITORY
from tests.examples.runs import run

PAGE = (REPOSITORY / "examples" / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
# In place of the page's own first block.
SMALL = {"IMAGES": 60, "SIZE": 32, "EPOCHS": 1}
# Each program tells how it was called; there are no others.
RECORDED = "record() { printf '%s\\0' $# \"$@\"; }\n" + "\n".join(
    f'{program}() {{ record {program} "$@"; }}' for program in ("reclmis", "accelerate", "python")
)


def commands(work) -> list[list[str]]:
    """The page's commands in order, their words as a shell makes them."""
    settings = "\n".join(f"{name}={value}" for name, value in {"WORK": work, **SMALL}.items())
    script = "\n".join(["set -eu", "PATH=", RECORDED, BLOCKS[0], settings, *BLOCKS[1:]])
    shell = shutil.which("bash")
    if shell is None:
        pytest.skip("There is no bash here to read the page with.")
    done = subprocess.run([shell, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    words, found = done.stdout.split("\0")[:-1], []
    while words:
        count, words = int(words[0]), words[1:]
        found.append(words[:count])
        words = words[count:]
    return found


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """The folder that the page leaves behind, and the commands that were run."""
    work = tmp_path_factory.mktemp("tutorial")
    done = commands(work)
    for program, *words in done:
        if program == "reclmis":
            assert main(words) == 0, words
        elif program == "accelerate":
            assert words[:2] == ["launch", "examples/train.py"] and {"--dataset", "--output_dir"} <= set(words)
            run(work / "run", *words[2:])  # in tiny widths
        else:
            script(words[0]).main(words[1:])
    return work, done


def script(path: str):
    specification = importlib.util.spec_from_file_location("script", REPOSITORY / path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_first_block_is_settings_that_a_reader_may_change():
    names = re.findall(r"^(\w+)=", BLOCKS[0], re.MULTILINE)
    assert names == ["WORK", *SMALL] and len(names) == len(BLOCKS[0].splitlines())


def test_it_shows_every_step(followed):
    _, done = followed
    assert [" ".join(words[:2]) for words in done] == [
        "python examples/synthetic_folder.py", "reclmis data", "accelerate launch", "reclmis evaluate", "reclmis certify",
        "reclmis explain", "reclmis robustness", "reclmis push",
    ]  # fmt: skip


def test_what_it_says_is_written_is_there(followed):
    work, _ = followed
    named = set(re.findall(r"`((?:\w+/)?\w+\.(?:html|png|md|json))`", PAGE))
    assert {"sheet.png", "evaluation/report.html", "run.json", "robustness.md"} <= named
    written = {path.name for path in work.rglob("*")}
    assert not [name for name in named if name.rpartition("/")[2] not in written]
    for picture in (work / "sheet.png", work / "why.png", work / "robustness" / "robustness.png"):
        assert min(Image.open(picture).size) > 300


def test_the_card_has_what_was_measured(followed):
    work, done = followed
    card = (work / "card.md").read_text(encoding="utf-8")
    assert "# reclmis-tutorial" in card and "no restriction" in card and "follows sides" in card
    assert "reclmis evaluate path/to/best" in card and "examples/train.py --dataset" in card
    assert str(work) not in card and done[-1][-2:] == ["--card-only", str(work / "card.md")]


def test_its_notes_are_those_of_the_image(followed):
    work, done = followed
    (words,) = [words for words in done if words[:2] == ["reclmis", "explain"]]
    note = words[words.index("--note") + 1]
    table = openpyxl.load_workbook(work / "synthetic-lungs" / "Test_Folder" / "Test_text.xlsx").active
    notes = dict(table.iter_rows(min_row=2, values_only=True))
    assert notes["test_0004.png"] == note and words[2].endswith("test_0004.png")
    edits = [words[place + 1] for place, word in enumerate(words) if word == "--edit"]
    sample = script("examples/synthetic_folder.py").make_sample(2 * 10**6 + 4, size=32)
    # The first edit points at the opacity that the note leaves out, the second at nothing.
    assert edits[0] == sample["distractor_note"]
    assert "upper right" in edits[1] and "upper right" not in note + edits[0]
