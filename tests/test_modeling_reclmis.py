import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModel

from reclmis import RecLMISConfig, RecLMISModel
from reclmis.losses import NonFiniteLossError
from reclmis.modeling_reclmis import TRAINING_ONLY
from tests.conftest import REPOSITORY
from tests.parts import LENGTH, lively, make_inputs, tiny_config, tiny_model

LOSS_TERMS = {"dice", "cross_entropy", "contrastive", "visual_reconstruction", "language_reconstruction"}

# Every row and column of the paper's Tables 3 to 5 and Figures 7, 8, 11 and 12, by configuration alone.
ABLATIONS = {
    "table 3, nothing": {"interaction": "none", "contrastive": False, "visual_reconstruction": False,
                         "language_reconstruction": False},
    "table 3, CI": {"contrastive": False, "visual_reconstruction": False, "language_reconstruction": False},
    "table 3, CLR": {"visual_reconstruction": False},
    "table 3, CVR": {"language_reconstruction": False},
    "table 4, none": {"contrastive_condition": False, "visual_reconstruction_condition": False,
                      "language_reconstruction_condition": False},
    "table 4, none, uniform": {"contrastive_condition": False, "visual_reconstruction_condition": False,
                               "language_reconstruction_condition": False, "reconstruction_weighting": "uniform"},
    "table 4, CCL": {"visual_reconstruction_condition": False, "language_reconstruction_condition": False},
    "table 4, CLR": {"contrastive_condition": False, "visual_reconstruction_condition": False},
    "table 4, CVR": {"contrastive_condition": False, "language_reconstruction_condition": False},
    "table 5, self-attention in CI": {"interaction": "self"},
    "table 5, self-attention in CVR and CLR": {"reconstruction_attention": "self"},
    "table 5, self-attention, no condition": {"reconstruction_attention": "self", "contrastive": False,
                                              "visual_reconstruction_condition": False,
                                              "language_reconstruction_condition": False},
    "figure 7, random": {"mask_strategy": "random"},
    "figure 7, top-k": {"mask_strategy": "topk"},
    "figure 8, 0.1": {"visual_mask_ratio": 0.1, "language_mask_ratio": 0.1},
    "figure 8, 0.9": {"visual_mask_ratio": 0.9, "language_mask_ratio": 0.9},
    "figure 11, 4 layers": {"reconstruction_layers": 4},
    "figure 12": {"contrastive_weight": 1.0, "visual_reconstruction_weight": 0.1, "segmentation_weight": 1.0},
    "paper": {"reconstruction_conditioning": "hadamard"},
    "release": {"text_padding": "attend", "contrastive_weighting": "double_softmax", "reconstruction_causal": True,
                "reconstruction_weighting": "uniform"},
    "no residual": {"interaction_block": "plain"},
    "normalised target": {"reconstruction_target": "normalised"},
    "gradient into the target": {"reconstruction_stop_gradient": False},
    "equal notes": {"contrastive_equal_notes": "positive"},
    "dice alone": {"cross_entropy_weight": 0.0},
    "frozen text": {"text_frozen": True},
}  # fmt: skip


