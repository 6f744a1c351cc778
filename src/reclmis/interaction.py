"""Conditioned interaction (paper 3.2, Figure 4): image and note meet once, and each says what of it matters."""

# Shapes: B samples, C width, N patches (H/s * W/s at the coarsest stride s), L words of the note.

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from .attention import MultiHeadAttention


class WordProjection(nn.Module):
    """Text hidden states `[B, L, W]` -> E `[B, L, C]` by a 1-D convolution over the words, kernel 3.

    With a mask, padding is zero on both sides of the convolution, so the last real word sees what it would see at the
    end of an unpadded note.
    """

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_width, width, kernel_size=3, padding=1)

    def forward(self, states: torch.Tensor, word_mask: torch.Tensor | None) -> torch.Tensor:
        words = self.conv(_zero_padding(states, word_mask).transpose(1, 2)).transpose(1, 2)
        return _zero_padding(words, word_mask)


class WordRefinement(nn.Module):
    """E1 `[B, L, C]` -> E' = ReLU(BN(conv1d(E1))) (paper Figure 4). Statistics are those of the real words alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, kernel_size=3, padding=1)
        self.norm = MaskedBatchNorm1d(width)

    def forward(self, words: torch.Tensor, word_mask: torch.Tensor | None) -> torch.Tensor:
        words = self.conv(_zero_padding(words, word_mask).transpose(1, 2))
        return _zero_padding(F.relu(self.norm(words, word_mask)).transpose(1, 2), word_mask)


class MaskedBatchNorm1d(nn.BatchNorm1d):
    """Batch norm over `[B, C, L]` whose training statistics leave padded positions out."""

    running_mean: torch.Tensor
    running_var: torch.Tensor
    num_batches_tracked: torch.Tensor
    momentum: float

    def forward(self, values: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        if mask is None or not self.training:
            return super().forward(values)
        weights = mask[:, None, :].to(values.dtype)
        count = weights.sum().clamp(min=1)
        mean = (values * weights).sum(dim=(0, 2)) / count
        variance = ((values - mean[:, None]).square() * weights).sum(dim=(0, 2)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            unbiased = variance * count / (count - 1).clamp(min=1)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        normalised = (values - mean[:, None]) * torch.rsqrt(variance[:, None] + self.eps)
        return normalised * self.weight[:, None] + self.bias[:, None]


class PatchEmbedding(nn.Module):
    """V `[B, C, h, w]` -> tokens `[B, N, C]`: 1x1 convolution, learned position embedding, dropout.

    The position embedding is learned for one grid and resized (bicubic) for any other.
    """

    def __init__(self, width: int, grid: tuple[int, int], dropout: float, normalise: bool = False) -> None:
        super().__init__()
        self.grid = grid
        self.projection = nn.Conv2d(width, width, kernel_size=1)
        self.norm = nn.LayerNorm(width) if normalise else nn.Identity()
        self.position_embedding = nn.Parameter(torch.zeros(1, grid[0] * grid[1], width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        tokens = self.norm(self.projection(feature).flatten(2).transpose(1, 2))
        return self.dropout(tokens + self._positions(feature.shape[-2], feature.shape[-1]))

    def _positions(self, height: int, width: int) -> torch.Tensor:
        # Exported with sizes left open, the graph must hold for every grid; resizing to its own changes nothing.
        if not isinstance(height, torch.SymInt) and (height, width) == self.grid:
            return self.position_embedding
        square = self.position_embedding.transpose(1, 2).unflatten(2, self.grid)
        resized = F.interpolate(square.float(), size=(height, width), mode="bicubic", align_corners=False)
        return resized.flatten(2).transpose(1, 2).to(self.position_embedding.dtype)


class ConditionedInteraction(nn.Module):
    """Cross-attention both ways (eq. 1).

    Args:
        width: C.
        heads: attention heads.
        grid: rows and columns of the coarsest feature map at the model's image size.
        dropout: on tokens and attention.
        kind: `"cross"` is the paper's; `"self"` attends over the concatenation of both (Table 5); `"none"` passes V
            and E through (Table 3).
        block: `"plain"` is the paper's: no norm, no residual. `"residual"` is ours: patches (before their positions are
            added) and words are normalised, and each attention's query is added to its output. Without the norm, features
            that outgrow the position embedding hide from the attention where a patch is.
        refine_words: build the half that makes E'. Only the losses need it.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        grid: tuple[int, int],
        *,
        dropout: float = 0.1,
        kind: Literal["cross", "self", "none"] = "cross",
        block: Literal["plain", "residual"] = "plain",
        refine_words: bool = True,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.residual = block == "residual"
        self.patch_embedding = PatchEmbedding(width, grid, dropout, self.residual) if kind != "none" else None
        self.word_norm = nn.LayerNorm(width) if self.residual and kind != "none" else nn.Identity()
        self.word_attention = MultiHeadAttention(width, heads, dropout) if kind == "cross" else None
        self.patch_attention = MultiHeadAttention(width, heads, dropout) if kind != "none" else None
        self.word_refinement = WordRefinement(width) if refine_words else None

    def forward(
        self,
        feature: torch.Tensor,
        words: torch.Tensor,
        word_mask: torch.Tensor | None,
        output_attentions: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None, dict[str, torch.Tensor]]:
        """V `[B, C, h, w]` and E `[B, L, C]` -> V' `[B, N, C]`, E' `[B, L, C]` (or `None`), attention maps by name."""
        if self.kind == "cross":
            patches, words, attentions = self._cross(feature, words, word_mask, output_attentions)
        elif self.kind == "self":
            patches, words, attentions = self._self(feature, words, word_mask, output_attentions)
        else:
            patches, attentions = feature.flatten(2).transpose(1, 2), {}
        refined = self.word_refinement(words, word_mask) if self.word_refinement is not None else None
        return patches, refined, attentions

    def _cross(self, feature, words, word_mask, output_attentions):
        patches, words = self.patch_embedding(feature), self.word_norm(words)
        attended_words, word_map = self.word_attention(words, patches, output_attentions=output_attentions)
        attended_words = self._keep(words, attended_words)
        attended_patches, patch_map = self.patch_attention(
            patches, attended_words, source_mask=word_mask, output_attentions=output_attentions
        )
        maps = {"words_to_patches": word_map, "patches_to_words": patch_map} if output_attentions else {}
        return self._keep(patches, attended_patches), attended_words, maps

    def _self(self, feature, words, word_mask, output_attentions):
        patches, words = self.patch_embedding(feature), self.word_norm(words)
        both = torch.cat([patches, words], dim=1)
        mask = None
        if word_mask is not None:
            mask = torch.cat([word_mask.new_ones(patches.shape[:2]), word_mask], dim=1)
        attended, joint_map = self.patch_attention(both, both, source_mask=mask, output_attentions=output_attentions)
        attended = self._keep(both, attended)
        maps = {"joint": joint_map} if output_attentions else {}
        return attended[:, : patches.shape[1]], attended[:, patches.shape[1] :], maps

    def _keep(self, query: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        return query + attended if self.residual else attended


class InterestHead(nn.Module):
    """Softmax over tokens of an MLP (eq. 2 and 3): where the note is about, or which of its words matter.

    The last layer has no bias, as a softmax over the tokens cancels it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.score = nn.Linear(width, 1, bias=False)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """`[B, T, C]` and `[B, T]` -> float32 weights `[B, T]` that sum to 1 over real tokens and are 0 elsewhere."""
        scores = self.score(F.relu(self.hidden(tokens))).squeeze(-1).float()
        return masked_softmax(scores, mask)


class NullNote(nn.Module):
    """What stands for a note that is not there: one learned word."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.word = nn.Parameter(torch.zeros(width))

    def forward(
        self, words: torch.Tensor, word_mask: torch.Tensor, given: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """E `[B, L, C]` and its mask `[B, L]`, with the learned word as the only one where `given` `[B]` is false.

        It is repeated at every position, for attention that does not look at the mask.
        """
        only_first = torch.arange(word_mask.shape[1], device=word_mask.device) == 0
        return (
            torch.where(given[:, None, None], words, self.word.to(words.dtype)),
            # In logic, as `where` over booleans is not in every runtime.
            (word_mask & given[:, None]) | (only_first & ~given[:, None]),
        )


class PresenceHead(nn.Module):
    """Whether the image shows what the note describes: a smooth maximum over the patches' evidence.

    Evidence is what a patch and the note say together, and the mask that was drawn there. The maximum leads the gradient of
    an absent finding to where the mask is strongest, which the Dice loss of an empty mask hardly moves.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.patches = nn.Linear(width, width)
        self.note = nn.Linear(width, width, bias=False)
        self.score = nn.Linear(width, 1)

    def forward(
        self, patches: torch.Tensor, words: torch.Tensor, word_mask: torch.Tensor | None, mask_logits: torch.Tensor
    ) -> torch.Tensor:
        """V' `[B, N, C]`, E `[B, L, C]` with its mask, and the foreground's logits as means over the patches `[B, N]` ->
        float32 logits `[B]`, of a scale that does not depend on N."""
        note = words.mean(dim=1) if word_mask is None else _mean_of_real(words, word_mask)
        hidden = F.relu(self.patches(patches) + self.note(note)[:, None])
        evidence = self.score(hidden).squeeze(-1).float() + mask_logits.float()
        # Counted in tensors: an exported graph would keep the number of patches that it was traced with.
        return evidence.logsumexp(dim=1) - torch.ones_like(evidence).sum(dim=1).log()


def _mean_of_real(words: torch.Tensor, word_mask: torch.Tensor) -> torch.Tensor:
    return _zero_padding(words, word_mask).sum(dim=1) / word_mask.sum(dim=1, keepdim=True).clamp(min=1)


def masked_softmax(scores: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Softmax over the last dimension; masked positions get 0, and a wholly masked row is all 0."""
    if mask is None:
        return scores.softmax(dim=-1)
    mask = mask.bool()
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1) * mask


def _zero_padding(tokens: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    # masked_fill, not a product: padding may hold anything, not-a-number included.
    return tokens if mask is None else tokens.masked_fill(~mask.bool()[:, :, None], 0.0)
