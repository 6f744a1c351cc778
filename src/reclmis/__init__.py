"""Language-guided medical image segmentation: an image and a sentence in, the mask of what the sentence describes out.

```python
from reclmis import RecLMISModel, RecLMISProcessor

model = RecLMISModel.from_pretrained("org/reclmis-qata", prune_reconstruction=True)
processor = RecLMISProcessor.from_pretrained("org/reclmis-qata")
outputs = model(**processor(images=image, text=note, return_tensors="pt"))
mask = processor.post_process_semantic_segmentation(outputs, target_sizes=[image.size[::-1]])[0]
```
"""

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor

from .configuration_reclmis import RecLMISConfig
from .image_processing_reclmis import RecLMISImageProcessor
from .modeling_reclmis import RecLMISModel, RecLMISOutput
from .pipeline import LanguageGuidedSegmentationPipeline
from .processing_reclmis import RecLMISProcessor
from .registry import register_data_source, register_text_encoder, register_visual_backbone

__version__ = "0.1.0"

AutoConfig.register("reclmis", RecLMISConfig, exist_ok=True)
AutoModel.register(RecLMISConfig, RecLMISModel, exist_ok=True)
AutoImageProcessor.register(
    RecLMISConfig, image_processor_classes={"torchvision": RecLMISImageProcessor}, exist_ok=True
)
AutoProcessor.register(RecLMISConfig, RecLMISProcessor, exist_ok=True)

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
