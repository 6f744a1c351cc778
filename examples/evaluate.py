"""Measures a checkpoint: both metric families at the images' own size, and what it owes to the note.

python examples/evaluate.py --model runs/qata/best --dataset path/to/QaTa-COV19 --text_dependence --output result.json

`reclmis evaluate` writes a report of the same figures, with intervals, strata and pictures.
"""

import argparse
import json
import sys
from pathlib import Path

from reclmis import RecLMISModel, RecLMISProcessor
from reclmis.data import build_manifest
from reclmis.evaluation.predictions import evaluate
from reclmis.evaluation.splits import load_split, training_warning
from reclmis.evaluation.text_dependence import CONSTANT_NOTE, text_dependence
from reclmis.training.record import run_record


def parse_arguments(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder or Hub id")
    parser.add_argument("--dataset", required=True, help="folder in LViT's layout, or 'synthetic'")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--text_dependence", action="store_true", help="also under other notes")
    parser.add_argument("--note_mode", choices=("right", "constant"), default="right")
    parser.add_argument("--num_synthetic", type=int, default=400, help="as in training; its validation part is new")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0, help="of the shuffled notes, and of the synthetic set")
    parser.add_argument("--output", type=Path, help="JSON file")
    return parser.parse_args(argv)


def main(argv=None) -> dict:
    args = parse_arguments(argv)
    model = RecLMISModel.from_pretrained(args.model, prune_reconstruction=True)
    processor = RecLMISProcessor.from_pretrained(args.model)
    dataset = load_split(
        args.dataset, args.split, num_synthetic=args.num_synthetic, seed=args.seed, size=model.config.image_size
    )
    if args.text_dependence:
        table = text_dependence(model, processor, dataset, seed=args.seed, batch_size=args.batch_size)
    else:
        notes = [CONSTANT_NOTE] * len(dataset) if args.note_mode == "constant" else list(dataset["note"])
        table = {args.note_mode: evaluate(model, processor, dataset, notes, batch_size=args.batch_size)}
    print(f"{'note':<12}{'Dice/image':>12}{'IoU/image':>12}{'Dice pooled':>13}{'IoU pooled':>12}")
    for name, row in table.items():
        print(f"{name:<12}{row['dice_per_image']:>12.4f}{row['iou_per_image']:>12.4f}"
              f"{row['dice_pooled']:>13.4f}{row['iou_pooled']:>12.4f}")  # fmt: skip
    content = build_manifest({args.split: dataset})[args.split]
    if warning := training_warning(args.model, content):
        print(warning, file=sys.stderr)
    result = run_record(
        args.seed, model=args.model, dataset=Path(args.dataset).name, split=args.split,
        images=len(dataset), sha256=content["sha256"], metrics=table,
    )  # fmt: skip
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(result, indent=2) + "\n")
    return result


if __name__ == "__main__":
    main()
