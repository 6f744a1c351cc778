"""The training example, for real, on a few tiny images."""

import errno
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from reclmis import RecLMISConfig, RecLMISModel, RecLMISProcessor
from reclmis.losses import NonFiniteLossError, total_loss
from reclmis.training.checkpoint import read_record
from tests.conftest import REPOSITORY
from tests.examples.runs import OPTIONS, SETTINGS, run


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    run(folder)
    return folder


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
    resumed = run(tmp_path, "--epochs", "3", "--resume", check=False)
    assert resumed.returncode != 0 and "counts its best by iou_pooled" in resumed.stderr


def test_compiled_training_computes_the_same(straight, tmp_path):
    run(tmp_path, "--epochs", "1", "--compile", "aot_eager")
    rows = [json.loads((folder / "metrics.json").read_text())[0] for folder in (tmp_path, straight)]
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


def test_a_finished_run_is_not_repeated(straight):
    again = run(straight, "--resume", check=False)
    assert again.returncode != 0 and "has all 2 epochs already" in again.stderr


def test_two_processes(tmp_path):
    """Without find_unused_parameters, an odd number of images, a frozen encoder whose notes are cached."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = [*OPTIONS, "text_frozen=true", "--epochs", "1", "--output_dir", str(tmp_path)]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_addr", "127.0.0.1",
               "--master_port", str(port), "examples/train.py", *options]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    history = json.loads((tmp_path / "metrics.json").read_text())
    # int(9 / 4) = 2 validation images, shared out between two processes
    assert history[0]["validation/images"] == 2
    assert json.loads((tmp_path / "run.json").read_text())["processes"] == 2


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
    for text, message in (("epoch: 3", "no 'epoch'"), ("- 3", "must map"), ("preset: huge", "choose from tiny"),
                          ("a: [", "cannot be read")):  # fmt: skip
        path.write_text(text)
        with pytest.raises(SystemExit):
            example.parse_arguments(base)
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "examples" / "accelerate").glob("*.yaml")), ids=lambda path: path.stem
)
def test_accelerate_reads_the_launch_configurations(path):
    from accelerate.commands.config.config_args import load_config_from_file

    assert load_config_from_file(str(path)).num_processes >= 1


def test_a_loss_that_breaks_names_its_term_and_its_samples(example):
    with (
        pytest.raises(NonFiniteLossError, match=r"contrastive = nan.*The batch was a, b"),
        example.named({"ids": ["a", "b"]}),
    ):
        total_loss({"contrastive": torch.tensor(float("nan"))}, {"contrastive": 1.0})


@pytest.mark.parametrize(
    ("error", "message"),
    [(KeyboardInterrupt(), "Interrupted"), (OSError(errno.ENOSPC, "No space left on device"), "No space left")],
)
def test_what_stops_a_run_says_what_is_left(example, straight, tmp_path, error, message):
    for folder, left in ((straight, "--resume goes on"), (tmp_path, "No epoch")):
        with pytest.raises(SystemExit, match=f"{message}.*{left}"), example.kept(folder):
            raise error
    with pytest.raises(OSError, match="broken pipe"), example.kept(tmp_path):
        raise OSError(errno.EPIPE, "broken pipe")


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


def test_a_tokenizer_is_learned_from_all_notes_unless_they_stream(example):
    from datasets import Dataset

    rows = Dataset.from_dict({"note": [str(number) for number in range(20_003)]})
    assert len(example.notes_of(rows, streaming=False)) == 20_003
    assert example.notes_of(rows.to_iterable_dataset(), streaming=True) == [str(number) for number in range(20_000)]
