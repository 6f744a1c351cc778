"""How far a training step is from the least that its multiplications cost.

    python benchmarks/training_floor.py [--preset base] [--batch_sizes 4 8] [--repeats 5]

The floor is three times the forward pass's multiply-adds (forward, gradient of activations, gradient of weights) at the rate
of one large float32 matrix product in the faster of MKL and oneDNN, measured between the steps. Each batch size runs in a
process of its own, for its peak memory. Also counts what in forward and backward would make a device wait. Writes
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
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from training_cost import PRESETS, prepare

SIDE = 3072
# What copies a number from the device to Python.
WAITS = ("aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::nonzero")


def gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


class Matrices:
    """One large product in each of the two libraries that PyTorch has for it: which is faster depends on the machine."""

    def __init__(self) -> None:
        matrix = torch.rand(SIDE, SIDE)
        packed = matrix.to_mkldnn()
        self._products = {"MKL": lambda: matrix @ matrix, "oneDNN": lambda: F.linear(packed, packed)}
        self._rates: dict[str, list[float]] = {name: [] for name in self._products}
        self.time()
        for rates in self._rates.values():
            rates.clear()  # the first are slower

    def time(self) -> None:
        for name, product in self._products.items():
            started = time.perf_counter()
            product()
            self._rates[name].append(SIDE**3 / (time.perf_counter() - started))

    def rates(self) -> dict[str, float]:
        """Multiply-adds per second, medians."""
        return {name: statistics.median(rates) for name, rates in self._rates.items()}


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
    with torch.no_grad():
        matrices = Matrices()
        seconds = []
    for _ in range(repeats):
        with torch.no_grad():
            matrices.time()
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    rates = matrices.rates()
    rate = max(rates.values())
    floor = 3 * macs / rate
    return {
        "forward_macs": macs, "macs_per_second": rate, "macs_per_second_by_library": rates, "floor_seconds": floor,
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