class TestForward:
    def test_output(self):
        outputs = tiny_model()(**make_inputs(labels=True), output_features=True, output_attentions=True)
        assert outputs.loss.ndim == 0 and outputs.loss.dtype == torch.float32
        assert outputs.logits.shape == (2, 1, 64, 64)
        assert outputs.patch_interest.shape == (2, 16) and outputs.word_interest.shape == (2, LENGTH)
        assert outputs.visual_features.shape == (2, 32, 4, 4)
        assert outputs.text_features.shape == outputs.interacted_words.shape == (2, LENGTH, 32)
        assert outputs.interacted_patches.shape == (2, 16, 32)
        assert outputs.attentions["patches_to_words"].shape == (2, 4, 16, LENGTH)
        assert set(outputs.loss_terms) == LOSS_TERMS

    def test_nothing_more_than_asked_for(self):
        outputs = tiny_model()(**make_inputs())
        assert set(outputs) == {"logits", "patch_interest", "word_interest"}
        assert isinstance(outputs[0], torch.Tensor)

    def test_tuple_is_the_same(self):
        model, inputs = tiny_model(), make_inputs()
        named, plain = model(**inputs), model(**inputs, return_dict=False)
        assert isinstance(plain, tuple) and torch.equal(plain[0], named.logits)

    def test_loss_is_the_weighted_sum_of_its_terms(self):
        model = tiny_model()
        outputs = model(**make_inputs(labels=True))
        expected = sum(model.loss_weights[name] * value for name, value in outputs.loss_terms.items())
        assert torch.allclose(outputs.loss, expected)
        assert model.loss_weights["dice"] == 2.5 and model.loss_weights["contrastive"] == 0.2

    @pytest.mark.parametrize("size", [(64, 64), (96, 64), (80, 112), (16, 16), (32, 48)])
    @pytest.mark.parametrize("batch", [1, 3])
    def test_any_size_that_the_stride_divides(self, size, batch):
        assert tiny_model()(**make_inputs(batch, *size)).logits.shape == (batch, 1, *size)

    @pytest.mark.parametrize("size", [(65, 63), (33, 47), (64, 40)])
    def test_other_sizes_are_refused_with_both_numbers(self, size):
        with pytest.raises(ValueError, match=rf"{size[0]} x {size[1]}.*multiples of 16.*pad_size_divisor=16"):
            tiny_model()(**make_inputs(1, *size))

    @pytest.mark.parametrize("num_labels", [1, 2, 3])
    def test_classes(self, num_labels):
        model = tiny_model(num_labels=num_labels)
        outputs = model(**make_inputs(labels=True, num_labels=num_labels))
        assert outputs.logits.shape[1] == num_labels and outputs.loss.isfinite()

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"pixel_values": torch.randn(2, 1, 64, 64)}, r"\[B, 3, H, W\]"),
            ({"input_ids": None}, "note is missing"),
            ({"input_ids": torch.ones(3, LENGTH).long(), "attention_mask": None}, "2 images, but 3 notes"),
            ({"attention_mask": torch.ones(2, 3)}, "attention_mask"),
            ({"labels": torch.zeros(2, 32, 32)}, r"\[2, 64, 64\]"),
            ({"labels": torch.zeros(1, 64, 64)}, "2 images, but 1 masks"),
        ],
    )
    def test_inputs_that_do_not_fit_are_named(self, change, told):
        with pytest.raises(ValueError, match=told):
            tiny_model()(**{**make_inputs(labels=True), **change})

    def test_encoded_notes_in_place_of_ids(self):
        model, inputs = tiny_model(text_frozen=True), make_inputs()
        states = model.encode_text(inputs["input_ids"], inputs["attention_mask"])
        again = model(inputs["pixel_values"], attention_mask=inputs["attention_mask"], text_hidden_states=states)
        assert torch.equal(again.logits, model(**inputs).logits)

    def test_the_callers_generator_decides_the_masks(self):
        model, inputs = tiny_model(), make_inputs(labels=True)
        losses = [model(**inputs, generator=torch.Generator().manual_seed(seed)).loss for seed in (1, 1, 2)]
        assert losses[0] == losses[1] != losses[2]


