"""transformers' own common tests, run on ours. `make standard` fetches them; without them this file is skipped.

They come with the source distribution of transformers, which leaves a few of their helpers out: stand-ins are below,
and what they test (export, generation) is tested elsewhere or is not what this model does.
"""

import importlib
import os
import sys
import types
import unittest
from pathlib import Path

import pytest
import transformers

from reclmis import RecLMISConfig, RecLMISImageProcessor, RecLMISModel, RecLMISProcessor
from reclmis.text.note_tokenizer import build_note_tokenizer
from tests.parts import LENGTH, make_inputs, tiny_config

SOURCE = os.environ.get("TRANSFORMERS_TESTS")
if not SOURCE:
    pytest.skip("Set TRANSFORMERS_TESTS to the `tests` of transformers' sources, or run `make standard`.",
                allow_module_level=True)  # fmt: skip


def standard(name: str):
    """A module of transformers' tests, under a package name that does not collide with this one's."""
    package = types.ModuleType("transformers_tests")
    package.__path__ = [str(Path(SOURCE))]  # type: ignore[attr-defined]
    sys.modules.setdefault("transformers_tests", package)
    for absent, names in {"utils.test_configuration_utils": {"config_common_kwargs": {}},
                          "exporters.test_export": {"ExportTesterMixin": type("ExportTesterMixin", (), {})},
                          "generation.test_utils": {"GenerationTesterMixin": type("GenerationTesterMixin", (), {})},
                          }.items():  # fmt: skip
        for depth in range(1, absent.count(".") + 2):
            part = "transformers_tests." + ".".join(absent.split(".")[:depth])
            if part not in sys.modules:
                sys.modules[part] = types.ModuleType(part)
                sys.modules[part].__path__ = []  # type: ignore[attr-defined]
        for key, value in names.items():
            setattr(sys.modules[f"transformers_tests.{absent}"], key, value)
    fetching = types.ModuleType("fetch_hub_objects_for_ci")
    fetching.url_to_local_path = lambda url: url  # type: ignore[attr-defined]
    sys.modules.setdefault("fetch_hub_objects_for_ci", fetching)
    # They import transformers from the sources beside them; the installed one is meant.
    transformers.utils.direct_transformers_import = lambda path: transformers
    return importlib.import_module(f"transformers_tests.{name}")


modeling, configuration = standard("test_modeling_common"), standard("test_configuration_common")
image_processing, processing = standard("test_image_processing_common"), standard("test_processing_common")


# It sets the epsilons of norms on sub-configurations that are objects; ours are dictionaries.
modeling.set_config_for_less_flaky_test = lambda config: None


class ModelTester:
    """The tiny model and its inputs, as the mixin asks for them."""

    def __init__(self, parent) -> None:
        self.parent = parent
        self.batch_size, self.seq_length, self.is_training = 3, LENGTH, True

    def get_config(self) -> RecLMISConfig:
        return tiny_config()

    def prepare_config_and_inputs_for_common(self):
        return self.get_config(), make_inputs(self.batch_size)


class RecLMISModelTest(modeling.ModelTesterMixin, unittest.TestCase):
    all_model_classes = (RecLMISModel,)
    test_resize_embeddings = True
    has_attentions = False
    test_torch_exportable = False

    def setUp(self) -> None:
        self.model_tester = ModelTester(self)

    @unittest.skip("Hidden states are feature maps of several sizes; see test_modeling_reclmis.py.")
    def test_hidden_states_output(self) -> None: ...

    @unittest.skip("A checkpoint that lacks weights is an error here, by design, and not a warning.")
    def test_model_weights_reload_no_missing_tied_weights(self) -> None: ...

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels=return_labels)
        if return_labels:
            inputs["labels"] = make_inputs(3, labels=True)["labels"]
        return inputs


class RecLMISConfigTest(unittest.TestCase):
    def test_config(self) -> None:
        tester = configuration.ConfigTester(
            self, config_class=RecLMISConfig, has_text_modality=False, common_properties=["hidden_size", "image_size"],
            image_size=96, hidden_size=64,
        )  # fmt: skip
        tester.run_common_tests()


class ImageProcessorTester:
    image_processing_classes = {"torchvision": RecLMISImageProcessor}  # noqa: RUF012

    def __init__(self, parent) -> None:
        self.parent = parent
        self.batch_size, self.num_channels, self.min_resolution, self.max_resolution = 3, 3, 30, 60
        self.size = {"height": 32, "width": 48}

    def prepare_image_processor_dict(self):
        return {"size": self.size, "pad_size_divisor": 16, "do_normalize": False}

    def expected_output_image_shape(self, images):
        return self.num_channels, self.size["height"], self.size["width"]

    def prepare_image_inputs(self, equal_resolution=False, numpify=False, torchify=False):
        return image_processing.prepare_image_inputs(
            batch_size=self.batch_size, num_channels=self.num_channels, min_resolution=self.min_resolution,
            max_resolution=self.max_resolution, equal_resolution=equal_resolution, numpify=numpify, torchify=torchify,
        )  # fmt: skip


class RecLMISImageProcessorTest(image_processing.ImageProcessingTestMixin, unittest.TestCase):
    image_processor_tester_class = ImageProcessorTester

    @unittest.skip("Images of four channels are RGBA here, whatever their layout, and become RGB.")
    def test_call_numpy_4_channels(self) -> None: ...

    @unittest.skip("It asks for a network of transformers; see test_image_processing_reclmis.py.")
    def test_post_process_test_mixin_inheritance(self) -> None: ...


class RecLMISProcessorTest(processing.ProcessorTesterMixin, unittest.TestCase):
    processor_class = RecLMISProcessor
    images_text_kwargs_max_length = 18  # the processor's own, which is saved with it, goes before the tokenizer's

    @unittest.skip("`max_length` is an option of the processor: it belongs to the model, and is saved.")
    def test_init_arguments_not_in_processor_kwargs(self) -> None: ...

    @unittest.skip("Every note has an image: this is no model of text alone.")
    def test_processor_text_has_no_visual(self) -> None: ...

    @unittest.skip("Notes are padded to the model's length by default, whatever the tokenizer would do.")
    def test_subprocessor_defaults_0_text(self) -> None: ...

    @classmethod
    def _setup_image_processor(cls):
        return RecLMISImageProcessor(size={"height": 32, "width": 32})

    @classmethod
    def _setup_tokenizer(cls):
        return build_note_tokenizer(["upper left lung", "lower right lung"] * 2, vocab_size=400)
