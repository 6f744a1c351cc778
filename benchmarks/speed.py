"""How fast an image and a note become a mask on a CPU: every preset in every runtime, CLIPSeg, and U-Nets without text.

    python benchmarks/speed.py [--image_size 224] [--repeats 5]

Each contender is loaded in a process of its own (cold start: imports, loading and the first answer) and answers when it is
its turn, so that what else the machine does falls on all alike. Before a turn the machine rests until the threads of the
one before have stopped spinning, and the first answer of a turn, which finds cold caches, is not counted. The roof is the
multiply-adds of `base` without any of this package's savings, at the rate of one large matrix product measured in the same
turns, in the faster of MKL and oneDNN. Weights are random: they change no time. Writes `benchmarks/results/speed.json` and
`speed.png`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import logging

from reclmis import RecLMISConfig, RecLMISImageProcessor, RecLMISModel, RecLMISProcessor
from reclmis.exported import BACKENDS, ExportedModel
from reclmis.exporting import export_onnx
from reclmis.profiling import count_cost
from reclmis.quantization import quantize_static
from reclmis.text.note_tokenizer import build_note_tokenizer

RESULTS = Path(__file__).resolve().parent / "results"
PRESETS = ("tiny", "small", "base")
RUNTIMES = ("pytorch", "pytorch, optimised", "pytorch, optimised and compiled", "onnxruntime", "openvino",
            "onnxruntime, int8", "openvino, int8")  # fmt: skip
UNETS = ("resnet34", "mobilenet_v2", "efficientnet-b0")
# Idle threads of OpenMP and of the runtimes' own pools spin for up to 0.2 s after an answer.
REST_SECONDS, ANSWERS_PER_TURN = 0.3, 3
NOTE = "Bilateral pulmonary infection, two infected areas, upper left lung and lower right lung."

# One line in, one answer out: the parent decides whose turn it is. A line "notes N" asks N notes of one image; "batch N"
# asks N images; "size S" asks an image of that side, and "known S" the same with a note that was encoded before.
WORKER = """
import json, re, sys, time
started = time.perf_counter()
kind, source, threads, side = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
def peak():
    # Not ru_maxrss, which a process inherits from whoever started it.
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
import torch
torch.set_num_threads(threads)
torch.set_grad_enabled(False)
counts = {}
if kind == "roof":
    before = peak()
    # Two libraries multiply matrices in PyTorch, and which is faster depends on the machine: one a question.
    square = torch.rand(2048, 2048)
    packed = square.to_mkldnn()
    def answer(what="size", *asked):
        if what == "known":
            return torch.nn.functional.linear(packed, packed)
        square @ square
elif kind == "clipseg":
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation
    before = peak()
    model = CLIPSegForImageSegmentation.from_pretrained(source).eval()
    ids = torch.randint(3, 49000, (1, 18))
    ids[:, -1] = 49407
    known = model.get_conditional_embeddings(batch_size=1, input_ids=ids)
    def answer(what="size", number=side):
        images, edge = (number, side) if what == "batch" else (1, number)
        pixels = torch.rand(images, 3, edge, edge)
        if what == "known":
            return model(conditional_embeddings=known, pixel_values=pixels, interpolate_pos_encoding=True)
        model(input_ids=ids.expand(images, -1), pixel_values=pixels, interpolate_pos_encoding=True)
    counts["parameters"] = sum(parameter.numel() for parameter in model.parameters())
elif kind == "unet":
    import segmentation_models_pytorch as smp
    before = peak()
    model = smp.Unet(source, encoder_weights=None).eval().to(memory_format=torch.channels_last)
    def answer(what="size", number=side):
        images, edge = (number, side) if what == "batch" else (1, number)
        model(torch.rand(images, 3, edge, edge))
    counts["parameters"] = sum(parameter.numel() for parameter in model.parameters())
else:
    if kind.startswith("pytorch"):
        from reclmis import RecLMISModel
        before = peak()
        model = RecLMISModel.from_pretrained(source, prune_reconstruction=True).to(memory_format=torch.channels_last)
        if "optimised" in kind:
            model = model.optimize_for_inference()
        counts["parameters"] = model.num_parameters()
        if kind.endswith("compiled"):
            # Weights are constants then, and laid out once as the kernels want them.
            model.compile(options={"freezing": True})
    else:
        from reclmis.exported import ExportedModel
        before = peak()
        model = ExportedModel.from_pretrained(source, kind.partition(",")[0], threads=threads)
    ids = torch.randint(3, 200, (1, model.config.max_text_length))
    mask = torch.ones_like(ids)
    states = model.encode_text(ids, mask)
    def answer(what="size", number=side):
        images, edge = (number, side) if what == "batch" else (1, side if what == "notes" else number)
        pixels = torch.rand(images, 3, edge, edge)
        if what == "notes":
            embeddings = model.get_image_embeddings(pixels)
            many = {"input_ids": ids.expand(number, -1), "attention_mask": mask.expand(number, -1)}
            return model(image_embeddings=embeddings, **many)
        if what == "known":
            return model(pixels, text_hidden_states=states, attention_mask=mask)
        return model(pixels, ids.expand(images, -1), mask.expand(images, -1))
