"""A volume and a note -> the mask of every slice."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..notes import Orientation, mirror_note, note_survives
from .volume import Volume


@dataclass(frozen=True)
class VolumePrediction:
    """The answer to a volume and a note.

    Attributes:
        mask: class indices uint8 `[N, H, W]`, in the frame of the volume's slices; [`save_mask`] writes it on the file's
            own grid.
        probability: foreground probability float32 `[N, H, W]`, where it was asked for.
        note: the sentence that the model was given.
    """

    mask: np.ndarray
    probability: np.ndarray | None
    note: str


def predict_volume(
    model: Any,
    processor: Any,
    volume: Volume,
    note: str,
    *,
    orientation: Orientation,
    batch_size: int = 8,
    threshold: float = 0.5,
    keep_probability: bool = False,
    progress: bool = False,
) -> VolumePrediction:
    """Segments every slice as the note says, in batches; beside the volume, no more than a batch is in memory.

    Args:
        model, processor: a [`RecLMISModel`] and its processor.
        volume: of [`read_volume`].
        note: what to look for.
        orientation: whose left the note means; there is no default, as the two differ in every axial slice. `"image"`: the
            left of the slices as they are shown, as in the notes that models of this field learn from. `"patient"`: the
            patient's, as in a report; in the radiological view this is the image's right, so the note is rewritten with
            [`reclmis.notes.mirror_note`] before the model reads it.
        batch_size: slices per forward pass.
        threshold: of the foreground probability, for binary models.
        keep_probability: return the probabilities, four bytes for each voxel (binary models).
        progress: show a bar.

    Raises:
        ValueError: an orientation that there is not, a note whose side cannot be exchanged, a side in sagittal slices, or
            what [`reclmis.prediction.predict`] refuses.
    """
    from ..prediction import predict

    asked = note_for(volume, note, orientation)
    if keep_probability and model.config.num_labels > 1:
        raise ValueError("`keep_probability` is for binary models; this one has several classes.")
    mask = np.zeros(volume.slices.shape, dtype=np.uint8)
    probability = np.zeros(mask.shape, dtype=np.float32) if keep_probability else None
    requests = ((Image.fromarray(pixels), asked) for pixels in _shown(volume.slices, progress))
    for answer in predict(model, processor, requests, batch_size=batch_size, threshold=threshold):
        mask[answer.index] = answer.mask
        if probability is not None:
            probability[answer.index] = answer.probability
    return VolumePrediction(mask, probability, asked)


def note_for(volume: Volume, note: str, orientation: Orientation) -> str:
    """The note in terms of the image, whose left is what models of this field call left.

    Raises:
        ValueError: see [`predict_volume`].
    """
    if orientation not in ("image", "patient"):
        raise ValueError(f"`orientation` says whose left the note means: 'image' or 'patient', got {orientation!r}.")
    if volume.plane == "sagittal":
        if not note_survives(note, "mirror") or mirror_note(note) != note:
            raise ValueError(
                f"The note {note!r} names a side, which sagittal slices do not show; cut axially or coronally."
            )
        return note
    if orientation == "image" or volume.view == "neurological":
        return note
    mirrored = mirror_note(note)
    if mirrored is None:
        raise ValueError(
            f"The sides of the note {note!r} cannot be exchanged with certainty, which the radiological view needs; reword "
            "it, or say it in terms of the image (orientation 'image')."
        )
    return mirrored


def _shown(slices: np.ndarray, progress: bool) -> Iterator[np.ndarray]:
    from tqdm.auto import tqdm

    return iter(tqdm(slices, desc="segment", unit="slice", disable=not progress))
