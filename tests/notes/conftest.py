"""All real notes, where a development checkout has them, and findings of every kind, always."""

from itertools import chain, combinations, product
from pathlib import Path

import pytest

from reclmis.data.tables import read_note_table
from reclmis.notes import KINDS, ZONES, Finding

HEIGHTS = [None, *map(frozenset, chain.from_iterable(combinations(ZONES, k) for k in range(len(ZONES) + 1)))]


@pytest.fixture(scope="session")
def real_notes(shared: Path) -> list[str]:
    tables = sorted([*(shared / "data").glob("*/*/*_text.xlsx"), *(shared / "data").glob("*-notes/*.csv")])
    if not tables:
        pytest.skip(f"No tables of notes in {shared / 'data'}.")
    return [note for table in tables for _, note in read_note_table(table)]


@pytest.fixture(scope="session")
def every_finding() -> list[Finding]:
    """All combinations of heights on both sides, and in turn each kind and several counts."""
    counts = (None, 1, 2, 12, 13, 40, 999)
    places = [(left, right) for left, right in product(HEIGHTS, HEIGHTS) if left is not None or right is not None]
    findings = [
        Finding(kind=KINDS[number % len(KINDS)], count=count, left=left, right=right)
        for number, ((left, right), count) in enumerate(product(places, counts))
    ]
    for kind in KINDS:
        findings += [Finding(kind=kind, laterality=extent, count=count)
                     for extent, count in product((None, "unilateral", "bilateral"), counts)]  # fmt: skip
        findings.append(Finding(present=False, kind=kind))
    return findings
