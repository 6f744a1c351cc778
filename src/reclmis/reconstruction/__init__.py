"""Conditioned reconstruction (paper 3.3, 3.4). Training only: a pruned model never imports this package."""

from .masking import draw_mask
from .reconstructor import ConditionedReconstructor

__all__ = ["ConditionedReconstructor", "draw_mask"]
