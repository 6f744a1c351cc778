"""Trains RecLMIS. One page on Accelerate: read it, copy it, change it.

    accelerate launch examples/train.py --dataset path/to/QaTa-COV19 --preset small --output_dir runs/qata

`--dataset` is whatever `reclmis.data.load_dataset_by_name` takes. The best and the last checkpoint land in `best/` and
`last/` of the output folder; both load with `from_pretrained`. `--resume` goes on from `last/` exactly where it was saved,
with the same options; a folder that holds a run is written to neither without `--resume` nor without `--overwrite`.

Several processes: `accelerate launch --num_processes 8` on GPUs, others in `examples/accelerate`. On CPUs, two of

    accelerate launch --config_file examples/accelerate/cpu-two-processes.yaml examples/train.py ...
    torchrun --nproc_per_node 2 examples/train.py ...

as `accelerate launch --cpu --num_processes 2` starts one process, unless it is given MPI.
"""

import argparse
import json
import math
import time
from contextlib import contextmanager
from dataclasses import fields
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, DistributedType, ProjectConfiguration, set_seed
from PIL import Image
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from reclmis import RecLMISConfig, RecLMISModel, RecLMISProcessor
from reclmis.commands.predict import positive_integer, probability, share
from reclmis.data import (
    Augmentation,
    Collator,
    NotedSegmentationDataset,
    NotedSegmentationStream,
    build_manifest,
    load_dataset_by_name,
)
from reclmis.data.manifest import summary
from reclmis.evaluation.metrics import SegmentationMeter
from reclmis.evaluation.text_dependence import CONSTANT_NOTE
from reclmis.losses import NonFiniteLossError, finite_in_graphs
from reclmis.training import (
    NoteCache,
    build_optimizer,
    build_schedule,
    keep_newest,
    load_training_state,
    save_checkpoint,
)
from reclmis.training.checkpoint import read_record
from reclmis.training.endings import kept, requested
from reclmis.training.finite import NonFiniteModelError, check_finite, shortened
from reclmis.training.optim import accumulation_weights, optimizer_steps
from reclmis.training.processes import check_launch, from_all, from_main, means, share_buffers
from reclmis.training.record import run_record
from reclmis.training.run_folder import TRACKED, refuse_occupied, resumable, tidy, write_metrics, write_run
from reclmis.training.sharding import is_sharded, load_whole_state, whole_state
from reclmis.visualization import agreement


