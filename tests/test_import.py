"""`import reclmis` costs next to nothing, and transformers knows the model all the same."""

import json
import subprocess
import sys

import pytest

import reclmis
from tests.parts import write_checkpoint

HEAVY = ("torch", "transformers", "torchvision", "timm", "datasets", "scipy", "openpyxl", "PIL", "pydicom", "nibabel")
NOTE = "upper left lung"


def fresh(code: str, *arguments: str) -> str:
    """What a fresh interpreter prints, in which every warning is an error."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "checkpoint"
    write_checkpoint(folder, [NOTE, "lower right lung"])
    return str(folder)


def test_nothing_heavy_is_imported():
    loaded = fresh(f"import sys, reclmis, reclmis.cli; print([name for name in {HEAVY} if name in sys.modules])")
    assert loaded == "[]"


def test_help_needs_no_model():
    code = (
        "import sys\nfrom reclmis.cli import main\n"
        "try:\n    main(['predict', '--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    assert fresh(code).splitlines()[-1] == "False False"


USES = {
    "AutoConfig": "AutoConfig.from_pretrained(sys.argv[1])",
    "AutoModel": "AutoModel.from_pretrained(sys.argv[1])",
    "AutoProcessor": "AutoProcessor.from_pretrained(sys.argv[1])",
    "AutoImageProcessor": "AutoImageProcessor.from_pretrained(sys.argv[1])",
    "pipeline": "pipeline('language-guided-segmentation', model=sys.argv[1])",
}
EXPECTED = {
    "AutoConfig": "RecLMISConfig",
    "AutoModel": "RecLMISModel",
    "AutoProcessor": "RecLMISProcessor",
    "AutoImageProcessor": "RecLMISImageProcessor",
    "pipeline": "LanguageGuidedSegmentationPipeline",
}


ORDERS = [
    [f"from transformers import {', '.join(USES)}", "import reclmis"],
    ["import reclmis.text", f"from transformers import {', '.join(USES)}"],
    ["from reclmis import RecLMISModel", f"from transformers import {', '.join(reversed(USES))}"],
    ["import reclmis.data", f"from transformers import {', '.join(USES)}"],
    # transformers imports its Auto classes in the middle of this model.
    ["import reclmis, transformers.models.clip.modeling_clip", f"from transformers import {', '.join(USES)}"],
    ["import reclmis.publishing", f"from transformers import {', '.join(USES)}"],
]
ALONE = ["AutoModel", "AutoProcessor", "pipeline"]
# Interpreters that know neither reclmis nor transformers, as copies of one that has loaded what both take longest to load.
FORKS = """
import json, os, sys
import torch, torchvision, timm
assert not {"reclmis", "transformers"} & set(sys.modules)
for number, code in enumerate(json.loads(sys.argv[2])):
    if child := os.fork():
        if status := os.waitpid(child, 0)[1]:
            sys.exit(f"{code} ended with {os.waitstatus_to_exitcode(status)}")
        continue
    sys.stdout = open(os.path.join(sys.argv[3], str(number)), "w")
    exec(code, {"sys": sys})
    sys.exit()
"""


@pytest.fixture(scope="module")
def answers(checkpoint, tmp_path_factory) -> list[list[str]]:
    """What each code prints in an interpreter of its own."""
    codes = ["\n".join([*order, *(f"print(type({use}).__name__)" for use in USES.values())]) for order in ORDERS]
    codes += [f"import reclmis\nfrom transformers import {name}\nprint(type({USES[name]}).__name__)" for name in ALONE]
    folder = tmp_path_factory.mktemp("answers")
    command = [sys.executable, "-c", FORKS, checkpoint, json.dumps(codes), str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return [(folder / str(number)).read_text().splitlines() for number in range(len(codes))]


def test_transformers_finds_each_class_on_its_own(answers):
    assert [lines[-1:] for lines in answers[len(ORDERS) :]] == [[EXPECTED[name]] for name in ALONE]


@pytest.mark.parametrize("place", range(len(ORDERS)))
def test_in_whatever_order_modules_come(answers, place):
    assert answers[place] == list(EXPECTED.values())


def test_public_names():
    assert set(reclmis.__all__) <= set(dir(reclmis))
    for name in reclmis.__all__:
        assert callable(getattr(reclmis, name))
    with pytest.raises(AttributeError, match="'reclmis' has no attribute 'RecLMISModle'"):
        _ = reclmis.RecLMISModle
    with pytest.raises(ImportError, match="RecLMISModle"):
        exec("from reclmis import RecLMISModle")


def test_built_in_parts_are_known_before_anything_is_loaded():
    code = "from reclmis.registry import visual_backbones, text_encoders\nprint(list(visual_backbones), list(text_encoders))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert all(name in run.stdout for name in ("unet", "timm", "clip", "hf", "tokens")), run.stderr


def test_a_taken_name_is_refused_even_before_its_owner_is_loaded():
    code = (
        "from reclmis import register_visual_backbone\n"
        "try:\n    register_visual_backbone('unet')(lambda name, **options: None)\n"
        "except ValueError as error:\n    print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "registered already" in run.stdout, run.stderr


@pytest.mark.parametrize("tables", [("CONFIG_MAPPING_NAMES",), ("CONFIG_MAPPING_NAMES", "MODEL_NAMES_MAPPING")])
def test_whatever_tables_a_version_has_know_the_model(tables):
    """transformers 5.5 looks up every configured model's title when it is imported, and fails where one is missing."""
    from types import SimpleNamespace

    from reclmis.registration import _name_configuration

    auto = SimpleNamespace(**{table: {"clip": "CLIP"} for table in tables})
    _name_configuration(auto)
    assert all(set(getattr(auto, table)) == {"clip", "reclmis"} for table in tables)
    assert set(vars(auto)) == set(tables)
