"""Notes of this field as data: parsed, written, mirrored, and held against masks. Needs numpy and nothing else.

```python
parse_note("lowerl left lung, oneinfected area").finding         # Finding(count=1, left={"lower"})
note_from_mask(mask, orientation="image")                        # "Unilateral pulmonary infection, one infected area, ..."
fits("LLL opacity", mask, orientation="patient").sides           # True, False, or None where the note does not say
```
"""

from .alteration import paraphrased, side_swapped, with_typos, word_order_shuffled, zone_swapped
from .contradiction import contradicting_note
from .finding import KINDS, SIDES, ZONES, Finding, Orientation, Zone
from .geometry import QATA, Geometry, NoteFit, finding_from_mask, fits, note_from_mask
from .mirroring import mirror_note, note_survives
from .parser import Correction, ParsedNote, note_count, note_zones, parse_note
from .writing import normalise_note, paraphrases, render

__all__ = [
    "KINDS",
    "QATA",
    "SIDES",
    "ZONES",
    "Correction",
    "Finding",
    "Geometry",
    "NoteFit",
    "Orientation",
    "ParsedNote",
    "Zone",
    "contradicting_note",
    "finding_from_mask",
    "fits",
    "mirror_note",
    "normalise_note",
    "note_count",
    "note_from_mask",
    "note_survives",
    "note_zones",
    "paraphrased",
    "paraphrases",
    "parse_note",
    "render",
    "side_swapped",
    "with_typos",
    "word_order_shuffled",
    "zone_swapped",
]
