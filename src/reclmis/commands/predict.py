"""`reclmis predict`: images and notes -> mask and overlay PNGs; volumes and a note -> NIfTI masks."""

import argparse
import json
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import one_line
from ..files import replacing, sha256_of
from . import CommandError
from .loading import add_backend_argument, load_exported, load_model

SETTINGS = "predictions.json"
PICTURE, VOLUME = "_mask.png", "_mask.nii.gz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images",
        nargs="*",
        type=Path,
        help="images, DICOM, NIfTI, or folders of them; a folder of one DICOM series is a volume",
    )
    parser.add_argument("--model", required=True, help="folder or Hub id")
    parser.add_argument("--note", action="append",
                        help="what to look for, for every image; may be given several times")  # fmt: skip
    parser.add_argument("--no-note", action="store_true", default=None,
                        help="ask a model with a null note for all that it finds")  # fmt: skip
    parser.add_argument("--table", "--csv", type=Path, help="CSV or Excel table: a column of images, one of notes")
    parser.add_argument("--output", type=Path, default=Path("predictions"), help="folder for the PNGs")
    parser.add_argument("--threshold", type=probability, default=0.5, help="least foreground probability, 0 to 1")
    parser.add_argument("--batch-size", type=positive_integer, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--optimize", action="store_true", default=None,
                        help="fewer operations, the same mask up to rounding")  # fmt: skip
    add_backend_argument(parser)
    bulk = parser.add_argument_group("many images")
    bulk.add_argument("--resume", action="store_true", help="leave out what an interrupted run has written already")
    bulk.add_argument("--share", type=share_of, metavar="I/N",
                      help="only every N-th image from the I-th on (from 0), for N processes with one output; "
                      "`accelerate launch` and torchrun give each of their processes its own")  # fmt: skip
    large = parser.add_argument_group("large images")
    large.add_argument("--tile", type=positive_integer, metavar="PIXELS",
                       help="cut images into overlapping squares of this side, and ask each by itself")  # fmt: skip
    large.add_argument("--overlap", type=share, default=0.25, help="of neighbouring tiles, 0 to below 1")
    volumes = parser.add_argument_group("volumes")
    volumes.add_argument("--orientation", choices=("image", "patient"),
                         help="whose left the note means; needed for volumes")  # fmt: skip
    volumes.add_argument("--window", type=window_of, help="lung, mediastinum, bone, brain, ..., full, or LEVEL,WIDTH")
    volumes.add_argument("--plane", choices=("axial", "coronal", "sagittal"), default="axial")
    volumes.add_argument("--view", choices=("radiological", "neurological"), default="radiological",
                         help="radiological: the patient's right is on the image's left")  # fmt: skip
    parser.add_argument("--overlay", action=argparse.BooleanOptionalAction, default=True, help="also write overlays")
    parser.add_argument("--prune", action=argparse.BooleanOptionalAction, default=True,
                        help="leave out what only training needs")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    args.share, args.device = _place(args.share, args.device)
    images, volumes = sort_out(args.images)
    if volumes:
        _check_volume_arguments(args)
    requests = (
        []
        if volumes and not images and args.table is None
        else collect_requests(images, args.note, args.table, args.no_note)
    )
    stems = output_stems([path for path, _ in requests])
    volume_stems = output_stems(volumes)
    try:
        args.output.mkdir(parents=True, exist_ok=True)
        questions = {f"{stem}{PICTURE}": _question(*request) for stem, request in zip(stems, requests, strict=True)}
        questions |= {
            f"{stem}{VOLUME}": _question(path, None) for stem, path in zip(volume_stems, volumes, strict=True)
        }
        settings, known = _checked_settings(args, questions)
    except OSError as error:
        raise CommandError(f"cannot write to {args.output}: {error}.") from error
    requests, stems = _remaining(args, requests, stems, PICTURE, known)
    volumes, volume_stems = _remaining(args, volumes, volume_stems, VOLUME, known)
    if not requests and not volumes:
        print(f"Nothing left to do: {args.output} has every mask.")
        return 0
    model, processor = _loaded(args)
    try:
        # What is about to be asked anew must not pass for answered if this run is interrupted.
        for name in (*(f"{stem}{PICTURE}" for stem in stems), *(f"{stem}{VOLUME}" for stem in volume_stems)):
            (args.output / name).unlink(missing_ok=True)
        with replacing(args.output / SETTINGS) as temporary:
            temporary.write_text(settings)
    except OSError as error:
        raise CommandError(f"cannot write to {args.output}: {error}.") from error
    if args.no_note and not model.config.note_dropout:
        raise CommandError(f"{args.model} was trained with notes only: give --note or --table.")
    _announce_long_notes(processor, [note for _, note in requests] + (args.note if volumes else []))
    failures = _write_masks(args, model, processor, requests, stems)
    for path, stem in zip(volumes, volume_stems, strict=True):
        failures += _write_volume(args, model, processor, path, stem)
    asked = len(requests) + len(volumes)
    done = asked - len(failures)
    print(f"{done} of {asked} image(s) segmented into {args.output}.")
    for failure in failures:
        print(f"reclmis predict: {failure}", file=sys.stderr)
    return 0 if not failures else (1 if done else 2)


