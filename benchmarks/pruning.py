"""What pruning saves: parameters, multiply-adds, bytes read from the file, memory and time, and whether the mask is equal.

    python benchmarks/pruning.py [--preset base] [--notes 100] [--repeats 9]

Four levels: the whole model; `prune_reconstruction=True`; that with encoded notes in place of the text encoder; and that
after `optimize_for_inference()`, whose logits are equal up to rounding and not to the bit. Writes
`benchmarks/results/pruning.json`. Each level loads in a process of its own, whose memory is the growth of the peak resident
size over the size after imports; answers are timed with the processes taking turns.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from reclmis import RecLMISConfig, RecLMISImageProcessor, RecLMISModel, RecLMISProcessor
from reclmis.text import with_note_table
from reclmis.text.note_tokenizer import build_note_tokenizer

# The folder, whether it is pruned, whether it is optimised.
LEVELS = {"whole": ("model", False, False), "pruned": ("model", True, False),
          "pruned, notes encoded": ("table", True, False), "optimised, notes encoded": ("table", True, True)}  # fmt: skip

# One line in, one answer out: the parent decides whose turn it is.
WORKER = """
import hashlib, json, re, sys, time
import torch
import transformers.core_model_loading as loading
from reclmis import RecLMISModel
from reclmis.profiling import count_cost
torch.set_num_threads(int(sys.argv[4]))
torch.set_grad_enabled(False)
folder, prune, inputs = sys.argv[1], sys.argv[2] == "True", torch.load(sys.argv[3])
read, copy = [], loading._materialize_copy
def counted(tensor, *arguments, **keywords):
    value = copy(tensor, *arguments, **keywords)
    read.append(value.nbytes)
    return value
loading._materialize_copy = counted
def peak():
    # Not ru_maxrss, which a process inherits from whoever started it.
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
before = peak()
model = RecLMISModel.from_pretrained(folder, prune_reconstruction=prune).to(memory_format=torch.channels_last)
if sys.argv[5] == "True":
    model = model.optimize_for_inference()
@torch.no_grad()
def answer():
    return model(**inputs).logits
logits = answer()
after = peak()
torch.save(logits, sys.argv[6])
cost = count_cost(model)
print(json.dumps({
    "parameters": cost.parameters,
    "parameters_without_text": cost.parameters - cost.text_parameters,
    "macs_images": cost.macs,
    "macs_notes": cost.text_macs,
    "flops": cost.flops,
    "bytes_read": sum(read),
    "peak_memory_growth_bytes": after - before,
    "logits_sha256": hashlib.sha256(logits.contiguous().numpy().tobytes()).hexdigest(),
    "mask_sha256": hashlib.sha256((logits >= 0).contiguous().numpy().tobytes()).hexdigest(),
}), flush=True)
for _ in sys.stdin:
    started = time.perf_counter()
    answer()
    print(time.perf_counter() - started, flush=True)
"""


def write_models(folder: Path, preset: str, num_notes: int) -> dict[str, int]:
    """The model, the same with a table of notes, and an input; returns the files' sizes."""
    torch.manual_seed(0)
    config = getattr(RecLMISConfig, preset)()
    model = RecLMISModel(config).eval()
    notes = [f"Bilateral pulmonary infection, {number} infected areas, upper left lung." for number in range(num_notes)]
    image_processor = RecLMISImageProcessor(size={"height": config.image_size, "width": config.image_size})
    tokenizer = build_note_tokenizer(notes, vocab_size=400)
    processor = RecLMISProcessor(image_processor, tokenizer, max_length=config.max_text_length, pad_token_id=0)
    pixels = torch.rand(1, 3, config.image_size, config.image_size, generator=torch.Generator().manual_seed(0))
    torch.save({"pixel_values": pixels, **processor.tokenize(notes[:1], return_tensors="pt")}, folder / "inputs.pt")
    model.save_pretrained(folder / "model")
    pruned = RecLMISModel.from_pretrained(folder / "model", prune_reconstruction=True)
    with_note_table(pruned, processor, notes).save_pretrained(folder / "table")
    return {name: (folder / name / "model.safetensors").stat().st_size for name in ("model", "table")}


def measure(folder: Path, repeats: int) -> dict[str, dict]:
    """Each level's figures, with the times of `repeats` answers taken in turns."""
    threads = str(torch.get_num_threads())
    workers = {
        name: subprocess.Popen([sys.executable, "-c", WORKER, folder / model, str(prune), folder / "inputs.pt", threads,
                                str(optimise), folder / f"{number}.pt"],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for number, (name, (model, prune, optimise)) in enumerate(LEVELS.items())
    }  # fmt: skip
    rows = {}
    for name, worker in workers.items():
        line = worker.stdout.readline()
        if not line:
            raise SystemExit(f"{name}: {worker.communicate()[1]}")
        rows[name] = json.loads(line)
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    for repeat in range(repeats + 1):
        for name, worker in workers.items():
            worker.stdin.write("\n")
            worker.stdin.flush()
            taken = float(worker.stdout.readline())
            if repeat:  # the first one warms up
                seconds[name].append(taken)
    for name, worker in workers.items():
        worker.communicate("")
        rows[name]["seconds"] = statistics.median(seconds[name])
        rows[name]["seconds_spread"] = [min(seconds[name]), max(seconds[name])]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="base", choices=("tiny", "small", "base"))
    parser.add_argument("--notes", type=int, default=100, help="notes in the table")
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = write_models(folder, args.preset, args.notes)
        rows = measure(folder, args.repeats)
        first, *_, last = (torch.load(folder / f"{number}.pt") for number in range(len(LEVELS)))
    difference = {"largest": (first - last).abs().max().item(), "deviation_of_logits": first.std().item()}
    hashes = {
        key: {row[f"{key}_sha256"] for name, row in rows.items() if not LEVELS[name][2]} for key in ("logits", "mask")
    }
    for row in rows.values():
        del row["logits_sha256"], row["mask_sha256"]
    for level, (model, _, _) in LEVELS.items():
        rows[level]["file_bytes"] = sizes[model]
    result = {**vars(args), "seed": 0, "threads": torch.get_num_threads(), "torch": torch.__version__, "levels": rows,
              "optimised_difference": difference,
              **{f"{key}_bit_equal": len(values) == 1 for key, values in hashes.items()}}  # fmt: skip
    path = Path(__file__).resolve().parent / "results" / "pruning.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    if not (result["logits_bit_equal"] and result["mask_bit_equal"]):
        raise SystemExit("The levels answer differently.")


if __name__ == "__main__":
    main()