class TestNotes:
    """Padding is never attended, never a maximum, and never carries weight."""

    @pytest.mark.parametrize("block", ["plain", "residual"])
    def test_content_of_padding_changes_nothing(self, block):
        model, inputs = lively(tiny_model(interaction_block=block)), make_inputs(3, labels=True)
        assert model(**inputs).logits.abs().max() > 1
        changed = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, 9)
        outputs = [
            model(**{**inputs, "input_ids": ids}, generator=torch.Generator().manual_seed(0))
            for ids in (inputs["input_ids"], changed)
        ]
        assert torch.equal(outputs[0].logits, outputs[1].logits)
        for name in LOSS_TERMS:
            assert torch.equal(outputs[0].loss_terms[name], outputs[1].loss_terms[name]), name

    def test_length_of_padding_changes_nothing(self):
        model, inputs = lively(tiny_model()), {k: v[1:2] for k, v in make_inputs(2).items()}
        real = int(inputs["attention_mask"].sum())
        assert real < LENGTH
        short = {**inputs, **{k: inputs[k][:, :real] for k in ("input_ids", "attention_mask")}}
        logits = model(**inputs).logits
        assert (logits - model(**short).logits).abs().max() < 2e-6 * logits.abs().max()
        # What is left is rounding: in float64 nothing is.
        model, pixels = model.double(), {"pixel_values": inputs["pixel_values"].double()}
        assert torch.allclose(model(**inputs | pixels).logits, model(**short | pixels).logits, rtol=0, atol=1e-12)

    def test_released_weights_do_attend_to_padding(self):
        model, inputs = lively(tiny_model(text_padding="attend")), make_inputs(2)
        changed = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, 9)
        other = model(**{**inputs, "input_ids": changed}).logits
        assert not torch.allclose(model(**inputs).logits, other, atol=1e-3)

    def test_a_changed_note_changes_the_mask(self):
        model, inputs = lively(tiny_model()), make_inputs(2)
        other = inputs["input_ids"].clone()
        other[:, 2] += 1
        assert not torch.allclose(model(**inputs).logits, model(**{**inputs, "input_ids": other}).logits, atol=1e-2)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_a_note_without_any_token_is_finite(self, dtype):
        model = tiny_model().to(dtype)
        inputs = make_inputs(labels=True)
        inputs["pixel_values"] = inputs["pixel_values"].to(dtype)
        inputs["attention_mask"] = torch.zeros_like(inputs["attention_mask"])
        outputs = model.train()(**inputs)
        outputs.loss.backward()
        assert outputs.logits.isfinite().all() and outputs.loss.isfinite()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)

    def test_rows_do_not_leak_into_each_other(self):
        model, inputs = lively(tiny_model()), make_inputs(4)
        together = model(**inputs).logits
        assert together.abs().max() > 1
        for row in range(4):
            alone = model(**{key: value[row : row + 1] for key, value in inputs.items()}).logits
            assert torch.allclose(together[row], alone[0], rtol=1e-5, atol=1e-4)


