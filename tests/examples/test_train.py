"""The training example, for real, on a few tiny images."""

import importlib.util
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from reclmis import RecLMISConfig, RecLMISModel, RecLMISProcessor
from reclmis.data import Collator
from reclmis.losses import NonFiniteLossError, total_loss
from reclmis.training import latest_complete, load_training_state
from reclmis.training.checkpoint import STATE, read_record
from tests.conftest import REPOSITORY
from tests.examples.runs import OPTIONS, SETTINGS, run, started


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    run(folder)
    return folder


NOTE = "upper left lung"


def test_leaves_models_that_load_and_a_record(straight):
    for name in ("best", "last"):
        model = RecLMISModel.from_pretrained(straight / name, prune_reconstruction=True)
        processor = RecLMISProcessor.from_pretrained(straight / name)
        image = torch.zeros(3, 40, 30, dtype=torch.uint8)
        assert model(**processor(images=image, text="left lung", return_tensors="pt")).logits.isfinite().all()
    history = json.loads((straight / "metrics.json").read_text())
    assert [row["epoch"] for row in history] == [1, 2]
    assert {"train/loss", "train/contrastive", "validation/dice_per_image", "validation/iou_pooled"} <= set(history[0])
    record = json.loads((straight / "run.json").read_text())
    assert record["seed"] == 0 and record["versions"]["torch"]
    assert len(record["data"]["train"]["sha256"]) == 64 and record["data"]["train"]["images"] == 9
    for name in ("best", "last"):
        manifest = json.loads((straight / name / "data_manifest.json").read_text())
        assert (
            len(manifest["train"]["samples"]) == 9 and manifest["train"]["sha256"] == record["data"]["train"]["sha256"]
        )


def test_resumed_equals_uninterrupted_bit_for_bit(straight, tmp_path):
    """Nine images in batches of four: the last batch is a single image. Dropout, masks and augmentation all draw."""
    stopped = run(tmp_path, "--max_minutes", "0")
    assert "stopping after epoch 1" in stopped.stdout
    assert len(json.loads((tmp_path / "metrics.json").read_text())) == 1
    run(tmp_path, "--resume")
    ours, theirs = (load_file(folder / "last" / "model.safetensors") for folder in (tmp_path, straight))
    assert ours.keys() == theirs.keys()
    different = [key for key in ours if not torch.equal(ours[key], theirs[key])]
    assert not different, different
    for key in ("train/loss", "validation/dice_per_image"):
        rows = [json.loads((folder / "metrics.json").read_text())[-1][key] for folder in (tmp_path, straight)]
        assert rows[0] == rows[1]


def test_workers_change_nothing_not_even_across_a_resumed_run(straight, tmp_path):
    run(tmp_path, "--workers", "2", "--max_minutes", "0")
    run(tmp_path, "--workers", "2", "--resume")
    ours, theirs = (load_file(folder / "last" / "model.safetensors") for folder in (tmp_path, straight))
    assert not [key for key in theirs if not torch.equal(ours[key], theirs[key])]


def test_stops_early_when_nothing_improves(tmp_path):
    stopped = run(tmp_path, "--epochs", "9", "--learning_rate", "0", "--patience", "2")
    assert "No better dice_per_image for 2 epochs" in stopped.stdout
    # Batch norm's running statistics move at any learning rate, so the best epoch need not be the first.
    history = json.loads((tmp_path / "metrics.json").read_text())
    scores = [row["validation/dice_per_image"] for row in history]
    assert len(scores) < 9 and max(scores[-2:]) <= max(scores[:-2])


def test_keeps_the_newest_shows_masks_and_counts_the_best_by_the_metric_asked_for(tmp_path):
    options = ["--keep", "1", "--best_metric", "iou_pooled", "--tracker", "tensorboard", "--pictures", "2",
               "--absent_share", "0.5", "--preset", "tiny", "--set", *OPTIONS[OPTIONS.index("--set") + 1 :],
               "note_dropout=0.3", "presence=true"]  # fmt: skip
    run(tmp_path, *options)
    assert [path.name for path in (tmp_path / "epochs").iterdir()] == ["00002"]
    model = RecLMISModel.from_pretrained(tmp_path / "epochs" / "00002")
    assert model.config.note_dropout == 0.3 and RecLMISProcessor.from_pretrained(tmp_path / "best").null_note
    history = json.loads((tmp_path / "metrics.json").read_text())
    assert "train/presence" in history[0]
    best = read_record(tmp_path / "best")
    assert best["best_metric"] == "iou_pooled"
    assert best["metrics"]["iou_pooled"] == max(row["validation/iou_pooled"] for row in history)
    (events,) = tmp_path.glob("logs/**/events.*")
    accumulated = EventAccumulator(str(events.parent), size_guidance={"images": 0})
    accumulated.Reload()
    assert {event.step for event in accumulated.Images("validation/masks")} == {1, 2}


