"""A handler of the form that Hugging Face's inference endpoints call: `EndpointHandler(path)(data)`."""

import base64
import io
import string
from typing import Any

from PIL import Image

from ..visualization import mask_image
from .service import RefusedRequest, SegmentationService


class EndpointHandler:
    """Loads the model of a repository, and answers requests.

    ```json
    {"inputs": {"image": "<base64 of the file>", "note": "upper left lung"}, "parameters": {"threshold": 0.5}}
    ```

    The answer is what transformers' image segmentation gives: `[{"label", "score", "mask"}]`, one per class but the
    background, with `mask` as base64 of a PNG; a request that cannot be answered gives `{"error": "..."}`.

    Args:
        path: folder of the repository's files.
        optimize: leave out operations that change the mask by rounding only.
    """

    def __init__(self, path: str = "", optimize: bool = True) -> None:
        from .. import RecLMISModel, RecLMISProcessor

        model: Any = RecLMISModel.from_pretrained(path, prune_reconstruction=True)
        self.service = SegmentationService(
            model.optimize_for_inference() if optimize else model, RecLMISProcessor.from_pretrained(path)
        )

    def __call__(self, data: dict[str, Any]) -> list[dict[str, Any]] | dict[str, str]:
        try:
            return self._answer(data)
        except RefusedRequest as error:
            return {"error": str(error)}

    def _answer(self, data: Any) -> list[dict[str, Any]]:
        inputs = data.get("inputs") if isinstance(data, dict) else None
        if not isinstance(inputs, dict):
            raise RefusedRequest('A request is {"inputs": {"image": "<base64>", "note": "..."}}.')
        parameters = data.get("parameters") or {}
        unknown = sorted(set(parameters) - {"threshold"}) if isinstance(parameters, dict) else ["parameters"]
        if unknown:
            raise RefusedRequest(f"Unknown parameter(s) {', '.join(unknown)}; there is `threshold`.")
        threshold = parameters.get("threshold", 0.5)
        if isinstance(threshold, bool) or not isinstance(threshold, int | float):
            raise RefusedRequest(f"The threshold is a number, not {threshold!r}.")
        note = inputs.get("note")
        if note is not None and not isinstance(note, str):
            raise RefusedRequest(f"The note is a text, not {type(note).__name__}.")
        answer = self.service.answer(self._decoded(inputs.get("image")), note, threshold)
        labels = self.service.model.config.id2label
        if len(labels) == 1:
            chosen = {labels[0]: (answer.probability, answer.mask > 0)}
        else:
            chosen = {labels[k]: (answer.probability[k], answer.mask == k) for k in range(1, len(labels))}
        presence = {} if answer.presence is None else {"presence": answer.presence}
        return [
            {"label": label, "score": float(probability[inside].mean()) if inside.any() else 0.0,
             "mask": _png(mask_image(inside)), **presence}
            for label, (probability, inside) in chosen.items()
        ]  # fmt: skip

    def _decoded(self, image: Any) -> bytes:
        if not isinstance(image, str) or not image:
            raise RefusedRequest("The image is missing: `image` is the base64 of its file.")
        if not image.isascii():
            raise RefusedRequest("The image is no base64: it holds characters beyond ASCII. Encode the file's bytes.")
        # The `base64` tool breaks lines.
        text = image.encode("ascii").translate(None, string.whitespace.encode("ascii"))
        # Base64 takes four characters for three bytes; a text that is too long need not be decoded to know it.
        if len(text) > 4 * self.service.max_bytes / 3 + 4:
            raise RefusedRequest(f"The file is too large; at most {self.service.max_bytes / 1e6:.0f} MB are read.")
        try:
            return base64.b64decode(text, validate=True)
        except ValueError as error:
            raise RefusedRequest(f"The image is no base64: {error}.") from error


def _png(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


__all__ = ["EndpointHandler"]