class TestTraining:
    @pytest.mark.parametrize("name", ABLATIONS)
    def test_every_ablation_is_a_configuration_and_trains_every_parameter(self, name):
        model = tiny_model(**ABLATIONS[name]).train()
        outputs = model(**make_inputs(3, labels=True))
        outputs.loss.backward()
        assert outputs.loss.isfinite()
        lost = [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert not lost, lost
        dead = [key for key, p in model.named_parameters() if p.grad is not None and not p.grad.any()]
        # A softmax is blind to a shift of all its logits, so key biases get nothing but rounding.
        assert all(key.endswith("key.bias") for key in dead), dead

    def test_terms_follow_the_configuration(self):
        for name in ("contrastive", "visual_reconstruction", "language_reconstruction"):
            terms = tiny_model(**{name: False})(**make_inputs(labels=True)).loss_terms
            assert set(terms) == LOSS_TERMS - {name}

    def test_released_targets_are_the_interacted_patches_and_text_states(self):
        text = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        model = tiny_model(reconstruction_target="released", text_config=text)
        assert model(**make_inputs(labels=True)).loss.isfinite()
        with pytest.raises(ValueError, match="width 16 .* width 32"):
            tiny_model(reconstruction_target="released", text_config={**text, "hidden_size": 16})

    def test_stop_gradient_leaves_the_target_alone(self):
        """With gradient into the target, the visual term moves the backbone differently."""
        gradients = []
        for stop in (False, True):
            model = tiny_model(reconstruction_stop_gradient=stop)
            outputs = model(**make_inputs(labels=True), generator=torch.Generator().manual_seed(0))
            outputs.loss_terms["visual_reconstruction"].backward()
            gradients.append(model.visual_backbone.stem.conv.weight.grad)
        assert not torch.allclose(*gradients)

    def test_frozen_text_gets_no_gradient_and_stays_in_evaluation_mode(self):
        model = tiny_model(text_frozen=True).train()
        assert model.training and not model.text_encoder.training
        before = {key: value.clone() for key, value in model.text_encoder.state_dict().items()}
        optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=0.1)
        model(**make_inputs(labels=True)).loss.backward()
        optimizer.step()
        assert all(torch.equal(value, before[key]) for key, value in model.text_encoder.state_dict().items())
        assert all(p.grad is None for p in model.text_encoder.parameters())

    def test_equal_notes_as_positives(self):
        model, inputs = tiny_model(contrastive_equal_notes="positive"), make_inputs(2, labels=True)
        for key in ("input_ids", "attention_mask"):
            inputs[key] = inputs[key][:1].expand(2, -1)
        term = model(**inputs).loss_terms["contrastive"]
        as_negatives = tiny_model()(**inputs).loss_terms["contrastive"]
        # one note for both images: every pair is right, and rows of S are constant
        assert torch.allclose(term, as_negatives, atol=1e-5) or term < as_negatives
        states = model.encode_text(inputs["input_ids"], inputs["attention_mask"])
        with pytest.raises(RuntimeError, match="contrastive.*input_ids"):
            model(inputs["pixel_values"], attention_mask=inputs["attention_mask"], labels=inputs["labels"],
                  text_hidden_states=states)  # fmt: skip

    def test_overfits_two_images_that_only_the_note_tells_apart(self):
        model = tiny_model(dropout=0.0).train()
        inputs = make_inputs(1)
        ids = torch.tensor([[1, 5, 2] + [0] * (LENGTH - 3), [1, 6, 2] + [0] * (LENGTH - 3)])
        labels = torch.zeros(2, 64, 64).long()
        labels[0, :, :32] = 1
        labels[1, :, 32:] = 1
        batch = {"pixel_values": inputs["pixel_values"].expand(2, -1, -1, -1), "input_ids": ids,
                 "attention_mask": (ids > 0).long(), "labels": labels}  # fmt: skip
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(60):
            optimizer.zero_grad()
            outputs = model(**batch)
            outputs.loss.backward()
            optimizer.step()
        agreement = ((outputs.logits[:, 0] > 0) == labels.bool()).float().mean()
        assert agreement > 0.95

    @pytest.mark.parametrize("fill", [0, 1])
    def test_float32_loss_under_bfloat16_autocast_with_large_weights(self, fill):
        model = tiny_model()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(30)
        inputs = {**make_inputs(), "labels": torch.full((2, 64, 64), fill)}
        with torch.autocast("cpu", torch.bfloat16):
            outputs = model.train()(**inputs)
        assert all(term.dtype == torch.float32 and term.isfinite() for term in outputs.loss_terms.values())


class TestLoudness:
    """Nothing that should be learned from vanishes without a word."""

    @pytest.mark.parametrize("term", ["visual_reconstruction", "language_reconstruction"])
    def test_a_reconstruction_that_turns_nan_stops_training_with_its_name(self, term):
        model = tiny_model()
        reconstructor = getattr(model, term.replace("reconstruction", "reconstructor"))
        nn.init.constant_(reconstructor.target_layers[0].feed_forward.expand.weight, float("nan"))
        with pytest.raises(NonFiniteLossError, match=f"^Loss term.* {term} = nan"):
            model(**make_inputs(labels=True))

    @pytest.mark.parametrize(
        ("part", "term"),
        [
            ("visual_reconstructor", "visual_reconstruction"),
            ("language_reconstructor", "language_reconstruction"),
        ],
    )
    def test_an_auxiliary_loss_that_raises_is_named(self, part, term, monkeypatch):
        model = tiny_model()

        def fail(*arguments, **keywords):
            raise IndexError("out of luck")

        monkeypatch.setattr(getattr(model, part), "forward", fail)
        with pytest.raises(RuntimeError, match=f"{term}.*out of luck"):
            model(**make_inputs(labels=True))

    def test_a_contrastive_loss_that_turns_nan_is_named(self, monkeypatch):
        monkeypatch.setattr("reclmis.modeling_reclmis.similarity", lambda *a: torch.full((2, 2), float("nan")))
        with pytest.raises(NonFiniteLossError, match="contrastive = nan"):
            tiny_model()(**make_inputs(labels=True))

    def test_a_configuration_that_was_changed_for_the_worse_is_refused(self):
        config = tiny_config()
        config.visual_mask_ratio = 2.0
        with pytest.raises(Exception, match="visual_mask_ratio"):
            RecLMISModel(config)


