import pytest
import torch

from reclmis.decoder import MaskDecoder, PixelLevelAttention, UpBlock


def test_pixel_level_attention_by_hand():
    """One pixel, two channels, convolutions the identity: a = (3 + 0) / 2, m = 3, and x is scaled by the gate."""
    gate = PixelLevelAttention(2)
    with torch.no_grad():
        for conv in (gate.average, gate.maximum):
            conv.weight.copy_(torch.eye(2)[:, :, None, None])
        gate.expand.weight.zero_()
        gate.expand.weight[0, 0] = 1.0  # reads a
        gate.expand.weight[1, 1] = 1.0  # reads m
        gate.expand.weight[2, 2] = 1.0  # reads a + m
        gate.expand.bias.zero_()
        gate.gate.weight.copy_(torch.tensor([[1.0, 10.0, 100.0, 0.0, 0.0, 0.0]]))
        gate.gate.bias.fill_(-1.0)
    pixel = torch.tensor([3.0, -2.0]).view(1, 2, 1, 1)
    scale = 1.5 + 30 + 450 - 1  # negative values would pass too: there is no sigmoid
    assert torch.allclose(gate(pixel).flatten(), scale * torch.tensor([3.0, -2.0]))


def test_the_gate_may_be_negative():
    gate = PixelLevelAttention(2)
    torch.nn.init.zeros_(gate.gate.weight)
    torch.nn.init.constant_(gate.gate.bias, -2.0)
    pixel = torch.randn(1, 2, 3, 3)
    assert torch.allclose(gate(pixel), -2 * pixel)


@pytest.mark.parametrize(
    ("strides", "blocks"),
    [([1, 2, 4, 8, 16], 4), ([2, 4, 8], 3), ([4, 8, 16, 32], 5), ([7, 14], 2), ([16], 4), ([1], 0)],
)
def test_any_strides_end_at_the_image(strides, blocks):
    channels = [4] * len(strides)
    decoder = MaskDecoder(6, channels[:-1], strides, [8, 6], num_labels=3).eval()
    side = 2 * strides[-1]
    skips = [torch.randn(1, 4, side // stride, side // stride) for stride in strides[:-1]]
    logits = decoder(torch.randn(1, 6, 2, 2), skips)
    assert logits.shape == (1, 3, side, side)
    assert len(decoder.blocks) == blocks


def test_every_skip_matters():
    strides = [1, 2, 4]
    decoder = MaskDecoder(6, [3, 5], strides, [8, 6], num_labels=1).eval()
    coarsest, skips = torch.randn(1, 6, 2, 2), [torch.randn(1, 3, 8, 8), torch.randn(1, 5, 4, 4)]
    before = decoder(coarsest, skips)
    for index in range(2):
        changed = [skip + (position == index) for position, skip in enumerate(skips)]
        assert not torch.allclose(decoder(coarsest, changed), before, atol=1e-4)


def test_a_convolution_that_is_hooked_or_replaced_is_called():
    """As shared-out parameters and adapters need."""
    block, called = UpBlock(6, 5, 4, factor=2).train(), []
    block.convs[0].conv.register_forward_hook(lambda *_: called.append("hooked"))
    coarse, skip = torch.randn(2, 6, 3, 5), torch.randn(2, 5, 6, 10)
    block(coarse, skip)
    assert called == ["hooked"]

    class Adapted(torch.nn.Conv2d):
        def forward(self, values):
            called.append("adapted")
            return super().forward(values)

    block.convs[0].conv = Adapted(11, 4, 3, padding=1)
    block(coarse, skip)
    assert called == ["hooked", "adapted"]


@pytest.mark.parametrize("skip_channels", [0, 5])
def test_training_computes_the_joined_convolution_and_its_gradients_in_parts(skip_channels):
    """In float64: the map is upsampled, joined and convolved as the paper draws it, and the parts give the same."""
    block = UpBlock(6, skip_channels, 4, factor=2).double().train()
    coarse = torch.randn(2, 6, 3, 5, dtype=torch.float64, requires_grad=True)
    skip = torch.randn(2, skip_channels, 6, 10, dtype=torch.float64, requires_grad=True) if skip_channels else None
    inputs = [part for part in (coarse, skip, *block.convs.parameters()) if part is not None]
    upsampled = torch.nn.functional.interpolate(coarse, scale_factor=2.0, mode="nearest")
    drawn = block.convs(upsampled if skip is None else torch.cat([skip, upsampled], dim=1))
    parts = block.merge(coarse, skip)
    assert torch.allclose(parts, drawn, atol=1e-12)
    weights = torch.randn_like(drawn)
    expected = torch.autograd.grad((drawn * weights).sum(), inputs)
    for ours, theirs in zip(torch.autograd.grad((parts * weights).sum(), inputs), expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize("change", ["activation", "backward hook", "norm", "hook on the whole"])
def test_training_computes_what_the_block_is_made_of(change):
    """As evaluation does, where batch norm is left as it is."""
    torch.manual_seed(0)
    block = UpBlock(6, 4, 8, factor=2).train()
    first, called = block.convs[0], []
    if change == "activation":
        first.act = torch.nn.GELU()
    elif change == "norm":
        first.norm = torch.nn.Identity()
    elif change == "backward hook":
        first.conv.register_full_backward_hook(lambda *given: called.append(1))
    else:
        first.register_forward_hook(lambda module, given, result: 2 * result)
    for module in block.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    coarse, skip = torch.randn(2, 6, 4, 4, requires_grad=True), torch.randn(2, 4, 8, 8)
    trained = block(coarse, skip)
    trained.sum().backward()
    assert bool(called) == (change == "backward hook")
    block.training = False
    assert torch.allclose(trained, block(coarse, skip), atol=1e-5)
