"""What an answer costs, counted and not timed."""

from dataclasses import dataclass

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from .modeling_reclmis import RecLMISModel


@dataclass(frozen=True)
class Cost:
    """Of one image and one note.

    Attributes:
        parameters: of the model.
        text_parameters: of these, in the text encoder.
        macs: multiply-adds of convolutions, matrix products and attention, without the text encoder. Tables of this field
            often call them FLOPs.
        text_macs: those of the text encoder.
    """

    parameters: int
    text_parameters: int
    macs: int
    text_macs: int

    @property
    def flops(self) -> int:
        """Floating point operations in all: two per multiply-add."""
        return 2 * (self.macs + self.text_macs)


@torch.no_grad()
def count_cost(model: RecLMISModel, image_size: tuple[int, int] | None = None) -> Cost:
    """Counts the parameters of a model, and the operations of an answer.

    Load the model with `prune_reconstruction=True` to count what inference needs.

    Args:
        model: stays as it is.
        image_size: `(height, width)` in pixels; `None` takes the configuration's.
    """
    config = model.config
    size = image_size or (config.image_size, config.image_size)
    width: int = model.text_encoder.width
    pixels = torch.zeros(1, config.num_channels, *size, device=model.device, dtype=model.dtype)
    states = torch.zeros(1, config.max_text_length, width, device=model.device, dtype=model.dtype)
    ids = torch.zeros(1, config.max_text_length, device=model.device, dtype=torch.long)
    was_training = model.training
    model.eval()
    # The counter knows attention as two matrix products, not by the name of every fused kernel.
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as images:
            model(pixels, text_hidden_states=states)
        with FlopCounterMode(display=False) as notes:
            if not hasattr(model.text_encoder, "knows"):  # such an encoder looks notes up, and computes nothing
                model.encode_text(ids)
    if was_training:
        model.train()
    text = sum(parameter.numel() for parameter in model.text_encoder.parameters())
    return Cost(model.num_parameters(), text, images.get_total_flops() // 2, notes.get_total_flops() // 2)


__all__ = ["Cost", "count_cost"]