def test_compiled_training_computes_the_same(tmp_path):
    short = ("--epochs", "1", "--limit_train", "8")
    run(tmp_path / "eager", *short)
    run(tmp_path / "compiled", *short, "--compile", "aot_eager")
    rows = [json.loads((tmp_path / name / "metrics.json").read_text())[0] for name in ("compiled", "eager")]
    assert rows[0]["train/dice"] == pytest.approx(rows[1]["train/dice"], rel=1e-3)


def test_mixed_precision_computes_in_it_and_keeps_weights_and_losses_wide(tmp_path):
    run(tmp_path, "--epochs", "1", "--limit_train", "4", "--mixed_precision", "bf16")
    weights = load_file(tmp_path / "last" / "model.safetensors")
    assert {value.dtype for value in weights.values()} <= {torch.float32, torch.int64}
    (row,) = json.loads((tmp_path / "metrics.json").read_text())
    run(tmp_path / "float32", "--epochs", "1", "--limit_train", "4")
    (wide,) = json.loads((tmp_path / "float32" / "metrics.json").read_text())
    assert row["train/dice"] == pytest.approx(wide["train/dice"], rel=0.02)
    assert row["train/loss"] != wide["train/loss"]


def test_a_run_killed_around_its_last_save_is_finished_and_no_finished_run_is_repeated(straight, tmp_path):
    """Killed between the exchanges of names, and before the row of the last epoch was written."""
    folder = shutil.copytree(straight, tmp_path / "run")
    (folder / "last").rename(folder / ".last.new")
    history = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(history[:1]))
    again = run(folder, "--resume")
    assert "Nothing to do" in again.stdout and "has all 2 epochs" in again.stdout
    assert json.loads((folder / "metrics.json").read_text()) == history
    assert read_record(folder / "last")["epoch"] == 2 and not (folder / ".last.new").exists()
    assert load_file(folder / "last" / "model.safetensors").keys()


def test_a_run_is_neither_overwritten_unasked_nor_gone_on_with_otherwise(straight, tmp_path):
    folder = shutil.copytree(straight, tmp_path / "run")
    before = read_record(folder / "last")
    refused = run(folder, check=False)
    assert refused.returncode == 1 and "holds a run already (best, last)" in refused.stderr
    other = run(folder, "--resume", "--learning_rate", "0.1", "--batch_size", "2", "--num_synthetic", "10", check=False)
    assert other.returncode == 1 and "Traceback" not in other.stderr
    for change in ("learning_rate 0.0003, not 0.1", "batch_size 4, not 2", "num_synthetic 9, not 10"):
        assert change in other.stderr
    assert read_record(folder / "last") == before
    run(folder, "--overwrite", "--epochs", "1", "--keep", "1")
    assert read_record(folder / "last")["epoch"] == 1
    assert [path.name for path in (folder / "epochs").iterdir()] == ["00001"]


