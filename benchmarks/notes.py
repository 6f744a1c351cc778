"""How much of the field's own notes the parser understands, and how well QaTa-COV19's notes agree with its masks.

    python benchmarks/notes.py --data path/to/datasets

`path/to/datasets` holds one folder per corpus, with tables of notes in it; `QaTa-COV19` is read with its masks. Heights are
searched on its training split alone, and the search's winner is compared with what the library ships. Writes
`benchmarks/results/notes.json`.
"""

import argparse
import json
import time
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np

from reclmis.data import load_dataset_by_name, read_mask
from reclmis.data.tables import TABLE_SUFFIXES, read_note_table
from reclmis.notes import (
    QATA,
    SIDES,
    ZONES,
    Geometry,
    finding_from_mask,
    fits,
    mirror_note,
    normalise_note,
    parse_note,
    render,
)

RESULTS = Path(__file__).resolve().parent / "results"
# Heights a search step apart, as shares of the image's height. `first` stays well below `upper`: where they meet, no single
# area can be called "middle lower", though that agrees 0.3 points better, because annotators mostly write "lower".
GRID = {"upper": np.arange(0.22, 0.36, 0.02), "lower": np.arange(0.44, 0.70, 0.02),
        "first": np.arange(0.34, 0.42, 0.02), "last": np.arange(0.42, 0.60, 0.04)}  # fmt: skip
THIRDS = Geometry(1 / 3, 2 / 3, (1 / 3, 2 / 3))


def corpus(folder: Path) -> dict:
    """What the parser makes of all notes of one corpus."""
    tables = sorted(path for path in folder.rglob("*") if path.suffix.lower() in TABLE_SUFFIXES)
    notes = [note for table in tables for _, note in read_note_table(table)]
    parsed = {note: parse_note(note) for note in set(notes)}
    status = Counter(parsed[note].status for note in notes)
    # An empty slot is a template's doing, not a misspelling.
    misspelt = sum(any(read for _, read in parsed[note].corrections) for note in notes)
    quirks = Counter(f"{c.written!r} -> {c.read!r}" for note in notes for c in parsed[note].corrections)
    contradictions = Counter(text for note in notes for text in parsed[note].contradictions)
    findings = {parsed[note].finding for note in notes} - {None}
    return {
        "notes": len(notes),
        "unique": len(parsed),
        "share_of_notes": {name: status[name] / len(notes) for name in ("complete", "partial", "unparsed")},
        "share_misspelt": misspelt / len(notes),
        "share_changed_by_normalising": sum(normalise_note(note) != note for note in notes) / len(notes),
        "unique_after_normalising": len({normalise_note(note) for note in parsed}),
        "corrections": dict(quirks.most_common()),
        "contradictions": dict(contradictions.most_common()),
        "not_understood": sorted(
            {word for note in notes if parsed[note].finding for word in parsed[note].not_understood}
        ),
        "findings": len(findings),
        "findings_read_back": sum(parse_note(render(finding)).finding == finding for finding in findings),
        "unique_mirrored": sum(mirror_note(note) is not None for note in parsed),
    }


def agreement(notes: list[str], masks: list[np.ndarray], geometry: Geometry = QATA) -> dict:
    """Shares of the notes that agree with their masks, of those that say something of the matter."""
    rows = [fits(note, mask, orientation="image", geometry=geometry) for note, mask in zip(notes, masks, strict=True)]
    shares = {}
    for part in ("presence", "sides", "count", "zones", "zone_overlap"):
        values = [getattr(row, part) for row in rows if getattr(row, part) is not None]
        shares[part] = {"share": float(np.mean(values)), "notes": len(values)}
    other = [fits(note, mask, orientation="patient").sides for note, mask in zip(notes, masks, strict=True)]
    shares["sides_if_left_were_the_patients"] = {"share": float(np.mean([side is True for side in other]))}
    return shares


