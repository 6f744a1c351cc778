"""Language-guided medical image segmentation: an image and a sentence in, the mask of what the sentence describes out.

```python
from reclmis import RecLMISModel, RecLMISProcessor

model = RecLMISModel.from_pretrained("org/reclmis-qata", prune_reconstruction=True)
processor = RecLMISProcessor.from_pretrained("org/reclmis-qata")
outputs = model(**processor(images=image, text=note, return_tensors="pt"))
mask = processor.post_process_semantic_segmentation(outputs, target_sizes=[image.size[::-1]])[0]
```
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .registration import register
from .registry import register_data_source, register_text_encoder, register_visual_backbone

if TYPE_CHECKING:
    from .configuration_reclmis import RecLMISConfig
    from .image_processing_reclmis import RecLMISImageProcessor
    from .modeling_reclmis import RecLMISModel, RecLMISOutput
    from .pipeline import LanguageGuidedSegmentationPipeline
    from .processing_reclmis import RecLMISProcessor

__version__ = "0.1.0"

# Where each public name lives; it is imported when it is first used.
_HOMES = {
    "LanguageGuidedSegmentationPipeline": "pipeline",
    "RecLMISConfig": "configuration_reclmis",
    "RecLMISImageProcessor": "image_processing_reclmis",
    "RecLMISModel": "modeling_reclmis",
    "RecLMISOutput": "modeling_reclmis",
    "RecLMISProcessor": "processing_reclmis",
}

__all__ = [
    "LanguageGuidedSegmentationPipeline",
    "RecLMISConfig",
    "RecLMISImageProcessor",
    "RecLMISModel",
    "RecLMISOutput",
    "RecLMISProcessor",
    "register_data_source",
    "register_text_encoder",
    "register_visual_backbone",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register()
