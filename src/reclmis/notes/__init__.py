"""Notes of this field as data: parsed, written, mirrored, and held against masks. Needs neither torch nor a network."""

from .finding import KINDS, SIDES, ZONES, Finding, Orientation, Zone
from .parser import Correction, ParsedNote, parse_note
from .writing import normalise_note, paraphrases, render
