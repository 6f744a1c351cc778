"""What `import reclmis` costs beyond torch and transformers, in fresh interpreters taking turns.

    python benchmarks/import_time.py [--repeats 9]

Writes `benchmarks/results/import_time.json`: medians in seconds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

STATEMENTS = {
    "torch and transformers": "import torch, transformers",
    "reclmis alone": "import reclmis",
    "reclmis --help": "from reclmis.cli import main; main(['--help'])",
    "transformers' model and processor classes": "from transformers import AutoModel, AutoProcessor",
    "reclmis' model and processor classes": "from reclmis import RecLMISModel, RecLMISProcessor",
}


def seconds(statement: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def added_seconds() -> float:
    """Within one process: the starts of two differ by more than this."""
    lines = ("import torch, transformers, time", "begin = time.perf_counter()", "import reclmis",
             "print(time.perf_counter() - begin)")  # fmt: skip
    code = "\n".join(lines)
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    measured: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for repeat in range(args.repeats + 1):
        for name, statement in STATEMENTS.items():
            value = seconds(statement)
            if repeat:  # the first one fills the disk's cache
                measured[name].append(value)
    medians = {name: statistics.median(values) for name, values in measured.items()}
    added = [added_seconds() for _ in range(args.repeats)]
    result = {"repeats": args.repeats, "cores": os.cpu_count(), "python": sys.version.split()[0], "seconds": medians,
              "added_by_reclmis": statistics.median(added)}  # fmt: skip
    path = Path(__file__).resolve().parent / "results" / "import_time.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