class TestSaving:
    def test_auto_classes(self, tmp_path):
        tiny_model().save_pretrained(tmp_path)
        assert isinstance(AutoConfig.from_pretrained(tmp_path), RecLMISConfig)
        assert isinstance(AutoModel.from_pretrained(tmp_path), RecLMISModel)

    def test_only_safe_files(self, tmp_path):
        tiny_model().save_pretrained(tmp_path)
        assert {path.suffix for path in tmp_path.iterdir()} <= {".safetensors", ".json"}

    def test_a_fresh_interpreter_gives_the_same_bits(self, tmp_path):
        """A convolutional, a plain and two hierarchical backbones; eva02 and swin keep buffers that no checkpoint holds."""
        backbones = {
            "unet": 64,
            "timm:resnet18": 64,
            "timm:swin_tiny_patch4_window7_224": 64,
            "timm:vit_tiny_patch16_224": 64,
            "timm:eva02_tiny_patch14_224": 56,
        }
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        for number, (backbone, size) in enumerate(backbones.items()):
            own = {"visual_config": {}} if backbone != "unet" else {}
            model = tiny_model(visual_backbone=backbone, image_size=size, **own)
            inputs = make_inputs(2, size, size)
            with torch.no_grad():
                expected = model(**inputs).logits
            model.save_pretrained(tmp_path / str(number))
            save_file({**inputs, "expected": expected.contiguous()}, tmp_path / str(number) / "case.safetensors")
        torch.set_num_threads(threads)
        script = (
            "import sys, torch\n"
            "from pathlib import Path\n"
            "from safetensors.torch import load_file\n"
            "from reclmis import RecLMISModel\n"
            "torch.set_num_threads(1)\n"
            "for folder in sorted(Path(sys.argv[1]).iterdir()):\n"
            "    case = load_file(folder / 'case.safetensors'); expected = case.pop('expected')\n"
            "    for prune in (False, True):\n"
            "        model = RecLMISModel.from_pretrained(folder, prune_reconstruction=prune)\n"
            "        with torch.no_grad():\n"
            "            assert torch.equal(model(**case).logits, expected), (folder, prune)\n"
        )
        answer = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, cwd=REPOSITORY, check=False
        )
        assert answer.returncode == 0, answer.stderr[-2000:]

    def test_every_tensor_comes_back(self, tmp_path):
        model = lively(tiny_model())
        model.save_pretrained(tmp_path)
        loaded = RecLMISModel.from_pretrained(tmp_path).state_dict()
        assert loaded.keys() == model.state_dict().keys()
        assert all(torch.equal(value, loaded[key]) for key, value in model.state_dict().items())

    @pytest.mark.parametrize(
        "key",
        [
            "decoder.head.bias",
            "visual_backbone.stem.norm.running_mean",
            "interaction.patch_embedding.position_embedding",
            "patch_interest.score.weight",
        ],
    )
    def test_a_missing_tensor_is_named(self, key, tmp_path):
        tiny_model().save_pretrained(tmp_path)
        path = tmp_path / "model.safetensors"
        tensors = load_file(path)
        del tensors[key]
        save_file(tensors, path, metadata={"format": "pt"})
        with pytest.raises(ValueError, match=key.replace(".", r"\.")):
            RecLMISModel.from_pretrained(tmp_path)
        assert RecLMISModel.from_pretrained(tmp_path, allow_missing_keys=True) is not None

    def test_a_truncated_file_is_an_error_that_names_it(self, tmp_path):
        tiny_model().save_pretrained(tmp_path)
        path = tmp_path / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(ValueError, match=f"{tmp_path} are damaged"):
            RecLMISModel.from_pretrained(tmp_path)

    def test_pickled_weights_are_never_read(self, tmp_path):
        tiny_model().save_pretrained(tmp_path)
        (tmp_path / "model.safetensors").unlink()
        flag = tmp_path / "executed"

        class Planted:
            def __reduce__(self):
                return (open, (str(flag), "w"))

        torch.save(Planted(), tmp_path / "pytorch_model.bin")
        with pytest.raises(OSError, match="model.safetensors"):
            RecLMISModel.from_pretrained(tmp_path)
        assert not flag.exists()

    def test_mean_of_a_frozen_text_encoder_survives_loading(self, tmp_path):
        tiny_model(text_frozen=True).save_pretrained(tmp_path)
        loaded = RecLMISModel.from_pretrained(tmp_path)
        assert not any(p.requires_grad for p in loaded.text_encoder.parameters())
        assert loaded.train().text_encoder.training is False