def per_side(notes: list[str], masks: list[np.ndarray], geometry: Geometry) -> tuple[float, float]:
    """Share of sides, named and seen, whose heights agree exactly; and the mean of that share over what sides are said to
    be ("lower", "upper lower", ...), in which "lower" and "all" do not outvote the rest."""
    right: dict[frozenset, list[bool]] = {}
    for note, mask in zip(notes, masks, strict=True):
        stated, seen = parse_note(note).finding, finding_from_mask(mask, orientation="image", geometry=geometry)
        for side in SIDES:
            if stated and stated.heights(side) and seen.heights(side):
                right.setdefault(stated.heights(side), []).append(stated.heights(side) == seen.heights(side))
    return float(np.mean([holds for values in right.values() for holds in values])), float(
        np.mean([np.mean(values) for values in right.values()])
    )


def search(notes: list[str], masks: list[np.ndarray]) -> Geometry:
    """The heights with the highest sum of both of [`per_side`]'s shares."""
    from reclmis.notes.geometry import _areas

    edges, owners, said = [], [], []
    for note, mask in zip(notes, masks, strict=True):
        stated, areas = parse_note(note).finding, _areas(mask != 0)
        for side in SIDES:
            extents = [area[side] for area in areas if side in area]
            if stated and stated.heights(side) and extents:
                edges += extents
                owners += [len(said)] * len(extents)
                said.append([height in stated.heights(side) for height in ZONES])
    (tops, bottoms), owner, truth = np.array(edges).T, np.array(owners), np.array(said)
    kinds = truth @ (1, 2, 4)

    def score(geometry: Geometry) -> float:
        upper, lower = tops < geometry.upper, bottoms > geometry.lower
        middle = (tops < geometry.middle[0]) & (bottoms > geometry.middle[1]) | ~(upper | lower)
        seen = np.stack([np.bincount(owner, row) > 0 for row in (upper, middle, lower)], axis=1)
        exact = (seen == truth).all(axis=1)
        return exact.mean() + np.mean([exact[kinds == kind].mean() for kind in np.unique(kinds)])

    tried = (Geometry(*map(float, (upper, lower)), (float(first), float(last)))
             for upper, lower, first, last in product(*GRID.values()))  # fmt: skip
    return max(tried, key=score)


def qata(folder: Path) -> dict:
    splits = load_dataset_by_name(str(folder), splits=["train", "validation"], verify=False)
    data = {name: (list(split["note"]), [read_mask(mask) for mask in split["mask"]]) for name, split in splits.items()}
    found = search(*data["train"])
    candidates = {"shipped": QATA, "searched_on_train": found, "thirds_of_the_image": THIRDS}
    heights = {
        name: {
            "geometry": [round(float(value), 4) for value in (geometry.upper, geometry.lower, *geometry.middle)],
            **{split: dict(zip(("sides_exact", "sides_exact_balanced"), per_side(*data[split], geometry), strict=True))
               for split in data},
        }
        for name, geometry in candidates.items()
    }  # fmt: skip
    return {"agreement": {split: agreement(*data[split]) for split in data}, "heights": heights}


def speed(notes: list[str]) -> float:
    """Microseconds per note that was not read before."""
    parse_note.cache_clear()
    start = time.perf_counter()
    for note in notes:
        parse_note(note)
    return 1e6 * (time.perf_counter() - start) / len(notes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the corpora")
    root = parser.parse_args().data
    folders = [path for path in sorted(root.iterdir()) if path.is_dir()]
    result: dict = {"corpora": {folder.name: corpus(folder) for folder in folders}}
    unique = sorted({note for folder in folders for table in folder.rglob("*")
                     if table.suffix.lower() in TABLE_SUFFIXES for _, note in read_note_table(table)})  # fmt: skip
    result["microseconds_per_new_note"] = round(speed(unique), 1)
    if (root / "QaTa-COV19").is_dir():
        result["QaTa-COV19"] = qata(root / "QaTa-COV19")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "notes.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
