"""How good a model is, in both metric families, and how much of that it owes to the note."""

from .absence import absence
from .metrics import SegmentationMeter
from .text_dependence import text_dependence
from .text_only import TextOnlyPredictor

__all__ = ["SegmentationMeter", "TextOnlyPredictor", "absence", "text_dependence"]
