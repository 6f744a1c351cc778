"""Publishing against a Hub on the loopback, over real HTTP."""

import json
import os
import subprocess
import sys

import pytest
import torch
from huggingface_hub import HfApi
from huggingface_hub.utils._http import http_backoff
from safetensors.torch import load as load_tensors

from reclmis import RecLMISModel
from reclmis.cli import main
from reclmis.model_card import build_model_card
from reclmis.profiling import Cost
from reclmis.publishing import PushError, card_of_checkpoint, checkpoint_files, push_checkpoint
from tests.conftest import REPOSITORY
from tests.hub_server import TOKEN, running_hub
from tests.parts import make_inputs, tiny_config, write_checkpoint

REPOSITORY_ID = "org/reclmis-tiny"
FIGURES = {"dice_per_image": 0.8, "iou_per_image": 0.7, "dice_pooled": 0.85, "iou_pooled": 0.74, "images": 6}
EVALUATION = {"dataset": "MoNuSeg", "split": "validation", "images": 6, "sha256": "ab" * 32, "seed": 3,
              "command": "/somewhere/examples/evaluate.py --dataset ../data/MoNuSeg",
              "metrics": {"right": FIGURES, "empty": {**FIGURES, "dice_per_image": 0.31}}}  # fmt: skip
RUN = {"command": "examples/train.py --dataset ../data/MoNuSeg --seed 5", "seed": 5, "commit": "c0ffee",
       "versions": {"torch": "2.14"}, "data": {"train": {"images": 24, "sha256": "cd" * 32}},
       "arguments": {"dataset": "../data/MoNuSeg"}}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "best"
    write_checkpoint(folder, ["upper left lung"])
    return folder


@pytest.fixture(scope="module")
def card(folder):
    return card_of_checkpoint(folder, REPOSITORY_ID, evaluation=EVALUATION, run=RUN, license="apache-2.0")


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    # Retries would wait for half a minute; what is tested is what happens after the last.
    monkeypatch.setitem(http_backoff.__kwdefaults__, "max_retries", 0)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("reclmis.publishing.get_token", lambda: None)
    with running_hub() as server:
        yield server


def api(hub, token=TOKEN):
    return HfApi(endpoint=hub.url, token=token)


# Push --------------------------------------------------------------------------------------------------------------------


