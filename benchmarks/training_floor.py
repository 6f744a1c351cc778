"""How far a training step is from the least that its multiplications cost.

    python benchmarks/training_floor.py [--preset base] [--batch_sizes 4 8] [--repeats 5]

The floor is three times the forward pass's multiply-adds (forward, gradient of activations, gradient of weights) at the rate
of one large float32 matrix product, measured between the steps. Each batch size runs in a process of its own, for its peak
memory. Also counts what in forward and backward would make a device wait. Writes
`benchmarks/results/training_floor.json`.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from training_cost import PRESETS, prepare

SIDE = 3072
# What copies a number from the device to Python.
WAITS = ("aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::nonzero")


def gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def multiply_adds_per_second(first: torch.Tensor, second: torch.Tensor) -> float:
    started = time.perf_counter()
    first @ second
    return SIDE**3 / (time.perf_counter() - started)


def measure(preset: str, batch_size: int, image_size: int, repeats: int) -> dict:
    model, inputs, step = prepare(preset, batch_size, image_size)
    model.defers_loss_check = True
    inputs["pixel_values"] = inputs["pixel_values"].to(memory_format=torch.channels_last)
    # Of the network as the paper draws it: training leaves some of these operations out.
    model.eval()
    # The counter knows attention as two matrix products, not by the name of every fused kernel.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(**inputs)
    macs = counter.get_total_flops() / 2
    model.train()
    before = gigabytes()
    step()
    peak = gigabytes()
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        model(**inputs).loss.backward()
    waits = sum(event.count for event in trace.key_averages() if event.key in WAITS)
    matrices = torch.rand(SIDE, SIDE), torch.rand(SIDE, SIDE)
    multiply_adds_per_second(*matrices)
    seconds, rates = [], []
    for _ in range(repeats):
        rates.append(multiply_adds_per_second(*matrices))
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
        rates.append(multiply_adds_per_second(*matrices))
    rate = statistics.median(rates)
    floor = 3 * macs / rate
    return {
        "forward_macs": macs, "macs_per_second": rate, "floor_seconds": floor,
        "step_seconds": statistics.median(seconds), "step_spread": [min(seconds), max(seconds)],
        "ratio": statistics.median(seconds) / floor, "waits_in_forward_and_backward": waits,
        "gigabytes_before": before, "gigabytes_peak": peak,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="base", choices=PRESETS)
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.preset, args.batch_sizes[0], args.image_size, args.repeats)))
        return
    same = ["--preset", args.preset, "--image_size", str(args.image_size), "--repeats", str(args.repeats), "--one"]
    batches = {}
    for size in args.batch_sizes:
        command = [sys.executable, __file__, "--batch_sizes", str(size), *same]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        batches[str(size)] = json.loads(answer.stdout.splitlines()[-1])
        print(size, batches[str(size)], flush=True)
    result = {
        "command": f"python benchmarks/training_floor.py --preset {args.preset} --repeats {args.repeats}",
        "preset": args.preset, "image_size": args.image_size, "repeats": args.repeats, "seed": 0,
        "threads": torch.get_num_threads(), "torch": torch.__version__, "matrix_side": SIDE, "batches": batches,
    }  # fmt: skip
    path = Path(__file__).resolve().parent / "results" / "training_floor.json"
    path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