def _place(share: tuple[int, int] | None, device: str) -> tuple[tuple[int, int], str]:
    """This process's share and device: as said, or as the launcher that started it has numbered it.

    Processes write files and send each other nothing, so one that fails or is slow holds up none of the others.
    """
    try:
        number, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    except (KeyError, ValueError):
        number, processes = 0, 1  # not set by a launcher, which sets both
    if device == "cuda" and processes > 1:
        device = f"cuda:{os.environ.get('LOCAL_RANK', number)}"
    if share is not None or processes == 1:
        return share or (0, 1), device
    if not 0 <= number < processes:
        raise CommandError(f"RANK is {number} and WORLD_SIZE {processes}: unset them, or say --share I/N.")
    print(f"Share {number}/{processes}, as the launcher says.")
    return (number, processes), device


def _loaded(args: argparse.Namespace) -> tuple[Any, Any]:
    if args.backend == "torch":
        model, processor = load_model(args.model, prune=args.prune, device=args.device)
        return (model.optimize_for_inference() if args.optimize else model), processor
    if args.device != "cpu":
        raise CommandError(f"--backend {args.backend} computes on the CPU; leave --device {args.device} out.")
    if args.optimize:
        raise CommandError("--optimize is chosen when a model is exported; leave it out.")
    return load_exported(args.model, args.backend)


def _remaining(
    args: argparse.Namespace, asked: list, stems: list[str], ending: str, known: set[str] | None
) -> tuple[list, list[str]]:
    """What this process shall do and has not done. A mask is written last and whole, so that it stands for all of it.

    Args:
        known: masks that the folder's record names; `None` where it names none.
    """
    first, step = args.share

    def is_done(name: str) -> bool:
        return args.resume and (args.output / name).is_file() and (known is None or name in known)

    wanted = [(request, stem) for request, stem in list(zip(asked, stems, strict=True))[first::step]
              if not is_done(f"{stem}{ending}")]  # fmt: skip
    return [request for request, _ in wanted], [stem for _, stem in wanted]


