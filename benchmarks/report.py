"""Writes the tables of two pages from `benchmarks/results/*.json`: no number in them is typed by hand.

python benchmarks/report.py          rewrite README.md and benchmarks/README.md
python benchmarks/report.py --check  fail when they differ from the results
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "benchmarks/README.md")
RESULTS = Path(__file__).resolve().parent / "results"
METRICS = ("dice_per_image", "iou_per_image", "dice_pooled", "iou_pooled")
HEADER = "| {} | Dice per image | IoU per image | Dice pooled | IoU pooled |\n|---|---|---|---|---|"


def row(title: str, metrics: dict) -> str:
    return f"| {title} | " + " | ".join(f"{100 * metrics[key]:.1f}" for key in METRICS) + " |"


def footer(name: str, run: dict, images: int) -> str:
    minutes = run["seconds"] / 60
    return (
        f"\n`{run['command']}`\n\n{name}: seed {run['seed']}, {run['parameters'] / 1e6:.1f} M parameters, "
        f"{run['epochs']} epochs in {minutes:.0f} minutes with {run['threads']} thread(s), best epoch {run['best_epoch']}, "
        f"{images} validation images, split sha256 `{run['sha256'][:12]}`."
    )


def qata(result: dict) -> str:
    right, constant = result["runs"]["qata-right"], result["runs"]["qata-constant"]
    lines = [HEADER.format("QaTa-COV19 subset, validation"),
             row("notes alone, no image (text-only predictor)", result["text_only"]["metrics"]),
             row("same network, every note the same sentence", constant["evaluation"]["constant"]),
             row("**image and note**", right["evaluation"]["right"])]  # fmt: skip
    for name in ("shuffled", "swapped", "empty"):
        lines.append(row(f"image and note, asked with the {name} note", right["evaluation"][name]))
    images = int(right["evaluation"]["right"]["images"])
    return "\n".join([*lines, footer("With notes", right, images)])


def monuseg(result: dict) -> str:
    (run,) = result["runs"].values()
    lines = [HEADER.format("MoNuSeg, validation"),
             row("base preset at 224 pixels", run["at_training_size"]),
             row("the same masks at 1000 pixels", run["evaluation"]["right"])]  # fmt: skip
    return "\n".join([*lines, footer("MoNuSeg", run, int(run["evaluation"]["right"]["images"]))])


def synthetic(result: dict) -> str:
    (run,) = result["runs"].values()
    titles = {"right": "the right note", "empty": "an empty note", "shuffled": "another image's note",
              "swapped": "left and right exchanged", "constant": "one sentence for all",
              "distractor": "the distractors' note, against the distractors' mask"}  # fmt: skip
    lines = [HEADER.format("synthetic set, validation")]
    lines += [row(title, run["evaluation"][key]) for key, title in titles.items()]
    return "\n".join([*lines, footer("Synthetic", run, int(run["evaluation"]["right"]["images"]))])


def pruning(result: dict) -> str:
    lines = [f"| {result['preset']}, one image and note | parameters | GMAC | read from the file | memory | seconds |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for name, level in result["levels"].items():
        macs = (level["macs_images"] + level["macs_notes"]) / 1e9
        lines.append(f"| {name} | {level['parameters'] / 1e6:.1f} M | {macs:.2f} | {level['bytes_read'] / 1e6:.0f} MB | "
                     f"{level['peak_memory_growth_bytes'] / 1e6:.0f} MB | {level['seconds']:.3f} |")  # fmt: skip
    equal = "equal to the bit" if result["logits_bit_equal"] else "NOT equal"
    rounding = result["optimised_difference"]
    lines.append(
        f"\n`benchmarks/pruning.py --preset {result['preset']} --notes {result['notes']}`, {result['threads']} thread(s), "
        f"medians of {result['repeats']} answers in turns. Logits of the first three: {equal}; optimised they differ by at "
        f"most {rounding['largest']:.0e}, of a deviation of {rounding['deviation_of_logits']:.1f}."
    )
    return "\n".join(lines)


def training_cost(result: dict) -> str:
    lines = [f"| preset | seconds per training image ({result['image_size']} pixels) | `base` costs |", "|---|---|---|"]
    for name, seconds in result["seconds_per_image"].items():
        lines.append(f"| `{name}` | {seconds:.3f} | {result['base_over_preset'][name]:.1f} times as much |")
    lines.append(f"\n`benchmarks/training_cost.py --batch_size {result['batch_size']}`, {result['threads']} thread(s), "
                 f"medians of {result['repeats']} steps in turns.")  # fmt: skip
    return "\n".join(lines)


def transfer(result: dict) -> str:
    seeds = ", ".join(map(str, result["seeds"]))
    budget = result["budget"]
    lines = [f"| {result['dataset']}, validation, `{budget['visual_backbone']}` and MiniLM (frozen) | Dice per image, mean "
             "| spread | IoU per image, mean |", "|---|---|---|---|"]  # fmt: skip
    for name, row in result["variants"].items():
        iou = [run["at_training_size"]["iou_per_image"] for run in row["runs"]]
        lines.append(f"| {name} | {100 * row['mean_dice_per_image']:.1f} | {100 * row['spread']:.1f} | "
                     f"{100 * sum(iou) / len(iou):.1f} |")  # fmt: skip
    sha = next(iter(result["variants"].values()))["runs"][0]["data"]["validation"]["sha256"]
    lines.append(f"\n`benchmarks/transfer.py`, seeds {seeds}, {budget['epochs']} epochs at {budget['image_size']} pixels, "
                 f"split sha256 `{sha[:12]}`. Weights come from packages of the index; nothing is downloaded.")  # fmt: skip
    return "\n".join(lines)


def data_loading(result: dict) -> str:
    rates, ratios = result["images_per_second"], result["loader_over_step"]
    lines = ["| decode, augment, collate (224 pixels) | images per second | times `tiny`'s step | `small`'s | `base`'s |",
             "|---|---|---|---|---|"]  # fmt: skip
    for name, ratio in ratios.items():
        lines.append(f"| augmentation {name} | {rates[name]:.0f} | {ratio['tiny']:.0f} | {ratio['small']:.0f} | "
                     f"{ratio['base']:.0f} |")  # fmt: skip
    epoch, stream = result["epoch"], result["stream"]
    lines.append(
        f"\nThe process's own memory from the first tenth of an epoch to its end: {epoch['images']} images "
        f"{epoch['megabytes_at_the_end'] - epoch['megabytes_early']:+.0f} MB; a stream of {stream['images']} "
        f"generated images ({stream['pixels']} pixels, {stream['gigabytes_on_disk']:.1f} GB of Parquet, "
        f"{stream['images_per_second']:.0f} per second) "
        f"{stream['megabytes_at_the_end'] - stream['megabytes_early']:+.0f} MB.\n\n`{result['command']}`, "
        f"{result['cores']} cores, batches of {result['batch_size']}, training split sha256 `{result['sha256'][:12]}`."
    )
    return "\n".join(lines)


def recipe_cost(result: dict) -> str:
    lines = ["| recipe | images x epochs | GFLOP per image, forward | one RTX 3090 | eight |", "|---|---|---|---|---|"]
    for name, row in result["recipes"].items():
        lines.append(f"| `{name}` | {row['images']} x {row['epochs']} | {row['forward_flops_per_image'] / 1e9:.1f} | "
                     f"{_duration(row['hours_one_gpu'])} | {_duration(row['hours_eight_gpus'])} |")  # fmt: skip
    paper, rate = result["paper"], result["flops_per_second_and_gpu"] / 1e12
    lines.append(
        f"\nEstimated by `benchmarks/recipe_cost.py`, not run: 3 x forward x images x epochs, at the {rate:.2f} TFLOP/s "
        f"that each of the paper's {paper['gpus']} GPUs reached if `{paper['recipe']}` took its {paper['hours']} hours."
    )
    return "\n".join(lines)


def _duration(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{max(60 * hours, 0.1):.1f} min"


def training_floor(result: dict) -> str:
    lines = [f"| `{result['preset']}`, {result['image_size']} pixels, one step | seconds | floor | ratio | peak memory "
             "| waits in the step |", "|---|---|---|---|---|---|"]  # fmt: skip
    for size, row in result["batches"].items():
        lines.append(f"| batch of {size} | {row['step_seconds']:.2f} | {row['floor_seconds']:.2f} | {row['ratio']:.2f} | "
                     f"{row['gigabytes_peak']:.1f} GB | {row['waits_in_forward_and_backward']} |")  # fmt: skip
    rate = next(iter(result["batches"].values()))["macs_per_second"] / 1e9
    lines.append(f"\nThe floor is three forward passes' multiply-adds at the rate of one large matrix product ({rate:.0f} "
                 f"G/s); the goal is a ratio of 1.4. `{result['command']}`, {result['threads']} thread(s), medians of "
                 f"{result['repeats']}.")  # fmt: skip
    return "\n".join(lines)


ANSWERS = {
    "right": "its own",
    "none": "none",
    "contradicting": "places where nothing is",
    "elsewhere": "another image's, of places where nothing is",
    "denial": '"No pulmonary infection."',
}


def absence(result: dict) -> str:
    dataset = "synthetic set" if "synthetic" in result["command"] else "QaTa-COV19 subset"
    lines = [f"| {dataset}, validation | note | Dice per image | empty masks | marked of the image | presence |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for variant, answers in result["answers"].items():
        for kind, row in answers.items():
            dice = f"{100 * row['dice_per_image']:.1f}" if kind in ("right", "none") else ""
            presence = f"{row['presence']:.2f}" if "presence" in row else ""
            lines.append(f"| {variant} | {ANSWERS[kind]} | {dice} | {100 * row['empty']:.0f} % | "
                         f"{100 * row['marked']:.1f} % | {presence} |")  # fmt: skip
    trained = result["answers"]["note dropout, presence, contradicting notes"]
    auc = trained["contradicting"]["presence_auc"]
    apart = trained.get("elsewhere", {}).get("presence_auc")
    others = "" if apart is None else f", and from those of other images with {apart:.2f}"
    lines.append(f"\nPresence tells right from contradicting notes with an area under the curve of {auc:.2f}{others}. "
                 f"`{result['command']}`, seeds {', '.join(map(str, result['seeds']))}, "
                 f"{result['budget']['epochs']} epochs, "
                 f"{result['images']} images, split sha256 `{result['sha256'][:12]}`.")  # fmt: skip
    return "\n".join(lines)


def speed(result: dict) -> str:
    roof = result["roof_seconds"]
    lines = [f"| {result['image_size']} pixels, {result['threads']} threads | ms | note known | of the roof "
             "| cold start | peak memory | GMAC |", "|---|---|---|---|---|---|---|"]  # fmt: skip
    for name, row in result["rows"].items():
        if name == "roof":
            continue
        share = f"{row['seconds_known_note'] / roof:.2f}" if name.startswith("base") else ""
        lines.append(f"| {name} | {1000 * row['seconds']:.0f} | {1000 * row['seconds_known_note']:.0f} | {share} | "
                     f"{row['cold_seconds']:.1f} s | {row['peak_growth_bytes'] / 1e6:.0f} MB | "
                     f"{(row['macs'] + row['text_macs']) / 1e9:.1f} |")  # fmt: skip
    lines.append(_against_goals(result))
    many = result["throughput"]["base: openvino"]["notes"]
    seconds = ", ".join(f"{number}: {1000 * taken:.0f}" for number, taken in many.items())
    imports = result["imports"]["beyond_torch_transformers_torchvision_timm"]
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    lines.append(
        f"\nThe roof, {1000 * roof:.0f} ms, is `base` with nothing saved and without its text encoder at the rate of one "
        f"large matrix product ({result['macs_per_second'] / 1e9:.0f} G multiply-adds per second{_by_library(result)}); a "
        f"note that is known was encoded before. Milliseconds for N notes of one image (`base`, OpenVINO): {seconds}. "
        f"`import reclmis` with its model takes {imports:.2f} s beyond torch, torchvision, transformers and timm. "
        f"`{result['command']}`, medians of {result['repeats']} {result.get('method', 'answers in turns')}, random weights; "
        f"{versions}."
    )
    return "\n".join(lines)


def _by_library(result: dict) -> str:
    rates = result.get("macs_per_second_by_library")
    return f": oneDNN {rates['oneDNN'] / 1e9:.0f}, MKL, which `@` calls, {rates['MKL'] / 1e9:.0f}" if rates else ""


def _against_goals(result: dict) -> str:
    rows, roof, runtimes = result["rows"], result["roof_seconds"], ("onnxruntime", "openvino")

    def known(name: str) -> float:
        return rows[name]["seconds_known_note"]

    exported = min(known(f"base: {which}") for which in runtimes)
    pytorch = min(known(name) for name in rows if name.startswith("base: pytorch"))
    eights = min(known(f"base: {which}, int8") for which in runtimes)
    small = min(row["seconds"] for name, row in rows.items() if name.startswith("small") and "int8" not in name)
    small_eights = min(rows[f"small: {which}, int8"]["seconds"] for which in runtimes)
    clipseg = rows["CLIPSeg (transformers): pytorch"]["seconds"]
    return (
        f"\nAgainst the goals, with the faster of each: `base` exported, {exported / roof:.2f} of the roof (goal 1.05); in "
        f"PyTorch, {pytorch / roof:.2f} (goal 1.15); in int8, {eights / exported:.2f} of float32 (goal 0.6); `small`, "
        f"{clipseg / small:.1f} times as fast as CLIPSeg, and {clipseg / small_eights:.1f} times in int8 (goal "
        f"5).{_parity(result, runtimes)}"
    )


def _parity(result: dict, runtimes: tuple[str, ...]) -> str:
    if "parity" not in result:
        return ""
    apart = max(row[which] / row["deviation"] for row in result["parity"].values() for which in runtimes)
    return (f" Over all presets and both runtimes no export's logit differs from PyTorch's by more than {apart:.0e} of "
            "their deviation.")  # fmt: skip


def tiles(result: dict) -> str:
    titles = {"whole": "the whole image at {size} pixels", "tiles": "tiles of {size} pixels, as they are"}
    lines = [f"| {result['dataset']}, validation, scored at the images' own size | Dice per image | IoU per image "
             "| Dice pooled | IoU pooled | seconds per image |", "|---|---|---|---|---|---|"]  # fmt: skip
    for name, run in result["runs"].items():
        found = run["evaluation"]
        title = titles[name].format(size=found["asked"].get("tile", 224))
        lines.append(f"{row(title, found['metrics'])} {found['seconds_per_image']:.2f} |")
    runs = result["runs"]
    first = runs["whole"]
    budgets = "; ".join(f"{name}: `{run['command']}`, {run['epochs']} epochs in {run['seconds'] / 60:.0f} minutes with "
                        f"{run['threads']} thread(s)" for name, run in runs.items())  # fmt: skip
    lines.append(f"\n`{result['command']}`, seed {first['seed']}, tiles asked with an overlap of "
                 f"{100 * runs['tiles']['evaluation']['asked']['overlap']:.0f} %, split sha256 "
                 f"`{first['evaluation']['sha256'][:12]}`. {budgets}.")  # fmt: skip
    return "\n".join(lines)


def quantization(result: dict) -> str:
    lines = ["| checkpoint | form | Dice per image | IoU per image | size | ms |", "|---|---|---|---|---|---|"]
    for name, run in result["runs"].items():
        for form, row in run["forms"].items():
            size = f"{row['bytes'] / 1e6:.1f} MB" if "bytes" in row else ""
            dice, iou = (100 * row["metrics"][metric] for metric in METRICS[:2])
            lines.append(f"| {name} | {form} | {dice:.2f} | {iou:.2f} | {size} | {1000 * row['seconds']:.0f} |")
    splits = "; ".join(f"{name}: {run['images']} validation images, split sha256 `{run['sha256'][:12]}`"
                       for name, run in result["runs"].items())  # fmt: skip
    lines.append(f"\n`benchmarks/quantization.py`, {result['threads']} threads, medians of {result['repeats']} answers in "
                 f"turns. {splits}.")  # fmt: skip
    return "\n".join(lines)


def ablations(result: dict) -> str:
    """The differences from the default, greatest loss first; the whole table is in ABLATIONS.md."""
    lines = [
        "| variant | Dice lost (-) or gained, mean | seed by seed | with another image's note |",
        "|---|---|---|---|",
    ]
    rows = result["variants"]
    kinds = rows["default"]["dice_per_image"]
    lines.append(f"| default: {kinds['right']:.1f} Dice per image |  | spread {rows['default']['spread']:.1f} | "
                 f"{kinds['shuffled']:.1f} |")  # fmt: skip
    others = {name: row for name, row in rows.items() if name != "default" and row["differences"]}
    for name, row in sorted(others.items(), key=lambda item: item[1]["difference"]):
        each = ", ".join(f"{value:+.1f}" for value in row["differences"])
        lines.append(f"| {name} | {row['difference']:+.1f} | {each} | {row['dice_per_image']['shuffled']:.1f} |")
    budget, seeds = result["budget"], ", ".join(map(str, result["seeds"]))
    fewer = any(len(row["differences"]) < len(result["seeds"]) for row in others.values())
    alone = "; a variant with fewer numbers had the first ones only" if fewer else ""
    lines.append(f"\n`{budget['preset']}`, {budget['image_size']} pixels, {budget['epochs']} epochs, {result['images']} "
                 f"validation images, split sha256 `{result['sha256'][:12]}`, seeds {seeds}{alone}.")  # fmt: skip
    return "\n".join(lines)


TABLES = {
    "ablations-qata": ablations,
    "ablations-synthetic": ablations,
    "absence-qata": absence,
    "speed": speed,
    "quantization": quantization,
    "absence-synthetic": absence,
    "training_floor": training_floor,
    "recipe_cost": recipe_cost,
    "data_loading": data_loading,
    "qata": qata,
    "monuseg": monuseg,
    "tiles": tiles,
    "synthetic": synthetic,
    "pruning": pruning,
    "training_cost": training_cost,
    "transfer": transfer,
}


def render(pages: dict[str, str]) -> dict[str, str]:
    """The pages with the text between `<!-- results:NAME -->` and `<!-- /results -->` written anew."""
    pages = dict(pages)
    for name, table in TABLES.items():
        result = RESULTS / f"{name}.json"
        begin, end = f"<!-- results:{name} -->", "<!-- /results -->"
        places = [page for page, text in pages.items() if begin in text]
        if len(places) != 1:
            raise SystemExit(
                f"{' and '.join(pages)} need one place for {name!r}, and have {len(places)}: {begin} and {end}."
            )
        before, _, rest = pages[places[0]].partition(begin)
        _, _, after = rest.partition(end)
        content = table(json.loads(result.read_text())) if result.is_file() else f"Not measured; see `{result.name}`."
        pages[places[0]] = f"{before}{begin}\n{content}\n{end}{after}"
    return pages


def main() -> None:
    old = {page: (ROOT / page).read_text() for page in PAGES}
    new = render(old)
    if "--check" in sys.argv[1:]:
        if old != new:
            raise SystemExit(f"{' or '.join(PAGES)} differs from benchmarks/results; run python benchmarks/report.py.")
        return
    for page, text in new.items():
        (ROOT / page).write_text(text)


if __name__ == "__main__":
    main()
