"""What a model makes of an image before it hears a note, so that one image answers many notes."""

# Shapes: B images, C width.

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True)
class ImageEmbeddings:
    """The part of the work that depends on the image alone: the backbone, and the decoder's side of every skip.

    They belong to the model that made them, in the form it had then: those of a model and those of its optimised copy
    differ.

    Attributes:
        visual: V `[B, C, h, w]`.
        skips: prepared skips `[B, C_i, h_i, w_i]`, coarse to fine.
        image_size: `(height, width)` of the pixel values that they were made from.
        optimized: whether an optimised model made them.
    """

    visual: torch.Tensor
    skips: tuple[torch.Tensor, ...]
    image_size: tuple[int, int]
    optimized: bool = False

    def __len__(self) -> int:
        return len(self.visual)

    def __getitem__(self, rows: slice | Sequence[int]) -> "ImageEmbeddings":
        """Those of some images, by a slice or a list of row numbers; a number may occur more than once."""
        if isinstance(rows, int):
            raise TypeError(f"One row is a slice or a list of one number: [{rows}:{rows + 1}] or [[{rows}]].")
        chosen = rows if isinstance(rows, slice) else list(rows)
        return replace(self, visual=self.visual[chosen], skips=tuple(skip[chosen] for skip in self.skips))

    @classmethod
    def concatenate(cls, parts: Sequence["ImageEmbeddings"]) -> "ImageEmbeddings":
        """Those of several batches as one.

        Raises:
            ValueError: no batches, or images that were prepared at different sizes.
        """
        sizes = sorted({part.image_size for part in parts})
        if len(sizes) != 1:
            named = ", ".join(f"{height} x {width}" for height, width in sizes) or "no images at all"
            raise ValueError(f"Embeddings of one batch come from images of one size, got {named}.")
        if len(parts) == 1:
            return parts[0]
        skips = tuple(torch.cat(same) for same in zip(*(part.skips for part in parts), strict=True))
        return replace(parts[0], visual=torch.cat([part.visual for part in parts]), skips=skips)


__all__ = ["ImageEmbeddings"]