answer()
counts |= {"cold_seconds": time.perf_counter() - started, "peak_growth_bytes": peak() - before}
print(json.dumps(counts), flush=True)
for line in sys.stdin:
    what, number = line.split()
    begun = time.perf_counter()
    answer(what, int(number))
    print(time.perf_counter() - begun, flush=True)
"""


class Contender:
    """A process that answers when asked."""

    def __init__(self, kind: str, source: str, threads: int, side: int) -> None:
        arguments = [sys.executable, "-W", "ignore", "-c", WORKER, kind, source, str(threads), str(side)]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
        self._process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.facts = json.loads(self._answered())
        self.side = side

    def _answered(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"A contender ended with code {self._process.wait()}; see the message above.")
        return line

    def seconds(self, what: str = "size", number: int | None = None) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what} {self.side if number is None else number}\n")
        self._process.stdin.flush()
        return float(self._answered())

    def close(self) -> None:
        self._process.communicate()


def write_models(folder: Path, side: int) -> tuple[dict[str, tuple[str, str]], dict[str, dict]]:
    """Models, exports and their int8 forms; what each contender loads, and how far the runtimes are from PyTorch."""
    contenders: dict[str, tuple[str, str]] = {"roof": ("roof", "")}
    parities = {}
    notes = [NOTE, "lower right lung"]
    for preset in PRESETS:
        torch.manual_seed(0)
        config = getattr(RecLMISConfig, preset)(image_size=side)
        model = RecLMISModel(config).eval()
        # Byte-pair codes from these notes: CLIP's own vocabulary would change no time.
        tokenizer = build_note_tokenizer(notes * 2, vocab_size=400)
        image_processor = RecLMISImageProcessor(size={"height": side, "width": side})
        processor = RecLMISProcessor(image_processor, tokenizer, max_length=config.max_text_length)
        whole, exported, small = folder / preset, folder / f"{preset}-onnx", folder / f"{preset}-int8"
        model.save_pretrained(whole)
        # Integer kernels are fastest on the decoder as it was trained; int8 starts from there.
        plain = export_onnx(model, processor, folder / f"{preset}-plain", optimize=False)
        export_onnx(model, processor, exported)
        parities[preset] = parity(model, exported, side)
        pictures = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)
        quantize_static(plain, small, processor, [(picture, NOTE) for picture in pictures])
        for runtime in RUNTIMES:
            source = whole if runtime.startswith("pytorch") else small if runtime.endswith("int8") else exported
            contenders[f"{preset}: {runtime}"] = (runtime, str(source))
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

    CLIPSegForImageSegmentation(CLIPSegConfig()).save_pretrained(folder / "clipseg")
    contenders["CLIPSeg (transformers): pytorch"] = ("clipseg", str(folder / "clipseg"))
    for encoder in UNETS:
        contenders[f"U-Net {encoder} (no text): pytorch"] = ("unet", encoder)
    return contenders, parities


@torch.inference_mode()
def parity(model: RecLMISModel, exported: Path, side: int) -> dict[str, float]:
    """How far any logit is from PyTorch's, per runtime, for two images of another size; and the logits' deviation."""
    generator = torch.Generator().manual_seed(0)
    stride = model.backbone_stride
    pixels = torch.randn(2, 3, side, side + 2 * stride, generator=generator)
    ids = torch.randint(3, 200, (2, model.config.max_text_length), generator=generator)
    inputs = {"pixel_values": pixels, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
    logits = model(**inputs).logits
    apart = {backend: float((ExportedModel.from_pretrained(exported, backend)(**inputs).logits - logits).abs().max())
             for backend in BACKENDS}  # fmt: skip
    return {**apart, "deviation": float(logits.std())}


def macs_of(name: str, side: int) -> dict[str, int]:
    preset, _, runtime = name.partition(": ")
    if preset in PRESETS:
        torch.manual_seed(0)
        model = RecLMISModel(getattr(RecLMISConfig, preset)(image_size=side, prune_reconstruction=True)).eval()
        plain = runtime == "pytorch" or runtime.endswith("int8")
        cost = count_cost(model if plain else model.optimize_for_inference())
        return {"macs": cost.macs, "text_macs": cost.text_macs, "parameters": cost.parameters}
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        if preset.startswith("CLIPSeg"):
            from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

            model = CLIPSegForImageSegmentation(CLIPSegConfig()).eval()
            ids = torch.full((1, 18), 49407)
            model(input_ids=ids, pixel_values=torch.rand(1, 3, side, side), interpolate_pos_encoding=True)
        else:
            import segmentation_models_pytorch as smp

            smp.Unet(preset.split()[1], encoder_weights=None).eval()(torch.rand(1, 3, side, side))
    return {"macs": counter.get_total_flops() // 2, "text_macs": 0}


def measure(contenders: dict[str, tuple[str, str]], args: argparse.Namespace) -> dict:
    running = {}
    for name, (kind, source) in contenders.items():
        running[name] = Contender(kind, source, args.threads, args.image_size)
        print(f"{name:<45} cold {running[name].facts['cold_seconds']:.1f} s", flush=True)
    seconds: dict[str, dict[str, list[float]]] = {name: {"size": [], "known": []} for name in running}
    for _ in range(args.repeats):
        for what in ("size", "known"):
            for name, contender in running.items():
                time.sleep(REST_SECONDS)
                contender.seconds(what)
                seconds[name][what] += [contender.seconds(what) for _ in range(ANSWERS_PER_TURN)]
    rows = {}
    for name, contender in running.items():
        whole, known = seconds[name]["size"], seconds[name]["known"]
        rows[name] = {**contender.facts, "seconds": statistics.median(whole), "spread": [min(whole), max(whole)],
                      "seconds_known_note": statistics.median(known)}  # fmt: skip
        print(f"{name:<45} {1000 * rows[name]['seconds']:.1f} ms", flush=True)
    throughput: dict[str, dict] = {}
    for name in (*(f"{preset}: openvino" for preset in PRESETS), "CLIPSeg (transformers): pytorch"):
        contender = running[name]
        for what, numbers in (("batch", args.batches), ("size", args.sizes), ("notes", args.notes)):
            if what == "notes" and name.startswith("CLIPSeg"):
                continue
            for number in numbers:
                contender.seconds(what, number)
                taken = statistics.median(contender.seconds(what, number) for _ in range(3))
                throughput.setdefault(name, {}).setdefault(what, {})[number] = taken
    for contender in running.values():
        contender.close()
    return {"rows": rows, "throughput": throughput}


def import_seconds() -> dict[str, float]:
    """What `import reclmis` and its model take beyond torch and transformers, in a fresh interpreter."""
    code = (
        "import time, torch, transformers, transformers.modeling_utils, torchvision, timm\n"
        "begun = time.perf_counter()\nimport reclmis\nfrom reclmis import RecLMISModel, RecLMISProcessor\n"
        "print(time.perf_counter() - begun)"
    )
    runs = [subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
            for _ in range(3)]  # fmt: skip
    return {"beyond_torch_transformers_torchvision_timm": statistics.median(float(run.stdout) for run in runs)}


def plot(result: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = {name: row for name, row in result["rows"].items() if name != "roof"}
    names = sorted(rows, key=lambda name: rows[name]["seconds"], reverse=True)
    figure, axes = pyplot.subplots(figsize=(9, 0.32 * len(names) + 1))
    colours = ["#2a6f97" if name.partition(":")[0] in PRESETS else "#9aa5b1" for name in names]
    axes.barh(names, [1000 * rows[name]["seconds"] for name in names], color=colours)
    roof = 1000 * result["roof_seconds"]
    axes.axvline(roof, color="#c1121f", linestyle="--", linewidth=1)
    axes.text(roof, -0.9, " roof of base", color="#c1121f", fontsize=8, va="center")
    axes.set_xlabel(f"milliseconds per image and note, {result['image_size']} pixels, {result['threads']} threads")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=5, help="turns of three answers")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--sizes", type=int, nargs="+", default=[112, 224, 352])
    parser.add_argument("--notes", type=int, nargs="+", default=[1, 2, 4, 8])
    args = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    started = time.time()
    with tempfile.TemporaryDirectory() as folder:
        contenders, parities = write_models(Path(folder), args.image_size)
        result = {**measure(contenders, args), "parity": parities}
    for name, row in result["rows"].items():
        if name != "roof":
            row.update(macs_of(name, args.image_size))
    roof = result["rows"]["roof"]
    rates = {"MKL": 2048**3 / roof["seconds"], "oneDNN": 2048**3 / roof["seconds_known_note"]}
    rate = max(rates.values())
    result |= {
        **vars(args), "seed": 0, "method": f"turns of {ANSWERS_PER_TURN} answers", "macs_per_second": rate,
        "macs_per_second_by_library": rates, "roof_seconds": result["rows"]["base: pytorch"]["macs"] / rate,
        "imports": import_seconds(), "command": f"benchmarks/speed.py --image_size {args.image_size}",
        "versions": {name: version(name) for name in
                     ("torch", "onnxruntime", "openvino", "transformers", "segmentation_models_pytorch")},
        "minutes": (time.time() - started) / 60,
    }  # fmt: skip
    suffix = "" if args.image_size == 224 else f"-{args.image_size}"
    (RESULTS / f"speed{suffix}.json").write_text(json.dumps(result, indent=2) + "\n")
    plot(result, RESULTS / f"speed{suffix}.png")


if __name__ == "__main__":
    main()