class TestPruning:
    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory):
        folder = tmp_path_factory.mktemp("model")
        lively(tiny_model()).save_pretrained(folder)
        return folder

    def test_the_mask_is_the_same_bit_for_bit(self, folder):
        full = RecLMISModel.from_pretrained(folder)
        pruned = RecLMISModel.from_pretrained(folder, prune_reconstruction=True)
        inputs = make_inputs(3)
        assert torch.equal(full(**inputs).logits, pruned(**inputs).logits)

    def test_dropped_keys_are_exactly_those_of_training(self, folder):
        import re

        full = set(RecLMISModel.from_pretrained(folder).state_dict())
        pruned = set(RecLMISModel.from_pretrained(folder, prune_reconstruction=True).state_dict())
        assert pruned < full
        assert full - pruned == {key for key in full if any(re.match(part, key) for part in TRAINING_ONLY)}

    def test_nothing_else_may_be_spared(self, folder):
        """Every tensor that is left takes part in the mask: changing it changes the logits."""
        pruned = RecLMISModel.from_pretrained(folder, prune_reconstruction=True)
        inputs = make_inputs(1)
        with torch.no_grad():
            before = pruned(**inputs).logits
            for key, value in pruned.state_dict().items():
                if key.endswith(("num_batches_tracked", "key.bias")):
                    continue
                kept = value.clone()
                value.add_(torch.randn_like(value) + 0.5)
                changed = pruned(**inputs).logits
                value.copy_(kept)
                assert not torch.equal(changed, before), key

    def test_training_parts_are_neither_built_nor_read(self, folder, monkeypatch):
        read = []
        import transformers.core_model_loading as loading

        original = loading._materialize_copy

        def recorded(tensor, *arguments, **keywords):
            value = original(tensor, *arguments, **keywords)
            read.append(value.numel() * value.element_size())
            return value

        monkeypatch.setattr(loading, "_materialize_copy", recorded)
        bytes_read = {}
        for prune in (False, True):
            read.clear()
            model = RecLMISModel.from_pretrained(folder, prune_reconstruction=prune)
            bytes_read[prune] = sum(read)
            held = sum(t.numel() * t.element_size() for t in model.state_dict().values())
            assert bytes_read[prune] == held
        with safe_open(folder / "model.safetensors", "pt") as file:
            stored = sum(file.get_tensor(key).nbytes for key in file.keys())  # noqa: SIM118
        assert bytes_read[False] == stored
        assert bytes_read[True] < 0.7 * stored

    def test_loads_and_answers_without_the_reconstruction_package(self, folder):
        script = (
            "import sys\n"
            "sys.modules['reclmis.reconstruction'] = None\n"
            "from reclmis import RecLMISModel\n"
            "RecLMISModel.from_pretrained(sys.argv[1], prune_reconstruction=True)\n"
        )
        answer = subprocess.run(
            [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=False
        )
        assert answer.returncode == 0, answer.stderr[-2000:]

    def test_a_pruned_checkpoint_loads_as_such(self, folder, tmp_path):
        pruned = RecLMISModel.from_pretrained(folder, prune_reconstruction=True)
        pruned.save_pretrained(tmp_path)
        again = RecLMISModel.from_pretrained(tmp_path)
        assert again.config.prune_reconstruction
        assert torch.equal(again(**make_inputs()).logits, pruned(**make_inputs()).logits)
        with pytest.raises(ValueError, match=r"saved pruned.*prune_reconstruction=True"):
            RecLMISModel.from_pretrained(tmp_path, prune_reconstruction=False)

    def test_other_missing_keys_stay_loud(self, folder, tmp_path):
        import shutil

        shutil.copytree(folder, tmp_path / "copy")
        path = tmp_path / "copy" / "model.safetensors"
        tensors = load_file(path)
        del tensors["decoder.head.weight"]
        tensors["decoder.extra"] = torch.zeros(1)
        save_file(tensors, path, metadata={"format": "pt"})
        with pytest.raises(ValueError, match=r"decoder\.head\.weight"):
            RecLMISModel.from_pretrained(tmp_path / "copy", prune_reconstruction=True)
        _, report = RecLMISModel.from_pretrained(
            tmp_path / "copy", prune_reconstruction=True, allow_missing_keys=True, output_loading_info=True
        )
        assert set(report["unexpected_keys"]) == {"decoder.extra"}

    def test_training_is_refused_with_the_mend(self, folder):
        pruned = RecLMISModel.from_pretrained(folder, prune_reconstruction=True)
        with pytest.raises(ValueError, match=r"cannot be trained.*without `prune_reconstruction=True`"):
            pruned.train()
        with pytest.raises(ValueError, match="pruned for inference and has no loss"):
            pruned(**make_inputs(labels=True))
        assert not RecLMISModel(tiny_config(prune_reconstruction=True)).training


class TestCompile:
    def test_compiled_and_eager_agree_in_one_graph(self):
        model, inputs = lively(tiny_model()), make_inputs(2)
        torch._dynamo.reset()
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        with torch.no_grad():
            assert torch.allclose(compiled(**inputs).logits, model(**inputs).logits, atol=1e-5, rtol=1e-6)

    def test_few_recompilations_over_batch_sizes(self):
        from torch._dynamo.testing import CompileCounter

        model, counter = lively(tiny_model()), CompileCounter()
        torch._dynamo.reset()
        compiled = torch.compile(model, backend=counter)
        with torch.no_grad():
            for batch in (2, 3, 5):
                assert compiled(**make_inputs(batch)).logits.shape[0] == batch
        assert counter.frame_count <= 3

    def test_a_training_step_compiles_for_batches_of_any_size(self):
        """Masks of reconstruction and dropped notes are drawn inside the graph."""
        model = tiny_model(note_dropout=0.3, presence=True).train()
        torch._dynamo.reset()
        compiled = torch.compile(model, backend="aot_eager")
        for batch in (2, 3, 5):
            compiled(**make_inputs(batch, labels=True)).loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)

    def test_a_compiled_loss_names_the_term_that_broke(self):
        model, inputs = tiny_model().train(), make_inputs(2, labels=True)
        torch.nn.init.constant_(model.visual_reconstructor.parameters().__next__(), float("nan"))
        torch._dynamo.reset()
        with pytest.raises(RuntimeError, match="'visual_reconstruction' is not finite"):
            torch.compile(model, backend="aot_eager")(**inputs)