def test_two_processes(example, tmp_path):
    """Launched by Accelerate on CPUs. Without find_unused_parameters, an odd number of images, a frozen encoder whose notes
    are cached, averaged weights, and a time that is up. What they validated together is the model that was saved."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = [*OPTIONS, "text_frozen=true", "--epochs", "3", "--max_minutes", "0", "--ema", "0.9",
               "--num_synthetic", "27", "--learning_rate", "1e-2"]  # fmt: skip
    launch = ["--config_file", "examples/accelerate/cpu-two-processes.yaml", "--main_process_port", str(port)]
    command = [sys.executable, "-m", "accelerate.commands.launch", *launch, "examples/train.py", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run([*command, "--output_dir", str(tmp_path)], cwd=REPOSITORY, env=environment, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (row,) = json.loads((tmp_path / "metrics.json").read_text())
    # int(27 / 4) = 6 validation images, shared out between two processes
    assert row["validation/images"] == 6
    assert json.loads((tmp_path / "run.json").read_text())["processes"] == 2
    assert "stopping after epoch 1" in done.stdout
    args = example.parse_arguments([*options, "--output_dir", str(tmp_path)])
    model, processor = (part.from_pretrained(tmp_path / "best") for part in (RecLMISModel, RecLMISProcessor))
    dataset = example.build_dataset(args, example.build_datasets(args)["validation"], model.config, "validation", None)
    loader = DataLoader(dataset, collate_fn=Collator(processor))
    metrics, _ = example.validate(
        model, loader, lambda batch: {k: batch[k] for k in ("input_ids", "attention_mask")}, 1
    )
    assert metrics == pytest.approx({name: row[f"validation/{name}"] for name in metrics}, abs=1e-9)


def test_a_launcher_that_starts_one_process_of_two_is_told(tmp_path):
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1",
               "--mixed_precision", "no", "--dynamo_backend", "no", "examples/train.py", *OPTIONS]  # fmt: skip
    environment = {**os.environ, **SETTINGS}
    done = subprocess.run([*command, "--output_dir", str(tmp_path)], cwd=REPOSITORY, env=environment, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode != 0 and "accelerate launch was asked for several" in done.stderr
    assert not list(tmp_path.iterdir())


def test_every_option_of_the_demo_and_the_benchmarks_exists():
    spec = importlib.util.spec_from_file_location("train_example", REPOSITORY / "examples" / "train.py")
    train = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(train)
    spec = importlib.util.spec_from_file_location("reproduce", REPOSITORY / "benchmarks" / "reproduce.py")
    reproduce = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reproduce)
    for runs in reproduce.EXPERIMENTS.values():
        for options in runs.values():
            flags = reproduce.flags_of(options)
            parsed = train.parse_arguments(["--dataset", "x", "--output_dir", "y", *flags])
            assert parsed.epochs == options["epochs"]


@pytest.fixture(scope="module")
def example():
    specification = importlib.util.spec_from_file_location("train_example", REPOSITORY / "examples" / "train.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


RECIPES = sorted(path.name for path in (REPOSITORY / "examples" / "configs").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_are_options_that_build_a_model(example, recipe, tmp_path):
    path = REPOSITORY / "examples" / "configs" / recipe
    args = example.parse_arguments(["--config", str(path), "--dataset", "data", "--output_dir", str(tmp_path)])
    config = getattr(RecLMISConfig, args.preset)(image_size=args.image_size, **example.parsed(args.set))
    config.validate()
    with torch.device("meta"):
        model = RecLMISModel(config)
    steps = example.optimizer_steps(20, args.gradient_accumulation)
    optimizer = example.build_optimizer(model, args.learning_rate, name=args.optimizer, weight_decay=args.weight_decay)
    schedule = example.build_schedule(
        optimizer, args.schedule, total_steps=args.epochs * steps, warmup_steps=args.warmup_steps, steps_per_epoch=steps,
        final_ratio=args.final_ratio,
    )  # fmt: skip
    assert schedule.get_last_lr()[0] <= args.learning_rate
    assert f"examples/configs/{recipe}" in path.read_text().splitlines()[1]


def test_one_note_for_all_and_contradicting_notes_exclude_each_other(example, capsys):
    with pytest.raises(SystemExit):
        example.parse_arguments([*OPTIONS, "--output_dir", "x", "--absent_share", "0.2", "--note_mode", "constant"])
    assert "leave one of them out" in capsys.readouterr().err


def test_the_command_line_wins_over_a_recipe_and_mistakes_are_named(example, tmp_path, capsys):
    path = tmp_path / "recipe.yaml"
    path.write_text("epochs: 3\nbatch_size: 5\nset: {dropout: 0.2}\n")
    base = ["--config", str(path), "--dataset", "d", "--output_dir", "o"]
    args = example.parse_arguments([*base, "--epochs", "7"])
    assert (args.epochs, args.batch_size, args.set) == (7, 5, ["dropout=0.2"])
    assert example.parse_arguments([f"--config={path}", "--dataset", "d", "--output_dir", "o"]).batch_size == 5
    args = example.parse_arguments([*base, "--set", "note_dropout=0.1"])
    assert example.parsed(args.set) == {"dropout": 0.2, "note_dropout": 0.1}
    args = example.parse_arguments([*base, "--set", "dropout=0.3"])
    assert example.parsed(args.set) == {"dropout": 0.3}
    mistakes = {"epoch: 3": "no 'epoch'", "- 3": "must map", "preset: huge": "choose from tiny", "a: [": "cannot be read",
                "set: [1]": "set must map", "epochs: [1]": "epochs is [1]", "epochs: 0": "epochs is 0",
                 "set: {dropuot: 1}": "'dropout'"}  # fmt: skip
    for text, message in mistakes.items():
        path.write_text(text)
        with pytest.raises(SystemExit):
            example.parse_arguments(base)
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--set", "hidden_siz=3"), "no such field. Did you mean 'hidden_size'?"),
        (("--set", "interaction=none"), "NAME=JSON"),
        (("--overlap", "0.5"), "--overlap is of tiles"),
        (("--compile", "nowhere"), "aot_eager"),
        *(((f"--{name}", value), f"--{name}") for name, value in (
            ("tile", "0"), ("epochs", "0"), ("batch_size", "0"), ("workers", "-1"), ("ema", "1.5"), ("absent_share", "2"),
            ("limit_train", "0"), ("limit_validation", "0"), ("gradient_accumulation", "0"), ("keep", "-1"))),
    ],
)  # fmt: skip
def test_options_that_mean_nothing_are_refused(example, options, message, capsys):
    with pytest.raises(SystemExit):
        example.parse_arguments([*OPTIONS, "--output_dir", "x", *options])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--dataset", "/nowhere"), "/nowhere"),
        (("--visual_backbone", "nowhere"), "'nowhere'"),
        (("--data", "nonsense=1"), "nonsense"),
        (("--init", "/nowhere"), "/nowhere"),
    ],
)
def test_what_is_not_there_is_told_in_a_sentence(example, options, message):
    with pytest.raises(SystemExit) as ended, example.requested():
        own = OPTIONS[: OPTIONS.index("--set")] if "--init" in options else OPTIONS
        args = example.parse_arguments([*own, "--output_dir", "x", *options])
        example.build_model(args, [NOTE] * 2)
        example.build_datasets(args)
    assert message in str(ended.value) and "\n" not in str(ended.value)


def launched(folder, *fields, **environment):
    """The script as a launcher starts it, with these fields of the configuration more; it also says for how many batches
    notes came from the cache."""
    code = (
        "import runpy, sys\nfrom reclmis.training import NoteCache\n"
        "asked, real = [], NoteCache.__call__\n"
        "def call(self, notes):\n    asked.append(len(notes))\n    return real(self, notes)\n"
        "NoteCache.__call__ = call\nsys.argv[1:] = sys.argv[1:]\n"
        "runpy.run_path('examples/train.py', run_name='__main__')\nprint('cached', len(asked))"
    )
    command = [sys.executable, "-c", code, *OPTIONS, *fields, "--output_dir", str(folder)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, **SETTINGS, **environment},
        timeout=300,
    )


def test_frozen_notes_come_from_the_cache_and_the_launchers_precision_counts(tmp_path):
    run = launched(tmp_path, "text_frozen=true", ACCELERATE_MIXED_PRECISION="bf16")
    # Two epochs of three batches for training and one for validation.
    assert "cached 8" in run.stdout, run.stderr
    assert json.loads((tmp_path / "run.json").read_text())["arguments"]["mixed_precision"] == "bf16"


def test_a_frozen_encoders_run_is_resumed_bit_for_bit(tmp_path):
    """The cache of the second session begins empty."""
    fields = ("--set", *OPTIONS[OPTIONS.index("--set") + 1 :], "text_frozen=true")
    run(tmp_path / "whole", *fields)
    run(tmp_path / "parts", *fields, "--max_minutes", "0")
    run(tmp_path / "parts", *fields, "--resume")
    first, second = (load_file(tmp_path / name / "last" / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_launcher_that_accumulates_otherwise_is_told(tmp_path):
    run = launched(tmp_path, ACCELERATE_GRADIENT_ACCUMULATION_STEPS="3")
    assert "The launcher accumulates 3 steps, --gradient_accumulation says 1" in run.stderr and run.returncode == 1
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "examples" / "accelerate").glob("*.yaml")), ids=lambda path: path.stem
)
def test_accelerate_reads_the_launch_configurations(path):
    from accelerate.commands.config.config_args import load_config_from_file

    assert load_config_from_file(str(path)).num_processes >= 1


@pytest.mark.parametrize(
    ("pixels", "whose"), [([1.0, 1.0], "The batch was a, b"), ([1.0, float("nan")], "Pixels that are no numbers: b")]
)
def test_a_loss_that_breaks_names_its_term_and_its_samples(example, pixels, whose):
    batch = {"ids": ["a", "b"], "pixel_values": torch.tensor(pixels)[:, None, None, None].expand(2, 3, 4, 4)}
    with pytest.raises(NonFiniteLossError, match=rf"contrastive = nan.*{whose}\.$"), example.named(batch):
        total_loss({"contrastive": torch.tensor(float("nan"))}, {"contrastive": 1.0})


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """One epoch of two, on four images: a single step each."""
    folder = tmp_path_factory.mktemp("stopped")
    run(folder, "--limit_train", "4", "--max_minutes", "0")
    return folder


def epoch_that_is_left(folder):
    """Of the newest checkpoint, whose model and state load."""
    checkpoint = latest_complete(folder)
    RecLMISModel.from_pretrained(checkpoint)
    load_training_state(checkpoint)
    return read_record(checkpoint)["epoch"]


@pytest.mark.parametrize("size", [9_000, 100_000, 400_000], ids=["tokenizer", "weights", "training state"])
def test_a_full_disk_ends_a_run_in_a_sentence_and_leaves_the_epoch_before(stopped, tmp_path, size):
    """Files cannot grow beyond a size, so that real writes fail, by turns in Rust, in safetensors and in PyTorch."""
    folder = shutil.copytree(stopped, tmp_path / "run")
    full = run(folder, "--limit_train", "4", "--resume", check=False, file_size=size)
    assert full.returncode == 1 and "Traceback" not in full.stderr
    assert f"Nothing can be written to {folder}: [Errno 27] File too large" in full.stderr
    assert "--resume goes on from there" in full.stderr
    assert epoch_that_is_left(folder) == 1 and not list(folder.glob(".*"))


def test_a_folder_that_is_a_file_is_told(tmp_path):
    (tmp_path / "taken").write_text("")
    refused = run(tmp_path / "taken", "--limit_train", "4", check=False)
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert "Nothing can be written to" in refused.stderr and "No epoch was saved." in refused.stderr


@pytest.mark.parametrize(
    ("rate", "message"), [(1e39, "After epoch 2, "), (1e30, "The logits of the validation images ")]
)
def test_weights_that_break_in_the_last_step_of_an_epoch_are_not_saved(stopped, tmp_path, rate, message):
    """The step reports its own loss, which is sound. A rate of 1e39 makes weights infinite, one of 1e30 only answers."""
    folder = shutil.copytree(stopped, tmp_path / "run")
    state = load_training_state(folder / "last")
    for group in state["optimizer"]["param_groups"]:
        group["lr"] = rate
    torch.save(state, folder / "last" / STATE)
    before = (folder / "best" / "model.safetensors").read_bytes()
    broken = run(folder, "--limit_train", "4", "--resume", check=False)
    assert broken.returncode == 1 and "Traceback" not in broken.stderr
    assert message in broken.stderr and "holds epoch 1, which is sound" in broken.stderr
    assert epoch_that_is_left(folder) == 1 and (folder / "best" / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("more", [(), ("--compile", "aot_eager")], ids=["eager", "compiled"])
def test_a_loss_that_explodes_ends_in_a_sentence_that_names_it(tmp_path, more):
    broken = run(tmp_path, "--learning_rate", "1e30", *more, check=False)
    assert broken.returncode == 1 and "Traceback" not in broken.stderr
    assert "Loss term(s) not finite" in broken.stderr and "The batch was" in broken.stderr
    assert "No epoch was saved." in broken.stderr and latest_complete(tmp_path) is None


def children_of(pid):
    for task in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = task.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if fields[1] == str(pid):
            yield int(task.parent.name)


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="finds the worker in /proc, which is Linux's")
def test_a_killed_worker_of_the_loader_is_named_and_leaves_a_checkpoint(tmp_path):
    with started(tmp_path, "--workers", "1", "--epochs", "2000") as process:
        wait_for(tmp_path / "metrics.json", process)
        worker = max(children_of(process.pid))  # of validation, or of training: both are asked again and again
        os.kill(worker, signal.SIGKILL)
        process.join(120)
        _, stderr = process.said()
        assert process.exitcode == 1
    assert "DataLoader worker (pid" in stderr and str(worker) in stderr, stderr[-1000:]
    assert "--resume goes on from there" in stderr and "Traceback" not in stderr
    assert epoch_that_is_left(tmp_path) >= 1


def wait_for(path, process):
    deadline = time.monotonic() + 120
    while not path.is_file() and process.exitcode is None and time.monotonic() < deadline:
        time.sleep(0.02)


def test_a_killed_run_goes_on_bit_for_bit(tmp_path):
    """SIGKILL at some moment after the first epoch; averaged weights, accumulation, clipped gradients."""
    options = ["--epochs", "4", "--ema", "0.9", "--gradient_accumulation", "2", "--grad_clip", "1.0"]
    run(tmp_path / "straight", *options)
    with started(tmp_path / "killed", *options) as process:
        wait_for(tmp_path / "killed" / "metrics.json", process)
        time.sleep(random.Random(0).uniform(0, 0.3))
        process.kill()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    done = epoch_that_is_left(tmp_path / "killed")
    run(tmp_path / "killed", *options, "--resume")
    histories = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("straight", "killed")]
    assert len(histories[1]) == 4
    assert sorted(row["seconds"] for row in histories[1]) == [row["seconds"] for row in histories[1]]
    for row in (*histories[0], *histories[1]):
        del row["seconds"]
    assert histories[0] == histories[1]
    for name in ("best", "last"):
        ours, theirs = (load_file(tmp_path / run / name / "model.safetensors") for run in ("killed", "straight"))
        assert ours.keys() == theirs.keys() and not [key for key in ours if not torch.equal(ours[key], theirs[key])]
    record = json.loads((tmp_path / "killed" / "run.json").read_text())
    assert [session["after_epoch"] for session in record["sessions"]] == [0, done]
    assert "--resume" not in record["command"] and "--resume" in record["sessions"][1]["command"]


def test_an_interrupt_leaves_a_checkpoint_and_a_sentence(tmp_path):
    command = [sys.executable, "examples/train.py", *OPTIONS, "--epochs", "2000", "--output_dir", str(tmp_path)]
    environment = {**os.environ, **SETTINGS}
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        # A shell's background jobs, and all their children, ignore the signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "metrics.json").is_file() and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "Interrupted." in stderr and "--resume goes on from there" in stderr and "Traceback" not in stderr
    RecLMISModel.from_pretrained(tmp_path / "last")


def test_trains_on_a_stream_and_resumes_it(tmp_path):
    """Shuffled, augmented, and bit for bit as uninterrupted."""
    from reclmis.data import load_dataset_by_name, write_parquet

    write_parquet(load_dataset_by_name("synthetic", num_train=9, num_validation=3, size=32), tmp_path / "data", 3)
    options = ["--dataset", str(tmp_path / "data"), "--streaming", "--steps_per_epoch", "2", "--shuffle_buffer", "4"]
    run(tmp_path / "straight", *options)
    run(tmp_path / "stopped", *options, "--max_minutes", "0")
    run(tmp_path / "stopped", *options, "--resume")
    ours, theirs = (load_file(tmp_path / name / "last" / "model.safetensors") for name in ("straight", "stopped"))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    record = json.loads((tmp_path / "straight" / "run.json").read_text())
    assert record["data"]["train"]["images"] == 9
    short = run(tmp_path / "short", *options, "--steps_per_epoch", "5", check=False)
    assert short.returncode and "ended after 3 batches" in short.stderr


def test_trains_on_tiles_and_resumes(example, tmp_path, capsys):
    tiles = ("--tile", "16")
    whole = run(tmp_path / "whole", *tiles)
    # Nine images of 32 pixels are 36 tiles, in batches of four.
    assert "9/9" in whole.stderr
    run(tmp_path / "parts", *tiles, "--max_minutes", "0")
    run(tmp_path / "parts", *tiles, "--resume")
    first, second = (load_file(tmp_path / name / "last" / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    with pytest.raises(SystemExit):
        example.main([*OPTIONS, "--output_dir", str(tmp_path), "--tile", "16", "--streaming", "--steps_per_epoch", "1"])
    assert "--tile" in capsys.readouterr().err


def test_a_tokenizer_is_learned_from_all_notes_unless_they_stream(example):
    from datasets import Dataset

    rows = Dataset.from_dict({"note": [str(number) for number in range(20_003)]})
    assert len(example.notes_of(rows, streaming=False)) == 20_003
    assert example.notes_of(rows.to_iterable_dataset(), streaming=True) == [str(number) for number in range(20_000)]
