"""A page to try a model on: an image, a note, and the mask that follows it. Built with Gradio."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import MissingPackageError
from ..visualization import mask_image, overlay
from .service import Answer, RefusedRequest, SegmentationService

TITLE = "Language-guided segmentation"
_INTRODUCTION = (
    "Upload an image (PNG, JPEG, TIFF, BMP or DICOM), say what to look for, and change the note to see the mask follow. "
    "Uploads are deleted within twenty minutes. **For research; not a medical device.**"
)
NUM_EXAMPLES = 4
# What pictures on the page are enlarged to in their shorter side, and never exceed in their longer one.
_LEAST_SIDE = 360
_MOST_SIDE = 1440
# Gradio keeps uploads and pictures for a page as temporary files. They are deleted at this age in seconds, looked for as
# often, and when the page is closed.
_FORGET_AFTER = 600


def build_page(service: SegmentationService, examples: list[tuple[str, str]] | None = None) -> Any:
    """A Gradio page for a service.

    Args:
        service: what answers.
        examples: paths of images and their notes, to start from.

    Raises:
        MissingPackageError: `pip install reclmis[demo]` is due.
    """
    gradio = _gradio()

    def answer(path: str | None, note: str, threshold: float):
        if not path:
            return _nothing("Upload an image, or choose an example.")
        try:
            given = service.answer(Path(path).read_bytes(), note, threshold)
        except RefusedRequest as error:
            return _nothing(str(error))
        return _shown(given, service.model.config.num_labels)

    with gradio.Blocks(title=TITLE, delete_cache=(_FORGET_AFTER, _FORGET_AFTER), analytics_enabled=False) as page:
        gradio.Markdown(f"# {TITLE}\n{_INTRODUCTION}")
        with gradio.Row():
            with gradio.Column(scale=1):
                upload = gradio.File(label="Image", elem_id="image", type="filepath")
                note = gradio.Textbox(label="Note", elem_id="note", placeholder="What to look for, and where")
                threshold = gradio.Slider(0, 1, 0.5, step=0.01, label="Threshold of the probability")
                ask = gradio.Button("Segment", variant="primary", elem_id="segment")
                message = gradio.Markdown(elem_id="message")
            with gradio.Column(scale=2):
                with gradio.Row():
                    picture = gradio.Image(label="Overlay", elem_id="overlay", format="png", interactive=False)
                    mask = gradio.Image(label="Mask", elem_id="mask", format="png", interactive=False)
                with gradio.Row():
                    patches = gradio.Image(
                        label="Patches of interest", elem_id="patches", format="png", interactive=False
                    )
                    words = gradio.HighlightedText(label="Words of interest", elem_id="words")
        inputs, outputs = [upload, note, threshold], [message, picture, mask, patches, words]
        triggers = [ask.click, note.submit, note.blur, upload.change, threshold.release]
        # What is asked while another answer is computed would be dropped; so the last of it is answered afterwards.
        # No route that programs could call without the page: its checks are the service's all the same.
        gradio.on(triggers, answer, inputs, outputs, trigger_mode="always_last", api_visibility="private",
                  concurrency_limit=1)  # fmt: skip
        if examples:
            gradio.Examples([list(example) for example in examples], [upload, note], cache_examples=False,
                            label="Examples (synthetic)")  # fmt: skip
    return page


def launch(
    service: SegmentationService, *, host: str = "127.0.0.1", port: int | None = None, share: bool = False,
    block: bool = True,
) -> Any:  # fmt: skip
    """Serves the page until interrupted; with `block=False` in the background, to be closed with `close()`.

    Args:
        service: what answers.
        host: address to listen on; `"0.0.0.0"` for all, which lets others in.
        port: `None` takes a free one from 7860 on.
        share: ask Gradio for a public address.
    """
    with tempfile.TemporaryDirectory(prefix="reclmis-examples-") as folder:
        page = build_page(service, write_examples(Path(folder), service.model.config.image_size))
        page.queue(max_size=32)
        page.launch(
            server_name=host, server_port=port, share=share, max_file_size=service.max_bytes, quiet=True,
            prevent_thread_lock=True, allowed_paths=[folder], show_error=False, footer_links=[],
        )  # fmt: skip
        if block:
            print(f"Serving on {page.local_url}", flush=True)
            page.block_thread()
            return None
        # Examples are copied into Gradio's own cache when a page is built.
        return page


def write_examples(folder: Path, size: int) -> list[tuple[str, str]]:
    """A few images of the synthetic set as files, with their notes."""
    from ..data.synthetic import make_sample

    examples = []
    for index in range(NUM_EXAMPLES):
        sample = make_sample(index, size=size)
        path = folder / f"synthetic-{index + 1}.png"
        Image.fromarray(np.asarray(sample["image"])).save(path)
        examples.append((str(path), sample["note"]))
    return examples


def _shown(answer: Answer, num_labels: int) -> tuple:
    share = float((answer.mask > 0).mean())
    sentences = [f"Marked: {100 * share:.1f} % of the image." if share else "Nothing is marked."]
    if answer.presence is not None:
        sentences.append(f"Shown with probability {answer.presence:.2f}.")
    sentences += answer.remarks
    # Drawing takes many times an image's own memory; it is made small before.
    image = _small_enough(answer.image)
    classes = np.asarray(_small_enough(Image.fromarray(answer.mask), Image.Resampling.NEAREST))
    mask = classes if num_labels == 1 else classes * (255 // max(num_labels - 1, 1))
    words = answer.word_interest
    most = max((weight for _, weight in words or ()), default=0.0) or 1.0
    return (
        " ".join(sentences),
        _large_enough(overlay(image, classes)),
        _large_enough(mask_image(mask, 1 if num_labels == 1 else num_labels), Image.Resampling.NEAREST),
        None if answer.patch_interest is None else _large_enough(heat(image, answer.patch_interest)),
        None if words is None else [(f"{word} ", weight / most) for word, weight in words],
    )


def _small_enough(picture: Image.Image, how: Image.Resampling = Image.Resampling.BICUBIC) -> Image.Image:
    """No side is longer than a page shows."""
    longest = max(picture.size)
    if longest <= _MOST_SIDE:
        return picture
    width, height = (max(round(side * _MOST_SIDE / longest), 1) for side in picture.size)
    return picture.resize((width, height), how)


def _large_enough(picture: Image.Image, how: Image.Resampling = Image.Resampling.BICUBIC) -> Image.Image:
    """A page shows a small picture small. One that is very long and narrow stays so."""
    times = min(-(-_LEAST_SIDE // min(picture.size)), _MOST_SIDE // max(picture.size))
    return picture if times <= 1 else picture.resize((times * picture.width, times * picture.height), how)


def heat(image: Image.Image, weights: np.ndarray, alpha: float = 0.55) -> Image.Image:
    """The image under a map of non-negative weights `[h, w]`: the greater, the brighter (yellow); black is none."""
    scaled = weights / max(float(weights.max()), np.finfo(np.float32).tiny)
    small = Image.fromarray((255 * scaled).astype(np.uint8))
    level = np.asarray(small.resize(image.size, Image.Resampling.BICUBIC), dtype=np.float32)[..., None] / 255
    colour = np.concatenate([255 * np.sqrt(level), 230 * level, 60 * level**2], axis=-1)
    grey = np.asarray(image.convert("L").convert("RGB"), dtype=np.float32)
    return Image.fromarray(((1 - alpha) * grey + alpha * colour).round().astype(np.uint8))


def _nothing(message: str) -> tuple:
    return message, None, None, None, None


def _gradio() -> Any:
    import os

    # Its own switch, read when it is imported: no address is asked for news.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import gradio
    except ImportError as error:
        raise MissingPackageError("Gradio is not installed; `pip install reclmis[demo]` brings it.") from error
    return gradio


__all__ = ["build_page", "heat", "launch", "write_examples"]