def _checked_settings(args: argparse.Namespace, questions: dict[str, list[Any]]) -> tuple[str, set[str] | None]:
    """What the masks of this folder depend on, to be kept beside them: settings, and `questions` by the masks' names. And
    the names of the masks that were asked before.

    Raises:
        CommandError: a run is resumed with other settings, which would mix two kinds of masks.
    """
    names = (
        "model",
        "note",
        "no_note",
        "optimize",
        "table",
        "threshold",
        "backend",
        "tile",
        "overlap",
        "orientation",
        "window",
        "plane",
        "view",
    )
    settings = json.loads(json.dumps({name: getattr(args, name) for name in names}, default=str))
    settings["weights"] = _identity(Path(args.model))
    settings["asked"] = questions
    path = args.output / SETTINGS
    known: set[str] | None = None
    if args.resume and not path.is_file() and any(args.output.glob("*_mask.*")):
        raise CommandError(
            f"{args.output} holds masks, but no {SETTINGS} that says how they were made; give another folder."
        )
    if args.resume and path.is_file():
        try:
            before = dict(json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise CommandError(f"{path} cannot be read ({error}); give another folder.") from error
        changed = [name for name in names if before.get(name) != settings[name]]
        if not changed and before.get("weights") != settings["weights"]:
            raise CommandError(
                f"{args.model} holds other weights than when {args.output} was begun; give another folder."
            )
        if changed:
            name, now = changed[0], settings[changed[0]]
            begun = f"{args.output} was begun with --{name} {before.get(name)}, not {now}"
            raise CommandError(f"{begun}; give the same settings, or another folder.")
        asked_before = before.get("asked", {})
        known = set(asked_before) if "asked" in before else None
        for stem, question in questions.items():
            if asked_before.get(stem, question) != question:
                raise CommandError(
                    f"{args.output} was begun with another image or note for {stem} "
                    f"({', '.join(map(str, asked_before[stem]))}); give another folder."
                )
        settings["asked"] = {**asked_before, **questions}
    return json.dumps(settings, indent=1) + "\n", known


def _question(image: Path, note: str | None) -> list[Any]:
    """What a mask answers: file, its bytes, and note."""
    try:
        size = image.stat().st_size if image.is_file() else None  # a series is a folder
    except OSError:  # told when it is read
        size = None
    return [str(image), size, note]


def _identity(folder: Path) -> dict[str, str] | None:
    """Which weights a folder holds, by their hashes; `None` for a Hub id."""
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.onnx*")])
    return {path.name: sha256_of(path) for path in files} if files else None


def _check_volume_arguments(args: argparse.Namespace) -> None:
    if args.orientation is None:
        raise CommandError(
            "say whose left the note means: --orientation patient as in a report, or --orientation image as in the notes "
            "that models of this field learn from. In a radiological view the two are opposite."
        )
    if args.no_note:
        raise CommandError("volumes need --note, with --orientation.")
    if args.tile is not None:
        raise CommandError("slices of a volume are not cut into tiles; leave --tile out.")
    if args.note is None or len(args.note) != 1 or not args.note[0].strip():
        raise CommandError("volumes need one --note: what to look for in all of their slices.")


def _write_volume(args, model, processor, path: Path, stem: str) -> list[str]:
    """Writes the mask of one volume, and returns a sentence where that cannot be done."""
    from ..medical import predict_volume, read_volume, save_mask
    from ..visualization import overlay, save_picture

    try:
        volume = read_volume(path, window=args.window, plane=args.plane, view=args.view)
        answer = predict_volume(
            model, processor, volume, args.note[0], orientation=args.orientation, batch_size=args.batch_size,
            threshold=args.threshold, progress=True,
        )  # fmt: skip
    except (ValueError, ImportError) as error:
        return [f"{path}: {error}" if str(path) not in str(error) else str(error)]
    try:
        if args.overlay:
            largest = int((answer.mask > 0).sum(axis=(1, 2)).argmax())
            picture = overlay(Image.fromarray(volume.slices[largest]), answer.mask[largest])
            save_picture(picture, args.output / f"{stem}_overlay.png")
        save_mask(volume, answer.mask, args.output / f"{stem}_mask.nii.gz")
    except OSError as error:
        raise CommandError(f"cannot write to {args.output}: {error}.") from error
    return []


def _write_masks(args, model, processor, requests, stems) -> list[str]:
    """Writes what can be answered, and returns a sentence for whatever could not."""
    from tqdm.auto import tqdm

    from ..prediction import predict
    from ..processing_reclmis import NoteTooLongWarning
    from ..visualization import mask_image, overlay, save_picture

    failures: list[str] = []
    bar = tqdm(total=len(requests), desc="predict", unit="image", disable=len(requests) < 2)

    def note_failure(source: str, error: ValueError) -> None:
        failures.append(str(error))
        bar.update()

    with bar, warnings.catch_warnings():
        warnings.simplefilter("ignore", NoteTooLongWarning)  # announced already, all at once
        options = {"batch_size": args.batch_size, "threshold": args.threshold, "on_error": note_failure,
                   "tile": args.tile, "overlap": args.overlap}  # fmt: skip
        for prediction in _answered(predict(model, processor, requests, **options)):
            target = args.output / stems[prediction.index]
            try:
                if args.overlay:
                    save_picture(overlay(prediction.image, prediction.mask), f"{target}_overlay.png")
                if prediction.presence is not None:
                    with replacing(Path(f"{target}_presence.json")) as temporary:
                        temporary.write_text(json.dumps({"presence": prediction.presence}) + "\n")
                save_picture(mask_image(prediction.mask, model.config.num_labels), f"{target}_mask.png")
            except OSError as error:
                raise CommandError(f"cannot write to {args.output}: {error}.") from error
            if prediction.presence is not None:
                verdict = "" if prediction.presence >= 0.5 else ": taken as absent, the mask is empty"
                bar.write(f"{prediction.source}: shown with probability {prediction.presence:.2f}{verdict}")
            bar.update()
    return failures


def _answered(predictions: Iterator[Any]) -> Iterator[Any]:
    """Predictions, and a sentence for what concerns them all."""
    try:
        yield from predictions
    except ValueError as error:
        raise CommandError(one_line(error)) from error


def _announce_long_notes(processor, notes: list[str | None]) -> None:
    """One sentence for all notes that will be cut, instead of one per batch.

    Raises:
        CommandError: the model's processor is strict and refuses them.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            processor.tokenize(list(dict.fromkeys(notes)))
        except ValueError as error:
            raise CommandError(str(error)) from error
    for warning in caught:
        print(f"reclmis predict: {warning.message}", file=sys.stderr)


def collect_requests(
    images: list[Path], notes: list[str] | None, table: Path | None, no_note: bool | None = None
) -> list[tuple[Path, str]] | list[tuple[Path, None]]:
    """Pairs of path and note, from files and folders with the same notes or none, or from a table.

    Images without a table row, and an empty note, end the command; what is wrong with a single image does not.

    Raises:
        CommandError: nothing to do, an empty note, or a table that does not fit the images.
    """
    if notes is not None and table is not None:
        raise CommandError("give either --note for all images, or --table with one note per image, not both.")
    if no_note and (notes is not None or table is not None):
        raise CommandError("--no-note goes without --note and --table.")
    if no_note:
        if not images:
            raise CommandError("give at least one image.")
        return [(path, None) for path in images]
    if table is not None:
        return _requests_of_table(images, table)
    if notes is None:
        raise CommandError("say what to look for: --note for all images, or --table with one note per image.")
    if not all(note.strip() for note in notes):
        raise CommandError("the note is empty; say what to look for, as in --note 'upper left lung'.")
    if not images:
        raise CommandError("give at least one image.")
    return [(path, note) for path in images for note in notes]


def sort_out(paths: list[Path]) -> tuple[list[Path], list[Path]]:
    """Images, and volumes: NIfTI files, DICOM files of several frames, folders of one DICOM series; also within folders."""
    from ..medical import is_volume

    images: list[Path] = []
    volumes: list[Path] = []
    for path in paths:
        try:
            if is_volume(path):
                volumes.append(path)
            elif path.is_dir():
                for file in _files_in(path):
                    (volumes if is_volume(file) else images).append(file)
            else:
                images.append(path)
        except (ValueError, ImportError) as error:
            raise CommandError(str(error)) from error
    return images, volumes


def _files_in(folder: Path) -> list[Path]:
    from ..data.pairing import IMAGE_SUFFIXES
    from ..medical import is_dicom, is_nifti

    def wanted(path: Path) -> bool:
        return path.is_file() and (path.suffix.lower() in IMAGE_SUFFIXES or is_nifti(path) or is_dicom(path))

    inside = [path for path in sorted(folder.iterdir()) if wanted(path)]
    if not inside:
        raise CommandError(f"the folder {folder} holds no image ({', '.join((*IMAGE_SUFFIXES, '.nii', '.nii.gz'))}).")
    return inside


def _requests_of_table(files: list[Path], table: Path) -> list[tuple[Path, str]]:
    """Without files, those that the table names, beside it; an image may have several notes."""
    from ..data.pairing import canonical
    from ..data.tables import read_note_table

    try:
        rows = read_note_table(table)
    except (OSError, ValueError) as error:
        raise CommandError(str(error)) from error
    if not rows:
        raise CommandError(f"{table} has a header, but no rows.")
    if not files:
        return [(table.parent / name, text) for name, text in rows]
    notes: dict[str, list[str]] = {}
    for name, text in rows:
        notes.setdefault(canonical(name), []).append(text)
    without = [str(path) for path in files if canonical(path.name) not in notes]
    if without:
        raise CommandError(f"{table} has no note for {', '.join(without[:5])}{' ...' if len(without) > 5 else ''}.")
    return [(path, text) for path in files for text in notes[canonical(path.name)]]


def output_stems(paths: list[Path]) -> list[str]:
    """A file name without ending for each request. Images that share a stem carry their folder's and full name, and an
    image that is asked several questions carries their number from the second on.

    Raises:
        CommandError: two images would still be written to one file.
    """
    sharing = Counter(_stem(path) for path in dict.fromkeys(paths))
    stems: list[str] = []
    asked: Counter[Path] = Counter()
    for path in paths:
        asked[path] += 1
        alone = sharing[_stem(path)] == 1
        stem = _stem(path) if alone else f"{path.parent.name}_{path.name.replace('.', '_')}"
        stems.append(stem if asked[path] == 1 else f"{stem}_{asked[path]}")
    uses = Counter(stems)
    twice = [str(path) for path, stem in zip(paths, stems, strict=True) if uses[stem] > 1]
    if twice:
        raise CommandError(f"{' and '.join(twice[:2])} would be written to one file; run them one folder at a time.")
    return stems


def _stem(path: Path) -> str:
    return path.name[: -len(".nii.gz")] if path.name.lower().endswith(".nii.gz") else path.stem


def window_of(text: str) -> str | tuple[float, float]:
    """A window by name, or `LEVEL,WIDTH`."""
    from ..medical.windows import FULL, WINDOWS

    if text in WINDOWS or text == FULL:
        return text
    try:
        level, width = (float(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be {', '.join(WINDOWS)}, {FULL} or LEVEL,WIDTH, got {text!r}") from None
    if width <= 0:
        raise argparse.ArgumentTypeError(f"needs a width above 0, got {text!r}")
    return level, width


def share_of(text: str) -> tuple[int, int]:
    """`I/N`."""
    try:
        part, parts = (int(number) for number in text.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be I/N, such as 0/4, got {text!r}") from None
    if not 0 <= part < parts:
        raise argparse.ArgumentTypeError(f"I goes from 0 to N - 1, got {text!r}")
    return part, parts


def probability(text: str) -> float:
    if not 0 <= (value := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"must lie between 0 and 1, got {text}")
    return value


def positive_integer(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def share(text: str) -> float:
    if not 0 <= (value := float(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to below 1, got {text}")
    return value