def test_from_parts_refuses_weights_that_a_part_cannot_load():
    with pytest.raises(ValueError, match="UNetEncoder has no pretrained weights"):
        RecLMISModel.from_parts(tiny_config(visual_config={"widths": [4, 8], "pretrained": True}))


# Gradient checkpointing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"text_encoder": "hf:bert", "text_config": {"model_type": "bert", "vocab_size": 64, "hidden_size": 32,
         "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}},
        {"visual_backbone": "timm:resnet18", "visual_config": {}},
    ],
    ids=["unet", "bert", "timm"],
)  # fmt: skip
def test_checkpointed_gradients_and_statistics_are_the_same(changes):
    inputs = make_inputs(3, labels=True)
    results = []
    for checkpointed in (False, True):
        model = tiny_model(dropout=0.1, **changes).train()
        if checkpointed:
            model.gradient_checkpointing_enable()
            assert model.is_gradient_checkpointing
        torch.manual_seed(1)
        loss = model(**inputs, generator=torch.Generator().manual_seed(2)).loss
        loss.backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        ours = {k: v for k, v in model.named_buffers() if not k.startswith("visual_backbone.network")}
        results.append((loss.detach(), gradients, ours))
    (loss, gradients, buffers), (again, recomputed, kept) = results
    torch.testing.assert_close(again, loss)
    assert gradients.keys() == recomputed.keys()
    for name in gradients:
        torch.testing.assert_close(recomputed[name], gradients[name], atol=1e-6, rtol=1e-5)
    assert all(torch.equal(kept[name], buffers[name]) for name in buffers)


