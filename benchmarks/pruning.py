"""What `prune_reconstruction=True` saves: parameters, bytes read from the file, peak memory, and whether the mask is equal.

    python benchmarks/pruning.py [--preset base]

Writes `benchmarks/results/pruning.json`. Each load runs in a process of its own; memory is the growth of its peak resident
size over the size after imports.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from reclmis import RecLMISConfig, RecLMISModel

LOAD = """
import json, re, sys, hashlib
import torch
import transformers.core_model_loading as loading
from reclmis import RecLMISModel
torch.set_num_threads(1)
folder, prune = sys.argv[1], sys.argv[2] == "True"
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
model = RecLMISModel.from_pretrained(folder, prune_reconstruction=prune)
after = peak()
generator = torch.Generator().manual_seed(0)
size, length = model.config.image_size, model.config.max_text_length
pixels = torch.rand(1, 3, size, size, generator=generator)
ids = torch.randint(3, 200, (1, length), generator=generator)
with torch.no_grad():
    logits = model(pixels, ids, torch.ones_like(ids)).logits
print(json.dumps({
    "parameters": sum(p.numel() for p in model.parameters()),
    "parameters_without_text": sum(p.numel() for n, p in model.named_parameters() if not n.startswith("text_encoder.")),
    "bytes_read": sum(read),
    "peak_memory_growth_bytes": after - before,
    "logits_sha256": hashlib.sha256(logits.numpy().tobytes()).hexdigest(),
}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="base", choices=("tiny", "small", "base"))
    args = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        RecLMISModel(getattr(RecLMISConfig, args.preset)()).save_pretrained(folder)
        stored = (Path(folder) / "model.safetensors").stat().st_size
        rows = {}
        for name, prune in (("whole", False), ("pruned", True)):
            command = [sys.executable, "-c", LOAD, folder, str(prune)]
            rows[name] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    equal = rows["whole"].pop("logits_sha256") == rows["pruned"].pop("logits_sha256")
    result = {"preset": args.preset, "seed": 0, "file_bytes": stored, **rows, "logits_bit_equal": equal}
    path = Path(__file__).resolve().parent / "results" / "pruning.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    if not equal:
        raise SystemExit("The pruned model's logits differ.")


if __name__ == "__main__":
    main()
