"""Is the data faster than the model? Decoding, augmenting and collating against the training step, and memory.

    python benchmarks/data_loading.py --dataset path/to/QaTa-COV19 [--stream_images 100000]

Measures images per second of the loader (repeats interleaved with training steps of each preset, in one run), memory over
an epoch, and a stream over a generated set in Parquet files, of which no list is ever in memory. Writes
`benchmarks/results/data_loading.json`.
"""

import argparse
import json
import os
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from reclmis import RecLMISConfig, RecLMISProcessor
from reclmis.data import (
    Augmentation,
    Collator,
    NotedSegmentationDataset,
    NotedSegmentationStream,
    build_manifest,
    load_dataset_by_name,
    make_sample,
)
from reclmis.data.inventory import COLUMNS, as_png, features_of
from reclmis.training.record import portable_command

sys.path.insert(0, str(Path(__file__).resolve().parent))
from training_cost import PRESETS, prepare


def resident_megabytes() -> float:
    """Memory that this process alone holds: pages of mapped files, which the system may drop, are not in it."""
    with open("/proc/self/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["RssAnon"].split()[0]) / 1024


def rate(loader: DataLoader, images: int) -> float:
    """Images per second over the first batches, the start of workers left out."""
    seen, started = 0, None
    for batch in loader:
        if started is None:
            started = time.perf_counter()
            continue
        seen += len(batch["ids"])
        if seen >= images:
            break
    assert started is not None
    return seen / (time.perf_counter() - started)


def loader_of(dataset: Any, processor: RecLMISProcessor, workers: int, batch_size: int) -> DataLoader:
    return DataLoader(dataset, batch_size, num_workers=workers, collate_fn=Collator(processor))


def loader_against_steps(splits, processor, args) -> dict[str, Any]:
    policies = {"none": Augmentation.none(), "paper": Augmentation.paper(), "strong": Augmentation.strong()}
    loaders = {
        f"{name}, {workers} worker(s)": loader_of(
            NotedSegmentationDataset(splits["train"], policy, size=(224, 224)), processor, workers, args.batch_size
        )
        for name, policy in policies.items()
        for workers in (0, 1, 2)
    }
    steps = {preset: prepare(preset, 4, 224)[-1] for preset in PRESETS}
    rates: dict[str, list[float]] = {name: [] for name in (*loaders, *steps)}
    for repeat in range(args.repeats + 1):
        for name, loader in loaders.items():
            measured = rate(loader, args.images)
            if repeat:  # the first one warms up
                rates[name].append(measured)
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if repeat:
                rates[name].append(4 / (time.perf_counter() - started))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "images_per_second": medians,
        "loader_over_step": {name: {preset: medians[name] / medians[preset] for preset in PRESETS} for name in loaders},
    }


def memory_over_an_epoch(splits, processor, args) -> dict[str, float]:
    """Growth of this process's memory from the first tenth of an epoch to its end, nothing cached."""
    dataset = NotedSegmentationDataset(splits["train"], Augmentation.strong(), size=(224, 224))
    return grown(loader_of(dataset, processor, 0, args.batch_size), len(dataset))


def grown(loader: DataLoader, images: int) -> dict[str, float]:
    seen, early, started = 0, 0.0, time.perf_counter()
    for batch in loader:
        seen += len(batch["ids"])
        if not early and seen >= images / 10:
            early = resident_megabytes()
    return {
        "images": seen,
        "images_per_second": seen / (time.perf_counter() - started),
        "megabytes_early": early,
        "megabytes_at_the_end": resident_megabytes(),
    }


def write_generated(folder: Path, images: int, size: int, per_file: int = 5000) -> None:
    """A set of drawn radiographs as Parquet files; a file's rows are in memory at a time."""
    from datasets import Dataset

    def rows(first: int, last: int) -> Iterator[dict[str, Any]]:
        for index in range(first, last):
            sample = make_sample(index, size=size)
            yield {"image": as_png(sample["image"][:, :, 0]), "mask": as_png(sample["mask"] * 255), "note": sample["note"],
                   "id": sample["id"]}  # fmt: skip

    folder.mkdir(parents=True)
    count = -(-images // per_file)
    for number in range(count):
        part = Dataset.from_list(
            list(rows(number * per_file, min(images, (number + 1) * per_file))), features_of(COLUMNS)
        )
        part.to_parquet(str(folder / f"train-{number:05d}-of-{count:05d}.parquet"))


def stream(args) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        folder = Path(scratch) / "generated"
        started = time.perf_counter()
        write_generated(folder, args.stream_images, args.stream_size)
        written = time.perf_counter() - started
        size = sum(path.stat().st_size for path in folder.iterdir())
        rows = load_dataset_by_name(folder, streaming=True)["train"]
        notes = [row["note"] for row in rows.select_columns(["note"]).take(2000)]
        processor = RecLMISProcessor.from_model_config(RecLMISConfig.tiny(image_size=args.stream_size), notes=notes)
        dataset = NotedSegmentationStream(rows, Augmentation.paper(), shuffle=1000)
        before = resident_megabytes()
        result = grown(loader_of(dataset, processor, 0, args.batch_size), args.stream_images)
        return {**result, "megabytes_before": before, "pixels": args.stream_size, "gigabytes_on_disk": size / 2**30,
                "seconds_to_write": written}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--images", type=int, default=320, help="per measurement of the loader")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--stream_images", type=int, default=100_000)
    parser.add_argument("--stream_size", type=int, default=96)
    parser.add_argument("--scratch", help="where the generated set is written for the time of the run")
    args = parser.parse_args()
    splits = load_dataset_by_name(args.dataset, splits=["train"], verify=False)
    processor = RecLMISProcessor.from_model_config(
        RecLMISConfig.small(image_size=224), notes=list(splits["train"]["note"])
    )
    result = {
        "command": portable_command(shlex.join(["benchmarks/data_loading.py", *sys.argv[1:]])),
        "seed": 0, "threads": torch.get_num_threads(), "cores": os.cpu_count(), "batch_size": args.batch_size,
        "sha256": build_manifest(splits)["train"]["sha256"],
        **loader_against_steps(splits, processor, args),
        "epoch": memory_over_an_epoch(splits, processor, args),
        "stream": stream(args),
    }  # fmt: skip
    path = Path(__file__).resolve().parent / "results" / "data_loading.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