def test_checkpointing_keeps_fewer_activations():
    kept = []
    for checkpointed in (False, True):
        model = tiny_model().train()
        if checkpointed:
            model.gradient_checkpointing_enable()
        saved = 0

        def count(tensor):
            nonlocal saved
            saved += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            model(**make_inputs(2, labels=True))
        kept.append(saved)
    assert kept[1] < 0.7 * kept[0]


# A frozen visual backbone --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, frozen, expected",
    [
        ({}, True, {"stem.", "down_blocks."}),
        ({}, ["stem", "down_blocks.0", "down_blocks.1.1.conv.bias"],
         {"stem.", "down_blocks.0.", "down_blocks.1.1.conv.bias"}),
        ({"visual_backbone": "timm:resnet18", "visual_config": {}}, ["network.conv1", "network.layer1"],
         {"network.conv1.", "network.layer1."}),
    ],
)  # fmt: skip
def test_frozen_parts_of_the_backbone_stay_as_they_are(changes, frozen, expected):
    from reclmis.training import build_optimizer

    model = tiny_model(visual_frozen=frozen, **changes).train()
    before = {name: value.clone() for name, value in model.visual_backbone.state_dict().items()}
    optimizer = build_optimizer(model, 0.1, backbone_learning_rate=0.05)
    model(**make_inputs(3, labels=True)).loss.backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
    optimizer.step()
    for name, value in model.visual_backbone.state_dict().items():
        if any(name.startswith(start) for start in expected):
            assert torch.equal(value, before[name]), name
    moved = [n for n, v in model.visual_backbone.state_dict().items() if not torch.equal(v, before[n])]
    assert bool(moved) == (frozen is not True)
    assert RecLMISConfig.from_dict(model.config.to_dict()).visual_frozen == frozen


def test_a_frozen_part_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match=r"names layer9, which 'unet' does not have.*down_blocks\.0"):
        tiny_model(visual_frozen=["layer9"])


@pytest.mark.parametrize(
    "changes", [{}, {"note_dropout": 0.5, "presence": True}, {"contrastive_equal_notes": "positive"}]
)
def test_nothing_in_a_training_step_waits_for_the_device(changes):
    """Reading a number is what would make a graphics processor stand still; the trace shows every such reading."""
    model = tiny_model(**changes).train()
    model.defers_loss_check = True
    inputs = make_inputs(3, labels=True)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    waits = {"aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::nonzero"}

    def traced(step):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as trace:
            step()
        return {event.key for event in trace.key_averages()} & waits

    def step():
        model(**inputs).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    assert not traced(step)
    assert traced(lambda: model(**inputs).loss.item())
    with torch.no_grad():
        model.decoder.head.bias.fill_(float("nan"))
    model(**inputs)
    with pytest.raises(NonFiniteLossError, match="dice = nan"):
        model.finish_loss_check()
