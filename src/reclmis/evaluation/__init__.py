"""How good a model is, in both metric families, and how much of that it owes to the note."""

from .absence import absence
from .metrics import SegmentationMeter
from .scores import Evaluation, ImageScore, score_image, score_split
from .statistics import bootstrap, compare
from .text_dependence import text_dependence
from .text_only import TextOnlyPredictor

__all__ = [
    "Evaluation",
    "ImageScore",
    "SegmentationMeter",
    "TextOnlyPredictor",
    "absence",
    "bootstrap",
    "compare",
    "score_image",
    "score_split",
    "text_dependence",
]