def parse_arguments(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, help="YAML file of options; see examples/configs. The command line wins")
    data = parser.add_argument_group("data")
    data.add_argument("--dataset", help="folder, table, source:argument, hub:org/name, or 'synthetic'")
    data.add_argument("--data", nargs="*", default=[], metavar="OPTION=JSON",
                      help="options of the source, such as num_labels=3 or missing_notes='\"from_masks\"'")  # fmt: skip
    data.add_argument("--cache_gigabytes", type=float, default=4.0,
                      help="memory for decoded images, with --workers 0")  # fmt: skip
    data.add_argument(
        "--num_synthetic", type=positive_integer, default=400, help="training images of the synthetic set"
    )
    data.add_argument("--limit_train", type=positive_integer, help="use only the first images")
    data.add_argument("--limit_validation", type=positive_integer)
    data.add_argument("--augment", choices=("none", "paper", "strong"), default="paper")
    data.add_argument("--note_mode", choices=("right", "constant"), default="right",
                      help="'constant' replaces every note by one sentence, as a control")  # fmt: skip
    data.add_argument("--absent_share", type=probability, default=0.0,
                      help="share of training samples with a note of which the image shows nothing")  # fmt: skip
    data.add_argument("--normalise_notes", action="store_true",
                      help="train on each note's canonical sentence; see reclmis.notes.normalise_note")  # fmt: skip
    data.add_argument("--normalize_per_image", action="store_true",
                      help="bring every image to mean 0 and deviation 1, where stain or exposure differ")  # fmt: skip
    data.add_argument("--tile", type=positive_integer,
                      help="cut large images into squares of this side, before they are resized; in validation, too, each "
                      "counts as an image, and `reclmis evaluate --tile` joins them")  # fmt: skip
    data.add_argument("--overlap", type=share, help="of a training tile, that its neighbour covers too; 0 by default")
    data.add_argument("--workers", type=natural_number, default=0)
    data.add_argument("--streaming", action="store_true", help="hold no list of the data: for sets of any size")
    data.add_argument(
        "--steps_per_epoch", type=positive_integer, help="batches per process and epoch; a stream has no length"
    )
    data.add_argument("--shuffle_buffer", type=natural_number, default=1000, help="samples from which a stream draws")
    model = parser.add_argument_group("model")
    model.add_argument("--preset", choices=("tiny", "small", "base", "paper", "release"), default="small")
    model.add_argument("--image_size", type=positive_integer, help="224 by default, or as --init sees")
    model.add_argument("--visual_backbone")
    model.add_argument("--text_encoder")
    model.add_argument("--set", nargs="*", default=[], metavar="FIELD=JSON", help="any field of RecLMISConfig")
    model.add_argument("--init", help="checkpoint to fine-tune, in place of --preset")
    train = parser.add_argument_group("training")
    train.add_argument(
        "--epochs", type=positive_integer, default=20, help="of the whole run; the cosine schedule ends with them"
    )
    train.add_argument("--max_minutes", type=float,
                       help="stop after the epoch in which this time is up, counted anew after --resume")  # fmt: skip
    train.add_argument("--batch_size", type=positive_integer, default=8, help="images per process and step")
    train.add_argument("--gradient_accumulation", type=positive_integer, default=1)
    train.add_argument("--optimizer", choices=("adam", "adamw"), default="adam")
    train.add_argument("--learning_rate", type=float, default=3e-4)
    train.add_argument("--backbone_learning_rate", type=float, help="of the visual backbone, where it differs")
    train.add_argument("--text_learning_rate", type=float, help="of the text encoder, where it differs")
    train.add_argument("--weight_decay", type=float, default=0.0)
    train.add_argument("--schedule", choices=("cosine", "restarts", "constant"), default="cosine")
    train.add_argument("--final_ratio", type=float, default=0.0, help="last learning rate, as a share of the first")
    train.add_argument("--warmup_steps", type=natural_number, default=0)
    train.add_argument("--grad_clip", type=float, default=0.0, help="largest gradient norm; 0 leaves gradients alone")
    train.add_argument("--gradient_checkpointing", action="store_true", help="less memory, a third more time")
    train.add_argument("--ema", type=share, default=0.0, help="decay of averaged weights, which are then the model")
    train.add_argument(
        "--patience", type=positive_integer, help="stop after so many epochs without a better best_metric"
    )
    train.add_argument("--mixed_precision", choices=("no", "bf16", "fp16"), help="by default as the launcher says")
    train.add_argument("--compile", metavar="BACKEND", help="torch.compile with it, such as inductor")
    train.add_argument("--channels_last", action=argparse.BooleanOptionalAction, default=True)
    train.add_argument("--seed", type=int, default=0)
    run = parser.add_argument_group("run")
    run.add_argument("--output_dir", type=Path, required=True)
    going = run.add_mutually_exclusive_group()
    going.add_argument("--resume", action="store_true",
                       help="go on from the last complete checkpoint in output_dir, if there is one")  # fmt: skip
    going.add_argument("--overwrite", action="store_true", help="remove the run that output_dir holds")
    run.add_argument("--best_metric", default="dice_per_image", help="of the validation; 'best' has most of it",
                     choices=("dice_per_image", "iou_per_image", "dice_pooled", "iou_pooled"))  # fmt: skip
    run.add_argument(
        "--keep", type=natural_number, default=0, help="also keep the models of the last so many epochs, in epochs/"
    )
    run.add_argument(
        "--pictures", type=natural_number, default=4, help="validation masks that the tracker gets per epoch"
    )
    run.add_argument("--tracker", default="tensorboard", help="any tracker of Accelerate, or 'none'")
    config = parser.parse_known_args(argv)[0].config
    if config is not None:
        parser.set_defaults(**options_of(config, parser))
    args = parser.parse_args(argv)
    if config is not None:  # names that the command line leaves out stay as the file has them
        args.set, args.data = (merged(parser.get_default(name), getattr(args, name)) for name in ("set", "data"))
    for name in ("set", "data"):
        try:
            given = parsed(getattr(args, name))
        except ValueError as error:
            parser.error(f"--{name} takes NAME=JSON, where text has quotes of its own: {error}.")
        if name == "set" and (unknown := sorted(set(given) - config_fields())):
            near = get_close_matches(unknown[0], config_fields(), 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            parser.error(f"--set {unknown[0]}: RecLMISConfig has no such field.{hint}")
    if args.image_size is None:
        args.image_size = size_of(args.init)
    if args.compile and args.compile not in (backends := torch.compiler.list_backends(exclude_tags=())):
        parser.error(f"--compile {args.compile}: there are {', '.join(backends)}.")
    if args.overlap is not None and args.tile is None:
        parser.error("--overlap is of tiles; give --tile as well, or leave it out.")
    if args.dataset is None:
        parser.error("--dataset is required.")
    if args.streaming and (args.steps_per_epoch is None or args.steps_per_epoch % args.gradient_accumulation):
        parser.error("--streaming needs --steps_per_epoch, a multiple of --gradient_accumulation.")
    if args.streaming and args.tile is not None:
        parser.error(
            "--tile must know every image's size beforehand, which --streaming does not; leave one of them out."
        )
    if args.absent_share and args.note_mode == "constant":
        parser.error(
            "--absent_share gives images other notes, --note_mode constant the same to all; leave one of them out."
        )
    own = ("set", "visual_backbone", "text_encoder", "normalise_notes", "normalize_per_image")
    if args.init and (ignored := [f"--{name}" for name in own if getattr(args, name)]):
        parser.error(f"{', '.join(ignored)} cannot change what --init brings; leave one of them out.")
    return args


def options_of(path: Path, parser: argparse.ArgumentParser) -> dict:
    """The options of a YAML file, named as on the command line. `set` is a mapping there."""
    try:
        options = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        parser.error(f"{path} cannot be read: {error}")
    if not isinstance(options, dict):
        parser.error(f"{path} must map options to values.")
    known = {action.dest: action for action in parser._actions}
    if unknown := sorted(set(options) - set(known)):
        parser.error(f"{path}: there is no {unknown[0]!r}.")
    for name, value in options.items():
        choices = known[name].choices
        if choices is not None and value not in choices:
            parser.error(f"{path}: {name} is {value!r}; choose from {', '.join(map(str, choices))}.")
        if known[name].type is not None and value is not None:
            try:
                options[name] = known[name].type(str(value))
            except (ValueError, argparse.ArgumentTypeError) as error:
                parser.error(f"{path}: {name} is {value!r}: {error}.")
    for name in {"set", "data"} & set(options):
        if not isinstance(options[name], dict):
            parser.error(f"{path}: {name} must map names to values.")
        options[name] = [f"{key}={json.dumps(value)}" for key, value in options[name].items()]
    return options


def merged(first: list[str], second: list[str]) -> list[str]:
    """Two lists of NAME=JSON, where the second wins; an empty one takes all away."""
    if not second:
        return []
    entries = {entry.partition("=")[0]: entry for entry in (*first, *second)}
    return list(entries.values())


def size_of(init: str | None) -> int:
    """Pixels that a new model sees, or this checkpoint; one that is not there is told when it is to be loaded."""
    try:
        return RecLMISConfig.from_pretrained(init).image_size if init else 224
    except (OSError, ValueError):
        return 224


def config_fields() -> set[str]:
    """What `--set` may name."""
    return {field.name for field in fields(RecLMISConfig)} | {"num_labels", "vocab_size", "attn_implementation"}


def natural_number(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is below 0")
    return number


def parsed(entries: list[str]) -> dict:
    return {key: json.loads(value) for key, _, value in (entry.partition("=") for entry in entries)}


def build_datasets(args):
    """The HF splits for training and validation."""
    options = {"num_train": args.num_synthetic, "num_validation": max(args.num_synthetic // 4, 1), "seed": args.seed,
               "size": args.image_size} if args.dataset == "synthetic" else {"splits": ["train", "validation"]}  # fmt: skip
    if args.streaming:
        options["streaming"] = True
    splits = load_dataset_by_name(args.dataset, **options, **parsed(args.data))
    for split, limit in (("train", args.limit_train), ("validation", args.limit_validation)):
        if limit is not None:
            splits[split] = splits[split].take(limit)
    return splits


def notes_of(rows, streaming: bool) -> list[str]:
    """What a tokenizer is learned from: all notes, or the first of a stream."""
    notes = (row["note"] for row in rows.select_columns(["note"]))
    return list(islice(notes, 20_000 if streaming else None))


def batches_of(loader, count: int):
    """So many batches of an epoch.

    Raises:
        SystemExit: a stream ended before.
    """
    seen = 0
    for batch in islice(loader, count):
        seen += 1
        yield batch
    if seen < count:
        raise SystemExit(f"The stream ended after {seen} batches; give --steps_per_epoch {seen} or less.")


def build_dataset(args, rows, config, split: str, note: str | None):
    """Samples of a split, decoded and, for training, augmented."""
    policy = getattr(Augmentation, args.augment)() if split == "train" else None
    options = {"num_labels": config.num_labels, "size": (config.image_size,) * 2, "seed": args.seed, "note": note}
    if split == "train":
        options["absent_share"] = args.absent_share
    if args.streaming:
        shuffle = args.shuffle_buffer if split == "train" else 0
        return NotedSegmentationStream(rows, policy, **options, shuffle=shuffle)
    cache = int(args.cache_gigabytes * 2**30) if args.workers == 0 else 0
    overlap = args.overlap or 0.0 if split == "train" else 0.0
    return NotedSegmentationDataset(rows, policy, **options, cache_bytes=cache, tile=args.tile, overlap=overlap)


def build_model(args, notes):
    """A new model and its processor, or those of `--init`."""
    if args.init:
        model, processor = RecLMISModel.from_pretrained(args.init), RecLMISProcessor.from_pretrained(args.init)
        if model.config.image_size != args.image_size:
            raise ValueError(
                f"{args.init} sees {model.config.image_size} pixels; give --image_size {model.config.image_size}."
            )
        return model, processor
    changes = {"image_size": args.image_size}
    changes |= parsed(args.set)
    changes |= {key: getattr(args, key) for key in ("visual_backbone", "text_encoder") if getattr(args, key)}
    if "visual_backbone" in changes:
        changes.setdefault("visual_config", {})
    if "text_encoder" in changes:
        changes.setdefault("text_config", {})
    config = getattr(RecLMISConfig, args.preset)(**changes)
    processor = RecLMISProcessor.from_model_config(
        config, notes=notes, normalise_notes=args.normalise_notes, normalize_per_image=args.normalize_per_image
    )
    if config.text_encoder == "tokens":
        config.text_config["vocab_size"] = len(processor.tokenizer)
    model = RecLMISModel.from_parts(config)
    processor.image_processor.pad_size_divisor = model.backbone_stride
    return model, processor


@contextmanager
def named(batch):
    """Says in which samples a loss broke."""
    try:
        with finite_in_graphs():
            yield
    except NonFiniteLossError as error:
        broken = ~batch["pixel_values"].flatten(1).isfinite().all(dim=1).cpu()
        if broken.any():
            ids = [name for name, breaks in zip(batch["ids"], broken.tolist(), strict=True) if breaks]
            raise NonFiniteLossError(f"{error} Pixels that are no numbers: {', '.join(ids)}.") from error
        raise NonFiniteLossError(f"{error} The batch was {', '.join(batch['ids'])}.") from error


@torch.no_grad()
def validate(model, loader, inputs_of, num_labels, pictures: int = 0) -> tuple[dict[str, float], list]:
    """Both metric families over the validation set, at the size the model sees, and pictures of its first masks.

    Raises:
        NonFiniteModelError: the model's answers are no numbers, which thresholds would turn into empty masks.
    """
    model.eval()
    meter, seen, broken = SegmentationMeter(num_labels), [], []
    for batch in loader:
        logits = model(pixel_values=batch["pixel_values"], **inputs_of(batch)).logits
        sound = logits.isfinite().flatten(1).all(dim=1).tolist()
        broken += [name for name, finite in zip(batch["ids"], sound, strict=True) if not finite]
        masks = logits[:, 0] >= 0 if num_labels == 1 else logits.argmax(dim=1)
        masks, labels = masks.long().cpu(), batch["labels"].cpu()
        meter.update(masks, labels, batch["ids"])
        for index in range(min(pictures - len(seen), len(masks))):
            seen.append(picture(batch["pixel_values"][index].cpu(), masks[index].numpy(), labels[index].numpy()))
    if broken := from_all(broken):
        raise NonFiniteModelError(f"The logits of the validation images {shortened(broken)} are not finite.")
    meter.gather()
    return meter.compute(), seen


def picture(pixels: torch.Tensor, mask, truth):
    """An image as the model sees it, with its mask held against the truth."""
    grey = pixels.mean(dim=0)
    grey = (grey - grey.min()) / (grey.max() - grey.min()).clamp(min=1e-6)
    return agreement(Image.fromarray((255 * grey).byte().numpy()), mask, truth)


def show(accelerator, pictures, step: int) -> None:
    """Hands pictures to the trackers that take some."""
    for tracker in accelerator.trackers:
        if pictures and hasattr(tracker, "log_images"):
            layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            tracker.log_images({"validation/masks": np.stack(pictures)}, step=step, **layout)


def main(argv=None) -> dict[str, float]:
    args = parse_arguments(argv)
    with kept(args.output_dir):
        if not args.resume and not args.overwrite:
            refuse_occupied(args.output_dir)
        return train(args)


def train(args) -> dict[str, float]:
    with requested():
        accelerator = Accelerator(
            cpu=not torch.accelerator.is_available(),  # otherwise several processes would not find each other there
            mixed_precision=args.mixed_precision,
            gradient_accumulation_steps=args.gradient_accumulation,
            log_with=None if args.tracker == "none" else args.tracker,
            project_config=ProjectConfiguration(
                project_dir=str(args.output_dir), logging_dir=str(args.output_dir / "logs")
            ),
            # Processes share a stream sample by sample, as batches hold texts, which cannot be sent from one to the others.
            dataloader_config=DataLoaderConfiguration(
                use_seedable_sampler=True, data_seed=args.seed, dispatch_batches=False if args.streaming else None
            ),
        )
    check_launch(accelerator.num_processes)
    if accelerator.gradient_accumulation_steps != args.gradient_accumulation:
        raise SystemExit(
            f"The launcher accumulates {accelerator.gradient_accumulation_steps} steps, --gradient_accumulation says "
            f"{args.gradient_accumulation}: give both the same."
        )
    args.mixed_precision = accelerator.mixed_precision
    set_seed(args.seed, device_specific=False)
    with requested():
        splits = build_datasets(args)
        note = CONSTANT_NOTE if args.note_mode == "constant" else None
        model, processor = build_model(args, [note] * 2 if note else notes_of(splits["train"], args.streaming))
        num_labels = model.config.num_labels
        datasets = {
            split: build_dataset(args, splits[split], model.config, split, note) for split in ("train", "validation")
        }
    loaders = {
        split: DataLoader(
            datasets[split],
            batch_size=args.batch_size,
            shuffle=split == "train" and not args.streaming,
            num_workers=args.workers,
            persistent_workers=args.workers > 0,
            collate_fn=Collator(processor),
        )
        for split in datasets
    }
    optimizer = build_optimizer(
        model, args.learning_rate, name=args.optimizer, weight_decay=args.weight_decay,
        text_learning_rate=args.text_learning_rate, backbone_learning_rate=args.backbone_learning_rate,
    )  # fmt: skip
    if args.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    if args.compile:
        model.compile(backend=args.compile)
    # FSDP shares out weights that lie one after the other only.
    if args.channels_last and accelerator.distributed_type != DistributedType.FSDP:
        model = model.to(memory_format=torch.channels_last)
    model, optimizer, train_loader, validation_loader = accelerator.prepare(
        model, optimizer, loaders["train"], loaders["validation"]
    )
    batches = args.steps_per_epoch if args.streaming else len(train_loader)
    sizes = [args.batch_size] * batches
    if not args.streaming and accelerator.num_processes == 1:  # several are given equal batches
        sizes[-1] -= sum(sizes) - len(datasets["train"])
    shares = accumulation_weights(sizes, args.gradient_accumulation)
    steps = optimizer_steps(batches, args.gradient_accumulation)
    schedule = build_schedule(
        optimizer, args.schedule, total_steps=args.epochs * steps, warmup_steps=args.warmup_steps,
        steps_per_epoch=steps, final_ratio=args.final_ratio,
    )  # fmt: skip
    bare = accelerator.unwrap_model(model)
    if args.ema and is_sharded(bare):
        raise SystemExit(
            "--ema averages whole weights, which no process holds here: leave it out, or train without FSDP."
        )
    average = AveragedModel(bare, multi_avg_fn=get_ema_multi_avg_fn(args.ema), use_buffers=True) if args.ema else None
    bare.has_equal_batches = not args.streaming  # Accelerate fills up the last ones
    # A model that is shared out computes as a whole only.
    frozen = bare.config.text_frozen and not is_sharded(bare)
    # One by one, so that a resumed run, whose cache begins empty, computes the same.
    cache = NoteCache(bare, processor, batch_size=1) if frozen else None

    def text_inputs(batch) -> dict[str, torch.Tensor]:
        return (
            cache(batch["notes"]) if cache is not None else {key: batch[key] for key in ("input_ids", "attention_mask")}
        )

    options = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    manifest = build_manifest(splits) if accelerator.is_main_process else None
    data = from_main(None if manifest is None else summary(manifest))
    if accelerator.is_main_process:
        tidy(args.output_dir, args.overwrite)
    accelerator.wait_for_everyone()
    begin, best, waited, history = 0, -math.inf, 0, []
    checkpoint = resumable(args.output_dir, options, accelerator.num_processes, data) if args.resume else None
    if checkpoint is not None:
        progress = read_record(checkpoint)
        begin, best, waited, history = (progress[key] for key in ("epoch", "best", "waited", "history"))
        with requested():
            state = load_training_state(checkpoint)
        restore(state, accelerator, bare, optimizer, schedule, average)
        accelerator.print(f"Going on from {checkpoint} after epoch {begin}.")
    if accelerator.is_main_process:
        record = run_record(
            args.seed,
            arguments=options,
            processes=accelerator.num_processes,
            threads=torch.get_num_threads(),
            parameters=sum(parameter.numel() for parameter in bare.parameters()),
            data=data,
        )
        write_run(args.output_dir, record, begin)
        if history:  # a killed run may have saved an epoch and not its row
            write_metrics(args.output_dir, history)
    if history and (reason := reason_to_stop(args, begin, waited)):
        accelerator.print(f"Nothing to do: {reason}")
        accelerator.end_training()
        return history[-1]
    if args.tracker != "none":
        accelerator.init_trackers(TRACKED)

    started = time.monotonic()
    before = history[-1]["seconds"] if history else 0.0
    for epoch in range(begin, args.epochs):
        datasets["train"].set_epoch(epoch)
        train_loader.set_epoch(epoch)
        if accelerator.process_index:  # or every process would drop the same notes and hide the same patches
            torch.manual_seed(hash((args.seed, accelerator.process_index, epoch)))
        model.train()
        sums: dict[str, torch.Tensor] = {}
        hidden = not accelerator.is_main_process
        bar = tqdm(batches_of(train_loader, batches), f"epoch {epoch + 1}/{args.epochs}", batches, disable=hidden)
        previous = None
        for number, batch in enumerate(bar):
            with accelerator.accumulate(model):
                # Off the CPU a step's loss is looked at during the next one.
                with named(previous if accelerator.device.type != "cpu" and previous else batch):
                    outputs = model(pixel_values=batch["pixel_values"], labels=batch["labels"], **text_inputs(batch))
                accelerator.backward(outputs.loss * shares[number])
                if args.grad_clip and accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), args.grad_clip)
                optimizer.step()
                if accelerator.sync_gradients:
                    schedule.step()
                    if average is not None:
                        average.update_parameters(bare)
                optimizer.zero_grad()
            for name, value in {"loss": outputs.loss, **outputs.loss_terms}.items():
                sums[name] = sums.get(name, 0) + value.detach()
            previous = batch
            if number % 25 == 0:  # now and then, as reading a number waits for the device
                bar.set_postfix(loss=f"{outputs.loss.item():.3f}")
        with named(batch):
            bare.finish_loss_check()
        for part in (bare,) if average is None else (bare, average.module):
            share_buffers(part)
            check_finite(part, epoch + 1)
        judged = average.module if average is not None else model
        metrics, pictures = validate(judged, validation_loader, text_inputs, num_labels, args.pictures)
        losses = {f"train/{name}": value / batches for name, value in means(sums).items()}
        values = {f"validation/{name}": value for name, value in metrics.items()}
        seconds = time.monotonic() - started
        row = {"epoch": epoch + 1, "seconds": round(before + seconds, 1), **losses, **values}
        history.append(row)
        improved = metrics[args.best_metric] > best
        best, waited = (metrics[args.best_metric], 0) if improved else (best, waited + 1)
        accelerator.print(
            f"epoch {epoch + 1}: loss {losses['train/loss']:.4f}, validation per image Dice "
            f"{metrics['dice_per_image']:.4f} IoU {metrics['iou_per_image']:.4f}, pooled Dice "
            f"{metrics['dice_pooled']:.4f} IoU {metrics['iou_pooled']:.4f}{' (best)' if improved else ''}"
        )
        if args.tracker != "none":
            accelerator.log({**losses, **values, "learning_rate": schedule.get_last_lr()[0]}, step=epoch + 1)
            show(accelerator, pictures, epoch + 1)
        accelerator.wait_for_everyone()
        # Where processes share out the model, all of them have to hand over their part.
        state = training_state(accelerator, optimizer, schedule, average, bare)
        whole = state["model"] if is_sharded(bare) else None
        if accelerator.is_main_process:
            progress = {"epoch": epoch + 1, "best": best, "best_metric": args.best_metric, "waited": waited,
                        "history": history, "metrics": metrics, "options": options,
                        "processes": accelerator.num_processes}  # fmt: skip
            judged = accelerator.unwrap_model(judged)
            if args.keep:
                name = args.output_dir / "epochs" / f"{epoch + 1:05d}"
                save_checkpoint(name, judged, processor, weights=whole, record=progress, manifest=manifest)
                keep_newest(name.parent, args.keep)
            if improved:
                name = args.output_dir / "best"
                save_checkpoint(name, judged, processor, weights=whole, record=progress, manifest=manifest)
            # DeepSpeed keeps its optimiser's parts to itself: such a run can be fine-tuned, not resumed.
            state = None if accelerator.distributed_type == DistributedType.DEEPSPEED else state
            name = args.output_dir / "last"
            save_checkpoint(name, bare, processor, state=state, weights=whole, record=progress, manifest=manifest)
            write_metrics(args.output_dir, history)
        if reason := from_main(reason_to_stop(args, epoch + 1, waited, time.monotonic() - started)):
            accelerator.print(reason)
            break
    accelerator.end_training()
    return history[-1]


def reason_to_stop(args, epoch: int, waited: int, seconds: float | None = None) -> str | None:
    """Why no epoch follows this one, `None` where one does. `seconds` is the time of this session, once it has trained."""
    if epoch >= args.epochs:
        return f"{args.output_dir} has all {args.epochs} epochs."
    if args.patience is not None and waited >= args.patience:
        return f"No better {args.best_metric} for {waited} epochs: stopping early."
    if args.max_minutes is not None and seconds is not None and seconds >= 60 * args.max_minutes:
        return f"{args.max_minutes:g} minutes are up: stopping after epoch {epoch}."
    return None


def training_state(accelerator, optimizer, schedule, average, bare) -> dict:
    """What resuming needs beyond the model: tensors and plain containers only."""
    return {
        **whole_state(bare, optimizer.optimizer),
        "schedule": schedule.state_dict(),
        "average": None if average is None else average.state_dict(),
        "random": torch.get_rng_state(),
        "cuda_random": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "scaler": None if accelerator.scaler is None else accelerator.scaler.state_dict(),
    }


def restore(state, accelerator, bare, optimizer, schedule, average) -> None:
    load_whole_state(bare, optimizer.optimizer, state)
    schedule.load_state_dict(state["schedule"])
    if average is not None:
        average.load_state_dict(state["average"])
    torch.set_rng_state(state["random"])
    if state["cuda_random"]:
        torch.cuda.set_rng_state_all(state["cuda_random"])
    if accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(state["scaler"])


if __name__ == "__main__":
    main()
