"""The objective, one function per equation of the paper. Everything here computes in float32 or wider."""

# Shapes: B samples, N patches, L words, C width, K classes.

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch.nn import functional as F

from .interaction import masked_softmax

_IN_A_GRAPH = "The loss term {} is not finite."
_MEND = "Look for such values in the inputs, lower the learning rate, or clip gradients."


class NonFiniteLossError(ArithmeticError):
    """A loss term is nan or infinite. The message names every such term."""


def dice_loss(logits: torch.Tensor, labels: torch.Tensor, eps: float = 1e-5) -> torch.Tensor:
    """Soft Dice loss with squared denominators (eq. 11), the mean over images of
    1 - (2 sum p y + eps) / (sum p^2 + sum y^2 + eps).

    Args:
        logits: `[B, K, H, W]`. K = 1: p is the sigmoid. K > 1: p is the softmax, and the mean runs over classes too.
        labels: `[B, H, W]` class indices.
    """
    logits = _wide(logits)
    if logits.shape[1] == 1:
        probabilities, targets = logits.sigmoid(), labels.unsqueeze(1).to(logits.dtype)
    else:
        probabilities = logits.softmax(dim=1)
        targets = F.one_hot(labels.long(), logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    overlap = (probabilities * targets).sum(dim=(2, 3))
    size = probabilities.square().sum(dim=(2, 3)) + targets.square().sum(dim=(2, 3))
    return (1 - (2 * overlap + eps) / (size + eps)).mean()


def cross_entropy_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy per pixel (eq. 11): binary for `[B, 1, H, W]` logits, over K classes otherwise."""
    logits = _wide(logits)
    if logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(logits.squeeze(1), labels.to(logits.dtype))
    return F.cross_entropy(logits, labels.long())


def presence_loss(presence_logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of the presence logits `[B]` against whether the mask `[B, H, W]` has any foreground."""
    presence_logits = _wide(presence_logits)
    shown = (labels > 0).flatten(1).any(dim=1)
    return F.binary_cross_entropy_with_logits(presence_logits, shown.to(presence_logits.dtype))


def similarity(
    patches: torch.Tensor,
    words: torch.Tensor,
    patch_weights: torch.Tensor | None,
    word_weights: torch.Tensor | None,
    word_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Conditioned similarity S of every image to every note (eq. 5).

    S(v, e) = 1/2 (sum_i w_i max_j a_ij + sum_j w_j max_i a_ij), with a_ij the cosine of patch i and word j.

    Args:
        patches: `[B, N, C]` features of the images.
        words: `[B', L, C]` features of the notes.
        patch_weights: `[B, N]`, `None` for equal weights (Table 4).
        word_weights: `[B', L]`, `None` for equal weights over real words.
        word_mask: `[B', L]`, true where a word is real. Padding never wins a maximum and never carries weight.

    Returns:
        `[B, B']`, within -1 and 1.
    """
    patches, words = _wide(patches), _wide(words)
    alignment = torch.einsum("anc,blc->abnl", F.normalize(patches, dim=-1), F.normalize(words, dim=-1))
    real = torch.ones(words.shape[:2], dtype=torch.bool, device=words.device) if word_mask is None else word_mask.bool()
    # A cosine is at least -1, so -1 never hides a real word; a note without words aligns with nothing.
    best_word = alignment.masked_fill(~real[None, :, None, :], -1.0).amax(dim=3)
    best_patch = alignment.amax(dim=2)
    if patch_weights is None:
        patch_weights = patches.new_full(patches.shape[:2], 1 / patches.shape[1])
    if word_weights is None:
        word_weights = real / real.sum(dim=1, keepdim=True).clamp(min=1)
    word_weights = word_weights.to(words.dtype) * real
    by_patch = torch.einsum("an,abn->ab", patch_weights.to(patches.dtype), best_word)
    by_word = torch.einsum("bl,abl->ab", word_weights, best_patch)
    return (by_patch + by_word) / 2


def soften_twice(weights: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """The second softmax that the released code puts on weights of interest; it makes them nearly uniform."""
    return masked_softmax(weights, mask)


def contrastive_loss(
    similarities: torch.Tensor,
    temperature: float,
    same_note: torch.Tensor | None = None,
    given: torch.Tensor | None = None,
) -> torch.Tensor:
    """Symmetric cross-entropy over S / temperature (eq. 6).

    Args:
        similarities: `[B, B]`, row = image, column = note, pairs on the diagonal.
        temperature: tau.
        same_note: `[B, B]` bool, true where two samples carry the same note. Then every such pair is a positive, with
            an equal share; `None` takes the diagonal alone (eq. 6), which counts equal notes as negatives.
        given: `[B]` bool, false where a sample has no note: such samples take no part. `None` takes all.
    """
    logits = _wide(similarities) / temperature
    if same_note is None:
        targets = torch.eye(len(logits), device=logits.device, dtype=logits.dtype)
    else:
        targets = same_note.to(logits.dtype) / same_note.sum(dim=1, keepdim=True)
    if given is None:
        return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets.T)) / 2
    # Finite, as a target of 0 times an infinite logit is no number.
    logits = logits.masked_fill(~(given[:, None] & given[None]), torch.finfo(logits.dtype).min / 4)
    shares = given / given.sum().clamp(min=1)
    by_image = F.cross_entropy(logits, targets * given, reduction="none")
    by_note = F.cross_entropy(logits.T, targets.T * given, reduction="none")
    return ((by_image + by_note) * shares).sum() / 2


def reconstruction_loss(
    reconstructed: torch.Tensor,
    target: torch.Tensor,
    interest: torch.Tensor | None,
    weighting: Literal["interest", "uniform"] = "interest",
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Distance of reconstructed features to their target.

    `"interest"` is eq. 8 and 10: the mean over samples of 1/T sum_j w_j |t_j - r_j|^2, T counting real tokens.
    `"uniform"` is the released code's plain mean squared error over real tokens and channels.

    Args:
        reconstructed, target: `[B, T, C]`.
        interest: `[B, T]` weights; `None` counts as equal weights 1 / T.
        mask: `[B, T]`, true where a token is real.
    """
    errors = (_wide(reconstructed) - _wide(target)).square()
    real = torch.ones(errors.shape[:2], dtype=torch.bool, device=errors.device) if mask is None else mask.bool()
    if weighting == "uniform":
        return (errors.mean(dim=2) * real).sum() / real.sum().clamp(min=1)
    count = real.sum(dim=1).clamp(min=1)
    weights = real / count[:, None] if interest is None else interest * real
    return ((errors.sum(dim=2) * weights).sum(dim=1) / count).mean()


class LossWatch:
    """Finds a broken loss term without making the device wait for Python.

    The terms of a step travel to the host beside the computation and are looked at when the next step's arrive: an error is
    raised one step late. Copies of a watch, and of the model that holds it, begin anew.
    """

    def __init__(self) -> None:
        self._pending: tuple[list[str], torch.Tensor, torch.Event | None] | None = None

    def __call__(self, terms: dict[str, torch.Tensor]) -> None:
        """Takes a step's terms, and judges those of the step before.

        Raises:
            NonFiniteLossError: the step before had a term that is nan or infinite.
        """
        self.finish()
        values = torch.stack([value.detach() for value in terms.values()])
        arrived = None
        if values.device.type == "cpu":
            on_host = values
        else:
            on_host = values.to("cpu", non_blocking=True)
            arrived = torch.Event(device=values.device)
            arrived.record()
        self._pending = list(terms), on_host, arrived

    def finish(self) -> None:
        """Judges what is pending, as after the last step."""
        pending, self._pending = self._pending, None
        if pending is not None:
            names, values, arrived = pending
            if arrived is not None:
                arrived.synchronize()
            _check_finite(dict(zip(names, values.tolist(), strict=True)))

    def __deepcopy__(self, memo: Any) -> "LossWatch":
        return LossWatch()

    def __reduce__(self) -> tuple[Any, ...]:
        return LossWatch, ()


def total_loss(
    terms: dict[str, torch.Tensor], weights: dict[str, float], watch: LossWatch | None = None
) -> torch.Tensor:
    """Weighted sum of the terms (eq. 11).

    Args:
        terms: scalars by name.
        weights: by the same names.
        watch: looks for broken terms one step late, but lets the device run; `None` looks at once.

    Raises:
        KeyError: a term without a weight.
        NonFiniteLossError: a term is nan or infinite.
    """
    if torch.compiler.is_compiling():
        for name, value in terms.items():
            torch._assert_async(value.detach().isfinite(), _IN_A_GRAPH.format(repr(name)))
    elif watch is not None:
        watch(terms)
    else:
        _check_finite(dict(zip(terms, torch.stack(list(terms.values())).tolist(), strict=True)))
    return torch.stack([weights[name] * value for name, value in terms.items()]).sum()


@contextmanager
def finite_in_graphs() -> Iterator[None]:
    """A compiled model can only assert. Inside this, a loss term that breaks there raises what it does elsewhere.

    Raises:
        NonFiniteLossError: a term of a compiled model is nan or infinite.
    """
    try:
        yield
    except RuntimeError as error:
        found = re.search(_IN_A_GRAPH.format("'(\\w+)'"), str(error))
        if found is None:
            raise
        raise NonFiniteLossError(f"Loss term(s) not finite: {found[1]}. {_MEND}") from error


def _check_finite(values: dict[str, float]) -> None:
    broken = {name: value for name, value in values.items() if not math.isfinite(value)}
    if broken:
        raise NonFiniteLossError(
            f"Loss term(s) not finite: {', '.join(f'{name} = {value}' for name, value in broken.items())}. {_MEND}"
        )


def _wide(values: torch.Tensor) -> torch.Tensor:
    """float32 at least; float64 stays, so that gradients can be checked."""
    return values if values.dtype == torch.float64 else values.float()
