"""RecLMIS among transformers' Auto classes and pipelines.

transformers imports them when they are first asked for, and each takes seconds. So is this: what belongs to a module of
transformers is registered right after that module was imported, or at once if it has been already.
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from wrapt import register_post_import_hook

_waiting: list[Callable[[], None]] = []


# What registration needs, and what imports models of transformers itself. Each calls `settle` at its end.
_NEEDED = frozenset(
    f"{__package__}.{name}"
    for name in ("configuration_reclmis", "image_processing_reclmis", "modeling_reclmis", "pipeline",
                 "processing_reclmis", "registration", "text")
)  # fmt: skip


def settle(finished: str = "") -> None:
    """Registers what waits.

    transformers imports its Auto classes also in the middle of importing a model, which may be in the middle of one of our
    modules. Registration waits until that is done.

    Args:
        finished: the module whose end this is.
    """
    while _waiting and not _importing(_NEEDED - {finished}):
        _waiting.pop(0)()


def _importing(names: frozenset[str]) -> bool:
    # Importlib marks modules so that a second thread waits for them.
    specs = [getattr(sys.modules.get(name), "__spec__", None) for name in names]
    return any(getattr(spec, "_initializing", False) for spec in specs)


def _register_configuration(auto: Any) -> None:
    from .configuration_reclmis import RecLMISConfig

    auto.AutoConfig.register("reclmis", RecLMISConfig, exist_ok=True)


def _register_model(auto: Any) -> None:
    from .configuration_reclmis import RecLMISConfig
    from .modeling_reclmis import RecLMISModel

    auto.AutoModel.register(RecLMISConfig, RecLMISModel, exist_ok=True)


def _register_image_processor(auto: Any) -> None:
    from .configuration_reclmis import RecLMISConfig
    from .image_processing_reclmis import RecLMISImageProcessor

    classes = {"torchvision": RecLMISImageProcessor}
    auto.AutoImageProcessor.register(RecLMISConfig, image_processor_classes=classes, exist_ok=True)


def _register_processor(auto: Any) -> None:
    from .configuration_reclmis import RecLMISConfig
    from .processing_reclmis import RecLMISProcessor

    auto.AutoProcessor.register(RecLMISConfig, RecLMISProcessor, exist_ok=True)


def _register_pipeline(pipelines: Any) -> None:
    from .modeling_reclmis import RecLMISModel
    from .pipeline import TASK, LanguageGuidedSegmentationPipeline

    pipelines.PIPELINE_REGISTRY.register_pipeline(
        TASK, pipeline_class=LanguageGuidedSegmentationPipeline, pt_model=RecLMISModel, type="multimodal"
    )


_REGISTRATIONS = {
    "transformers.models.auto.configuration_auto": _register_configuration,
    "transformers.models.auto.modeling_auto": _register_model,
    "transformers.models.auto.image_processing_auto": _register_image_processor,
    "transformers.models.auto.processing_auto": _register_processor,
    "transformers.pipelines": _register_pipeline,
}


def _when_imported(register: Callable[[Any], None], module: Any) -> None:
    _waiting.append(partial(register, module))
    settle()


for _name, _register in _REGISTRATIONS.items():
    register_post_import_hook(partial(_when_imported, _register), _name)
