"""Which tokens are hidden before a reconstruction (paper 3.3, Figures 7 and 8)."""

from typing import Literal

import torch


def draw_mask(
    interest: torch.Tensor,
    ratio: float,
    strategy: Literal["probability", "random", "topk"] = "probability",
    *,
    token_mask: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Draws floor(ratio * real tokens) tokens per sample without replacement, all samples at once, on the device.

    Args:
        interest: `[B, T]` non-negative weights.
        ratio: share of the real tokens, 0 to 1.
        strategy: `"probability"` draws in proportion to `interest` (Gumbel top-k; where fewer tokens have a positive
            weight than are drawn, the rest is drawn uniformly), `"random"` uniformly, `"topk"` takes the largest.
        token_mask: `[B, T]`, true where a token is real. Padding is never drawn.
        generator: source of the draws, on the device of `interest`.

    Returns:
        `[B, T]` bool, true where the token is to be hidden.
    """
    interest = interest.detach().float()
    real = torch.ones_like(interest, dtype=torch.bool) if token_mask is None else token_mask.bool()
    if strategy == "topk":
        keys = interest
    else:
        # Without a generator in the call: one that is None cannot be traced for a batch size that is left open.
        uniform = torch.rand_like(interest) if generator is None else _drawn(interest, generator)
        gumbel = -(-uniform.clamp(min=1e-20).log()).clamp(min=1e-20).log()
        if strategy == "random":
            keys = gumbel
        else:
            # A zero weight ranks below every positive one, and among themselves the zeros rank by chance.
            keys = torch.where(interest > 0, interest.clamp(min=1e-38).log(), -1e4) + gumbel
    order = keys.masked_fill(~real, float("-inf")).argsort(dim=-1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(
        -1, order, torch.arange(order.shape[-1], device=order.device).expand_as(order)
    )
    # In float64 and with a hair added, so that 0.3 of 10 tokens are 3 and not 2.
    count = (real.sum(dim=-1, keepdim=True).double() * ratio + 1e-6).floor()
    return (rank < count) & real


def _drawn(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(like.shape, generator=generator, device=like.device)