def test_a_push_is_one_commit_of_everything(hub, folder, card):
    push_checkpoint(folder, REPOSITORY_ID, card, api=api(hub))
    files = hub.files(REPOSITORY_ID)
    assert files.keys() == {path.name for path in folder.iterdir()} | {"README.md"}
    assert files["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    commits = [line for line in hub.requests.elements() if "/commit/" in line]
    assert len(commits) == 1
    # Once more changes nothing; another branch leaves the first alone.
    push_checkpoint(folder, REPOSITORY_ID, card, api=api(hub), revision="v2")
    assert hub.repositories[REPOSITORY_ID].branches.keys() == {"main", "v2"}


def test_weights_that_the_folder_no_longer_has_go_in_the_same_commit(hub, folder, card):
    push_checkpoint(folder, REPOSITORY_ID, card, api=api(hub))
    repository = hub.repositories[REPOSITORY_ID]
    repository.commits[repository.branches["main"]] |= {"model-00001-of-2.safetensors": b"", "notes.bib": b"kept"}
    push_checkpoint(folder, REPOSITORY_ID, card, api=api(hub))
    assert "model-00001-of-2.safetensors" not in hub.files(REPOSITORY_ID)
    assert hub.files(REPOSITORY_ID)["notes.bib"] == b"kept"


@pytest.mark.parametrize("where", ["POST .*/commit/", r"POST .*/preupload/"])
def test_a_push_that_breaks_leaves_the_remote_as_it_was_and_can_be_repeated(hub, folder, card, where):
    hub.breaking.add(where)
    with pytest.raises(PushError, match="nothing was published; try again"):
        push_checkpoint(folder, REPOSITORY_ID, card, api=api(hub))
    assert REPOSITORY_ID not in hub.repositories  # it was made for this push
    hub.breaking.clear()
    push_checkpoint(folder, REPOSITORY_ID, card, api=api(hub))
    before = hub.files(REPOSITORY_ID)
    hub.breaking.add(where)
    with pytest.raises(PushError):
        push_checkpoint(folder, REPOSITORY_ID, build_card(), api=api(hub))
    assert hub.files(REPOSITORY_ID) == before
    hub.breaking.clear()
    push_checkpoint(folder, REPOSITORY_ID, build_card(), api=api(hub))
    assert hub.files(REPOSITORY_ID)["README.md"] != before["README.md"]


@pytest.mark.parametrize(
    "repo_id, token, message",
    [
        (REPOSITORY_ID, None, "No token of the Hub is stored here"),
        (REPOSITORY_ID, "hf_wrong", "does not accept the token"),
        ("others/model", TOKEN, "may not write to 'others/model'"),
        ("no//name", TOKEN, "no name of a repository"),
    ],
)
def test_refusals_are_one_sentence(hub, folder, card, repo_id, token, message):
    with pytest.raises(PushError, match=message):
        push_checkpoint(folder, repo_id, card, api=api(hub, token))
    assert not hub.repositories


def test_no_network_and_offline_mode(folder, card, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(PushError, match="could not be reached"):
        push_checkpoint(folder, REPOSITORY_ID, card, api=HfApi(endpoint="http://127.0.0.1:9", token=TOKEN))


# What is published -----------------------------------------------------------------------------------------------------


def test_only_plain_files_of_a_checkpoint_are_published(folder, tmp_path):
    assert all(path.suffix in (".safetensors", ".json", ".txt", ".md", ".jinja") for path in checkpoint_files(folder))
    for name in ("pytorch_model.bin", "modeling.py", "notes.pkl"):
        planted = tmp_path / name.replace(".", "_")
        planted.mkdir()
        (planted / "config.json").write_text("{}")
        (planted / name).write_bytes(b"cos\nsystem\n.")
        with pytest.raises(ValueError, match=name):
            checkpoint_files(planted)
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "config.json").write_text("{}")
    (linked / "secret.txt").symlink_to("/etc/hostname")
    (linked / "inside").mkdir()
    with pytest.raises(ValueError, match=r"inside, secret\.txt"):
        checkpoint_files(linked)
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        checkpoint_files(tmp_path)


# The card ----------------------------------------------------------------------------------------------------------------


def build_card(**changes):
    options = {"evaluation": EVALUATION, "run": RUN, **changes}
    return build_model_card(REPOSITORY_ID, tiny_config(), Cost(100, 20, 3000, 40), **options)


def test_the_card_says_what_a_reader_must_know(card):
    text = str(card)
    for part in ("Dice (per image)", "IoU (pooled)", "ab" * 32, "seed 3", "Seed 5", "c0ffee", "CC BY-NC-SA 4.0",
                 "| empty | 31.0 |", "GMAC", "GFLOP", "Not a medical device", "evaluate.py --dataset path/to/MoNuSeg",
                 f'from_pretrained("{REPOSITORY_ID}", prune_reconstruction=True)'):  # fmt: skip
        assert part in text, part
    assert "/somewhere" not in text and "../data" not in text
    data = card.data
    assert data.license == "apache-2.0" and data.library_name == "reclmis"
    named = {result.metric_name: result for result in data.eval_results}
    assert named.keys() == {"Dice (per image)", "IoU (per image)", "Dice (pooled)", "IoU (pooled)"}
    result = named["Dice (pooled)"]
    assert (result.metric_value, result.dataset_split, result.dataset_args["sha256"]) == (0.85, "validation", "ab" * 32)
    assert result.metric_args["seed"] == 3


def test_the_costs_on_the_card_are_those_of_inference(card, folder):
    whole = RecLMISModel.from_pretrained(folder)
    pruned = RecLMISModel.from_pretrained(folder, prune_reconstruction=True)
    text = str(card)
    assert f"{pruned.num_parameters() / 1e6:.1f} M to predict" in text
    assert f"{whole.num_parameters() / 1e6:.1f} M to train" in text


@pytest.mark.parametrize("name", ["dice", "mean_iou", "Dice"])
def test_a_figure_without_its_family_is_refused(name):
    metrics = {"right": {**FIGURES, name: 0.9}}
    with pytest.raises(ValueError, match=f"{name}_per_image.*{name}_pooled"):
        build_card(evaluation={**EVALUATION, "metrics": metrics})


@pytest.mark.parametrize("key", ["dataset", "split", "sha256", "seed", "command"])
def test_a_figure_without_its_circumstances_is_refused(key):
    with pytest.raises(ValueError, match=f"A card needs {key}"):
        build_card(evaluation={name: value for name, value in EVALUATION.items() if name != key})


def test_nothing_measured_is_said():
    text = str(build_card(evaluation=None, run=None))
    assert "Nothing was measured" in text and "The training was not recorded" in text and "model-index" not in text
    one_row = {**EVALUATION, "metrics": {"right": FIGURES}}
    assert "Whether the mask follows the note was not measured" in str(build_card(evaluation=one_row))


# The command, and back again -----------------------------------------------------------------------------------------


def test_the_command_writes_the_card_and_refuses_in_one_sentence(folder, tmp_path, capsys):
    evaluation = tmp_path / "evaluation.json"
    evaluation.write_text(json.dumps(EVALUATION))
    arguments = ["push", str(folder), REPOSITORY_ID, "--evaluation", str(evaluation)]
    assert main([*arguments, "--card-only", str(tmp_path / "card.md")]) == 0
    assert "Dice (per image)" in (tmp_path / "card.md").read_text()
    evaluation.write_text(json.dumps({**EVALUATION, "metrics": {"right": {"dice": 0.9}}}))
    capsys.readouterr()
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "does not say its family" in error and len(error.strip().splitlines()) == 1


PULL = """
import json, socket, sys
import torch
from reclmis import RecLMISModel, RecLMISProcessor
name, revision, inputs = sys.argv[1], sys.argv[2], torch.load(sys.argv[3])
model = RecLMISModel.from_pretrained(name, revision=revision, prune_reconstruction=True)
processor = RecLMISProcessor.from_pretrained(name, revision=revision)
with torch.no_grad():
    before = model(**inputs).logits

def refused(self, address):
    raise OSError(f"asked for {address}")

def again():
    model = RecLMISModel.from_pretrained(name, revision=revision, prune_reconstruction=True)
    RecLMISProcessor.from_pretrained(name, revision=revision)
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, before)

again()
# What was fetched is enough without a network.
import huggingface_hub
huggingface_hub.constants.HF_HUB_OFFLINE = True
socket.socket.connect = refused
again()
torch.save(before, sys.argv[4])
"""


def subprocess_environment(hub, home):
    return {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}  # fmt: skip


def test_pushed_by_the_command_pulled_at_a_revision_loaded_and_never_fetched_twice(hub, folder, tmp_path):
    environment = subprocess_environment(hub, tmp_path / "home")
    command = [sys.executable, "hub/push.py", str(folder), REPOSITORY_ID, "--revision", "v1"]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Published as" in done.stdout, done.stderr
    assert "model.safetensors" not in hub.files(REPOSITORY_ID, "main")
    names = {entry.path for entry in api(hub).list_repo_tree(REPOSITORY_ID, revision="v1")}
    assert {"config.json", "model.safetensors", "README.md", "tokenizer.json"} <= names

    inputs = make_inputs(vocabulary=300)
    torch.save(inputs, tmp_path / "inputs.pt")
    command = [sys.executable, "-c", PULL, REPOSITORY_ID, "v1", tmp_path / "inputs.pt", tmp_path / "logits.pt"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        expected = RecLMISModel.from_pretrained(folder)(**inputs).logits
    assert torch.equal(torch.load(tmp_path / "logits.pt"), expected)
    fetched = [line for line in hub.requests if line.startswith("GET") and line.endswith("model.safetensors")]
    assert len(fetched) == 1 and hub.requests[fetched[0]] == 1


def test_model_processor_and_dataset_push_themselves(hub, folder, tmp_path):
    """`push_to_hub` of transformers and datasets, as their users call it."""
    script = f"""
import sys
from datasets import load_dataset
from reclmis import RecLMISModel, RecLMISProcessor
from reclmis.data import load_dataset_by_name
RecLMISModel.from_pretrained({str(folder)!r}).push_to_hub({REPOSITORY_ID!r})
RecLMISProcessor.from_pretrained({str(folder)!r}).push_to_hub({REPOSITORY_ID!r})
made = load_dataset_by_name("synthetic", num_train=3, num_validation=2, seed=0, size=32)
made.push_to_hub("org/notes")
back = load_dataset("org/notes")
for split in made:
    assert back[split].features == made[split].features, back[split].features
    assert back[split]["note"] == made[split]["note"] and back[split]["id"] == made[split]["id"]
    for ours, theirs in zip(made[split], back[split]):
        assert ours["image"].tobytes() == theirs["image"].tobytes()
        assert ours["mask"].tobytes() == theirs["mask"].tobytes()
by_name = load_dataset_by_name("hub:org/notes", splits=["train"])
assert by_name["train"]["note"] == made["train"]["note"] and list(by_name) == ["train"]
streamed = load_dataset_by_name("hub:org/notes", splits=["validation"], streaming=True)["validation"]
assert [row["note"] for row in streamed] == made["validation"]["note"]
assert [row["image"].tobytes() for row in streamed] == [row["image"].tobytes() for row in made["validation"]]
"""
    environment = subprocess_environment(hub, tmp_path / "home")
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    files = hub.files(REPOSITORY_ID)
    assert {"config.json", "model.safetensors", "processor_config.json", "tokenizer.json"} <= files.keys()
    weights = load_tensors(files["model.safetensors"])
    assert all(torch.equal(weights[k], v) for k, v in RecLMISModel.from_pretrained(folder).state_dict().items())
    commits = [line for line in hub.requests.elements() if f"{REPOSITORY_ID}/commit/" in line]
    assert len(commits) == 2


REMOTE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == "reclmis":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
if sys.argv[2] == "missing":
    sys.meta_path.insert(0, Absent())
else:
    import reclmis
from transformers import AutoModel, AutoProcessor
model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
processor = AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
print(type(model).__name__, type(processor).__name__)
"""


def test_without_the_package_the_error_names_what_to_install(hub, folder, card, tmp_path):
    push_checkpoint(folder, REPOSITORY_ID, card, api=api(hub), remote_code=True)
    published = tmp_path / "published"
    published.mkdir()
    for name, content in hub.files(REPOSITORY_ID).items():
        (published / name).write_bytes(content)
    more = {path.name for path in published.iterdir()} - {path.name for path in folder.iterdir()}
    assert more == {"README.md", "remote_code.py"}
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    answers = {}
    for state in ("missing", "installed"):
        command = [sys.executable, "-c", REMOTE, str(published), state]
        answers[state] = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert answers["missing"].returncode != 0 and "pip install reclmis" in answers["missing"].stderr
    assert answers["installed"].stdout.split() == ["RecLMISModel", "RecLMISProcessor"], answers["installed"].stderr
