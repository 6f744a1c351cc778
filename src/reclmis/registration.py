"""RecLMIS among transformers' Auto classes and pipelines, without importing either.

transformers keeps its own models as names in tables, and imports a class when it is first asked for; a model that is
registered with `AutoModel.register` has to be imported at once, which takes seconds, and cannot be while transformers itself
is half imported. So RecLMIS goes into the same tables: each is completed right after the module that holds it was imported,
or at once if it has been already, and this package answers for `transformers.models.reclmis`, where the tables' names are
looked up.
"""

import sys
from functools import partial
from importlib import import_module
from typing import Any

from wrapt import register_post_import_hook

_MODEL_TYPE = "reclmis"
_CONFIG = "RecLMISConfig"
# Module: its table of names, the mapping that reads it, and our entry.
_TABLES: dict[str, tuple[str, str, Any]] = {
    "modeling_auto": ("MODEL_MAPPING_NAMES", "MODEL_MAPPING", "RecLMISModel"),
    "processing_auto": ("PROCESSOR_MAPPING_NAMES", "PROCESSOR_MAPPING", "RecLMISProcessor"),
    "image_processing_auto": (
        "IMAGE_PROCESSOR_MAPPING_NAMES", "IMAGE_PROCESSOR_MAPPING", {"torchvision": "RecLMISImageProcessor"}
    ),
}  # fmt: skip


def _name_configuration(auto: Any) -> None:
    auto.CONFIG_MAPPING_NAMES[_MODEL_TYPE] = _CONFIG
    # Older versions keep titles in a second table, and look up every entry of the first one there.
    titles = getattr(auto, "MODEL_NAMES_MAPPING", None)
    if titles is not None:
        titles[_MODEL_TYPE] = "RecLMIS"


def _name_class(names: str, mapping: str, entry: Any, auto: Any) -> None:
    getattr(auto, names)[_MODEL_TYPE] = entry
    # Made of the configurations' table when the module was imported, which may have been before ours was in it.
    getattr(auto, mapping)._reverse_config_mapping[_CONFIG] = _MODEL_TYPE


def _register_pipeline(pipelines: Any) -> None:
    # The module registers itself at its end, also when it is what imported the pipelines.
    import_module(f"{__package__}.pipeline")


def register() -> None:
    """Makes transformers know the model, as soon as it knows any."""
    sys.modules.setdefault(f"transformers.models.{_MODEL_TYPE}", sys.modules[__package__])
    hooks = {
        "transformers.models.auto.configuration_auto": _name_configuration,
        "transformers.pipelines": _register_pipeline,
    }
    for module, table in _TABLES.items():
        hooks[f"transformers.models.auto.{module}"] = partial(_name_class, *table)
    for module, hook in hooks.items():
        register_post_import_hook(hook, module)
