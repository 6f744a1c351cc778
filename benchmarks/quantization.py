"""What 8 bits cost and save, on trained checkpoints and their real validation images.

    python benchmarks/quantization.py --run QaTa=runs/qata-right/best=path/to/QaTa-COV19 [--run NAME=MODEL=DATASET ...]

Every checkpoint is exported in float32, with int8 weights, and with int8 activations calibrated on its training images; each
form answers the whole validation split with every note its own, at the masks' own size. Timings take turns. Writes
`benchmarks/results/quantization.json`.
"""

import argparse
import json
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import torch

from reclmis import RecLMISModel, RecLMISProcessor
from reclmis.data import build_manifest, load_dataset_by_name
from reclmis.data.collate import decode_sample
from reclmis.evaluation.predictions import evaluate
from reclmis.exported import BACKENDS, ExportedModel
from reclmis.exporting import export_onnx
from reclmis.quantization import quantize_static, quantize_weights

CALIBRATION_IMAGES = 32


def measure(model_folder: str, dataset_folder: str, repeats: int) -> dict:
    model: RecLMISModel = RecLMISModel.from_pretrained(model_folder, prune_reconstruction=True)
    processor = RecLMISProcessor.from_pretrained(model_folder)
    data = load_dataset_by_name(dataset_folder, splits=["train", "validation"])
    train, validation = data["train"], data["validation"]
    notes = list(validation["note"])
    step = max(len(train) // CALIBRATION_IMAGES, 1)
    chosen = [decode_sample(train[row], model.config.num_labels) for row in range(0, len(train), step)]
    requests = [(sample["image"], sample["note"]) for sample in chosen[:CALIBRATION_IMAGES]]
    forms: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as folder:
        exports = {"float32": export_onnx(model, processor, f"{folder}/float32")}
        exports["int8 weights"] = quantize_weights(exports["float32"], f"{folder}/weights")
        plain = export_onnx(model, processor, f"{folder}/plain", optimize=False)
        exports["int8"] = quantize_static(plain, f"{folder}/int8", processor, requests, CALIBRATION_IMAGES)
        loaded = {(form, backend): ExportedModel.from_pretrained(path, backend)
                  for form, path in exports.items() for backend in BACKENDS}  # fmt: skip
        forms["PyTorch"] = {"metrics": evaluate(model, processor, validation, notes)}
        for (form, backend), exported in loaded.items():
            name = f"{form}, {backend}"
            size = sum(path.stat().st_size for path in exports[form].glob("*.onnx"))
            forms[name] = {"metrics": evaluate(exported, processor, validation, notes), "bytes": size}
            print(f"{name:<28}{100 * forms[name]['metrics']['dice_per_image']:.2f}", flush=True)
        inputs = processor(images=requests[0][0], text=requests[0][1], return_tensors="pt")
        seconds: dict[str, list[float]] = {name: [] for name in forms}
        everyone = {"PyTorch": model, **{f"{form}, {backend}": each for (form, backend), each in loaded.items()}}
        with torch.inference_mode():
            for repeat in range(repeats + 2):
                for name, each in everyone.items():
                    begun = time.perf_counter()
                    each(**inputs)
                    if repeat >= 2:
                        seconds[name].append(time.perf_counter() - begun)
        for name in forms:
            forms[name]["seconds"] = statistics.median(seconds[name])
    manifest = build_manifest({"validation": validation})["validation"]
    return {"forms": forms, "image_size": model.config.image_size, "images": len(validation),
            "calibration_images": len(requests), "sha256": manifest["sha256"]}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="append", required=True, metavar="NAME=MODEL=DATASET")
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    result = {
        "runs": {},
        "threads": torch.get_num_threads(),
        "repeats": args.repeats,
        "versions": {name: version(name) for name in ("torch", "onnxruntime", "openvino")},
    }
    for run in args.run:
        name, model, dataset = run.split("=")
        print(name, flush=True)
        result["runs"][name] = measure(model, dataset, args.repeats)
    path = Path(__file__).resolve().parent / "results" / "quantization.json"
    path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
