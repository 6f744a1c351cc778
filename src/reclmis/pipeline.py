"""`transformers.pipeline("language-guided-segmentation", model=...)`."""

from typing import Any

import torch
from PIL import Image
from transformers import Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from .images import to_rgb8
from .modeling_reclmis import RecLMISModel, RecLMISOutput

TASK = "language-guided-segmentation"


class LanguageGuidedSegmentationPipeline(Pipeline):
    """Masks of what notes describe, as a pipeline of transformers.

    ```python
    >>> from transformers import pipeline
    >>> import reclmis
    >>> segment = pipeline("language-guided-segmentation", model="org/reclmis-qata")
    >>> segment("chest.png", note="Unilateral pulmonary infection, upper left lung.")
    [{'label': 'foreground', 'score': 0.93, 'mask': <PIL.Image.Image image mode=L size=1024x1024>}]
    ```

    Many pairs come as dictionaries with `image` and `note`, in a list, a generator or a dataset, and `batch_size` batches
    them. The answer has one entry per class but the background, as transformers' `"image-segmentation"` has: its name,
    its mean probability within the mask (0 for an empty mask), and the mask, 255 where it is, at the image's own size.
    """

    processor: Any
    model: Any
    _load_processor: Any = True
    _load_image_processor: Any = False
    _load_feature_extractor: Any = False
    _load_tokenizer: Any = False

    def __call__(  # type: ignore[override]
        self, inputs: Any, note: str | None = None, **options: Any
    ) -> Any:
        """Segments.

        Args:
            inputs: an image (path, PIL image or array) with `note`; or one or many dictionaries of `image` and `note`.
            note: the note of a single image.
            options: `threshold` of the foreground probability (0.5), `batch_size`, and others of transformers' pipelines.

        Raises:
            ValueError: no note, or an image whose values have no 8-bit meaning.
            UnreadableImageError: an image that cannot be read.
        """
        if note is not None:
            inputs = {"image": inputs, "note": note}
        return super().__call__(inputs, **options)

    def _sanitize_parameters(self, threshold: float | None = None, **unknown: Any):
        if unknown:
            raise TypeError(f"Unknown option(s) {', '.join(unknown)}; this pipeline knows `note` and `threshold`.")
        return {}, {}, {} if threshold is None else {"threshold": threshold}

    def preprocess(self, input_: Any, **parameters: Any) -> dict[str, torch.Tensor]:  # type: ignore[override]
        if not isinstance(input_, dict) or not isinstance(input_.get("note"), str) or input_.get("image") is None:
            raise ValueError(
                "A request needs an image and a note: pipe(image, note='...'), or dictionaries of `image` and `note`."
            )
        image = to_rgb8(input_["image"])
        inputs = self.processor(images=image, text=input_["note"], return_tensors="pt")
        return {**inputs, "target_sizes": torch.tensor([[image.height, image.width]])}

    def _forward(self, input_tensors: dict[str, torch.Tensor], **parameters: Any) -> dict[str, torch.Tensor]:  # type: ignore[override]
        sizes = input_tensors.pop("target_sizes")
        outputs = self.model(**input_tensors)
        judged = {} if outputs.presence_logits is None else {"presence_logits": outputs.presence_logits}
        return {"logits": outputs.logits, **judged, "target_sizes": sizes}

    def postprocess(self, model_outputs: dict[str, torch.Tensor], threshold: float = 0.5) -> list[dict[str, Any]]:  # type: ignore[override]
        (probability,) = self.processor.post_process_semantic_segmentation(
            RecLMISOutput(
                logits=model_outputs["logits"],  # type: ignore[arg-type]
                presence_logits=model_outputs.get("presence_logits"),  # type: ignore[arg-type]
            ),
            target_sizes=model_outputs["target_sizes"].tolist(),
            return_probabilities=True,
        )
        labels = self.model.config.id2label
        if len(labels) == 1:
            return [_entry(labels[0], probability, probability >= threshold)]
        winners = probability.argmax(dim=0)
        return [_entry(labels[index], probability[index], winners == index) for index in range(1, len(labels))]


def _entry(label: str, probability: torch.Tensor, mask: torch.Tensor) -> dict[str, Any]:
    score = float(probability[mask].mean()) if mask.any() else 0.0
    return {"label": label, "score": score, "mask": Image.fromarray((mask.to(torch.uint8) * 255).cpu().numpy())}


PIPELINE_REGISTRY.register_pipeline(
    TASK, pipeline_class=LanguageGuidedSegmentationPipeline, pt_model=RecLMISModel, type="multimodal"
)

__all__ = ["LanguageGuidedSegmentationPipeline"]
