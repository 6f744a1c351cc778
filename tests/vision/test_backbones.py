"""Contract tests that every visual backbone passes, and an outside one."""

import pytest
import torch
from torch import nn

from reclmis.registry import visual_backbones
from reclmis.vision import UNetEncoder, VisualBackbone, build_visual_backbone
from reclmis.vision.timm_backbone import SimplePyramid
from tests.parts import make_inputs, tiny_model

BACKBONES = {
    "unet": 64,
    "timm:resnet18": 64,
    "timm:convnext_atto": 64,
    "timm:efficientnet_b0": 64,
    "timm:swin_tiny_patch4_window7_224": 64,
    "timm:vit_tiny_patch16_224": 64,
}


@pytest.fixture(scope="module", params=BACKBONES)
def backbone(request):
    torch.manual_seed(0)
    return build_visual_backbone(request.param, num_channels=3, image_size=BACKBONES[request.param]).eval()


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (96, 64)])
def test_features_are_what_the_contract_declares(backbone, size):
    assert isinstance(backbone, VisualBackbone)
    assert backbone.input_size is None
    features = backbone(torch.randn(2, 3, *size))
    expected = [
        (2, channels, size[0] // stride, size[1] // stride)
        for channels, stride in zip(backbone.channels, backbone.strides, strict=True)
    ]
    assert [tuple(feature.shape) for feature in features] == expected


@pytest.mark.parametrize("part_id", BACKBONES)
def test_a_whole_model_trains_and_segments(part_id):
    size = BACKBONES[part_id]
    own = {"visual_config": {}} if part_id != "unet" else {}
    model = tiny_model(visual_backbone=part_id, image_size=size, **own).train()
    outputs = model(**make_inputs(2, size, size, labels=True))
    outputs.loss.backward()
    assert outputs.logits.shape == (2, 1, size, size)
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("channels", [1, 4])
def test_other_numbers_of_channels(channels):
    for part_id in ("unet", "timm:resnet18"):
        backbone = build_visual_backbone(part_id, num_channels=channels, image_size=32).eval()
        assert backbone(torch.randn(1, channels, 32, 32))[-1].shape[1] == backbone.channels[-1]


def test_a_network_of_one_input_size_says_so():
    model = tiny_model(visual_backbone="timm:efficientformerv2_s0", visual_config={}, image_size=64)
    assert model.visual_backbone.input_size == (64, 64)
    with pytest.raises(ValueError, match="64 x 64 pixels only, got 96 x 96"):
        model(**make_inputs(1, 96, 96))


def test_stages_can_be_chosen():
    backbone = build_visual_backbone("timm:resnet18", num_channels=3, image_size=64, out_indices=[1, 2, 3])
    assert backbone.strides == [4, 8, 16]


def test_pyramid_of_a_plain_network():
    pyramid = SimplePyramid(64, 16)
    assert (pyramid.strides, pyramid.channels) == ([4, 8, 16], [16, 32, 64])
    assert [tuple(f.shape[1:]) for f in pyramid(torch.randn(1, 64, 2, 3))] == [(16, 8, 12), (32, 4, 6), (64, 2, 3)]


def test_unet_is_the_papers():
    assert UNetEncoder().channels == [64, 128, 256, 512, 512]
    assert UNetEncoder().strides == [1, 2, 4, 8, 16]


@pytest.mark.parametrize(
    ("part_id", "told"),
    [
        ("unknown", "Unknown visual backbone 'unknown'.*timm.*unet"),
        ("timm:resnet1800", "no model 'resnet1800'.*resnet18"),
        ("unet:large", "takes no name"),
    ],
)
def test_mistakes_are_named(part_id, told):
    with pytest.raises(ValueError, match=told):
        build_visual_backbone(part_id, num_channels=3, image_size=64)


def test_pretrained_weights_come_from_a_file(tmp_path):
    from safetensors.torch import save_file

    from reclmis import RecLMISModel
    from tests.parts import tiny_config

    donor = build_visual_backbone("timm:resnet18", num_channels=3, image_size=64)
    save_file(donor.network.state_dict(), tmp_path / "resnet18.safetensors")
    source = str(tmp_path / "resnet18.safetensors")
    config = tiny_config(visual_backbone="timm:resnet18", visual_config={"pretrained": source})
    loaded = RecLMISModel.from_parts(config).visual_backbone.network.state_dict()
    fresh = RecLMISModel(config).visual_backbone.network.state_dict()
    key = "layer1.0.conv1.weight"
    assert torch.equal(loaded[key], donor.network.state_dict()[key])
    assert not torch.equal(fresh[key], loaded[key])


def test_weights_of_another_network_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"something": torch.zeros(1)}, tmp_path / "other.safetensors")
    backbone = build_visual_backbone("timm:resnet18", num_channels=3, image_size=64)
    with pytest.raises(ValueError, match="conv1.weight"):
        backbone.load_pretrained(str(tmp_path / "other.safetensors"))


class TestOutside:
    """A package of somebody else's registers its own without touching ours."""

    @pytest.fixture(autouse=True)
    def registered(self, monkeypatch):
        monkeypatch.setattr(visual_backbones, "_parts", dict(visual_backbones._parts))

        @visual_backbones.register("patches")
        class Patches(nn.Module):
            input_size = None

            def __init__(self, name, *, num_channels, image_size, width=12):
                super().__init__()
                self.channels, self.strides = [width, width], [4, 8]
                self.fine = nn.Conv2d(num_channels, width, 4, stride=4)
                self.coarse = nn.Conv2d(width, width, 2, stride=2)

            def forward(self, pixel_values):
                fine = self.fine(pixel_values)
                return [fine, self.coarse(fine)]

        @visual_backbones.register("broken")
        def broken(name, *, num_channels, image_size):
            module = nn.Identity()
            module.channels, module.strides, module.input_size = [1, 2], [4, 6], None
            return module

    def test_it_trains_saves_and_loads(self, tmp_path):
        from reclmis import RecLMISModel

        model = tiny_model(visual_backbone="patches:any", visual_config={"width": 16})
        outputs = model(**make_inputs(labels=True))
        outputs.loss.backward()
        assert all(p.grad is not None for p in model.parameters())
        model.save_pretrained(tmp_path)
        assert torch.equal(RecLMISModel.from_pretrained(tmp_path)(**make_inputs()).logits, outputs.logits)

    def test_strides_that_no_decoder_could_use_are_refused(self):
        with pytest.raises(ValueError, match=r"strides \[4, 6\]"):
            build_visual_backbone("broken", num_channels=3, image_size=64)
