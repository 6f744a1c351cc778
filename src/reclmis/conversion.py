"""Released RecLMIS checkpoints -> ours, by a table of key patterns and a report of what was dropped and why."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from .configuration_reclmis import RecLMISConfig
from .modeling_reclmis import RecLMISModel

Tensors = Mapping[str, torch.Tensor]

# Released key -> our key. `\1`, `\2` are the pattern's groups; `{n+k}` is group n plus k, `{k-n}` is k minus group n.
KEY_TABLE: tuple[tuple[str, str], ...] = (
    # visual backbone
    (r"inc\.(conv|norm)\.(\w+)", r"visual_backbone.stem.\1.\2"),
    (r"down(\d)\.nConvs\.(\d)\.(conv|norm)\.(\w+)", r"visual_backbone.down_blocks.{1-1}.{2+1}.\3.\4"),
    # decoder: up4 is the coarsest block
    (r"up(\d)\.pixModule\.conv_avg\.weight", r"decoder.blocks.{4-1}.attention.average.weight"),
    (r"up(\d)\.pixModule\.conv_max\.weight", r"decoder.blocks.{4-1}.attention.maximum.weight"),
    (r"up(\d)\.pixModule\.bottleneck\.0\.(\w+)", r"decoder.blocks.{4-1}.attention.expand.\2"),
    (r"up(\d)\.pixModule\.bottleneck\.2\.(\w+)", r"decoder.blocks.{4-1}.attention.gate.\2"),
    (r"up(\d)\.nConvs\.(\d)\.(conv|norm)\.(\w+)", r"decoder.blocks.{4-1}.convs.\2.\3.\4"),
    (r"outc\.(\w+)", r"decoder.head.\1"),
    # conditioned interaction
    (r"interact\.embeddings\.position_embeddings", r"interaction.patch_embedding.position_embedding"),
    (r"interact\.embeddings\.patch_embeddings\.(\w+)", r"interaction.patch_embedding.projection.\1"),
    (r"interact\.CTBN\.(conv|norm)\.(\w+)", r"interaction.word_refinement.\1.\2"),
    (r"interact\.attn_text\.(.+)", r"interaction.word_attention.\1"),
    (r"interact\.attn_img\.(.+)", r"interaction.patch_attention.\1"),
    (r"mlp_visual\.0\.(\w+)", r"patch_interest.hidden.\1"),
    (r"mlp_visual\.2\.weight", r"patch_interest.score.weight"),
    (r"mlp_woi\.0\.(\w+)", r"word_interest.hidden.\1"),
    (r"mlp_woi\.2\.weight", r"word_interest.score.weight"),
    # text encoder
    (r"text_module4\.(\w+)", r"word_projection.conv.\1"),
    (r"clip\.positional_embedding", r"text_encoder.transformer.embeddings.position_embedding.weight"),
    (r"clip\.token_embedding\.weight", r"text_encoder.transformer.embeddings.token_embedding.weight"),
    (r"clip\.ln_final\.(\w+)", r"text_encoder.transformer.final_layer_norm.\1"),
    (r"clip\.text_projection", r"text_encoder.projection.weight"),
    (r"clip\.transformer\.resblocks\.(\d+)\.attn\.(.+)", r"text_encoder.transformer.encoder.layers.\1.self_attn.\2"),
    (r"clip\.transformer\.resblocks\.(\d+)\.ln_(\d)\.(\w+)",
     r"text_encoder.transformer.encoder.layers.\1.layer_norm\2.\3"),
    (r"clip\.transformer\.resblocks\.(\d+)\.mlp\.c_fc\.(\w+)", r"text_encoder.transformer.encoder.layers.\1.mlp.fc1.\2"),
    (r"clip\.transformer\.resblocks\.(\d+)\.mlp\.c_proj\.(\w+)",
     r"text_encoder.transformer.encoder.layers.\1.mlp.fc2.\2"),
    # reconstruction: decoder1 is the stack over the source, decoder2 the one over the masked target
    (r"rec_text_trans1\.decoder1\.decoder_layers\.(.+)", r"language_reconstructor.memory_layers.\1"),
    (r"rec_text_trans1\.decoder2\.decoder_layers\.(.+)", r"language_reconstructor.target_layers.\1"),
    (r"rec_img_trans1\.decoder1\.decoder_layers\.(.+)", r"visual_reconstructor.memory_layers.\1"),
    (r"rec_img_trans1\.decoder2\.decoder_layers\.(.+)", r"visual_reconstructor.target_layers.\1"),
)  # fmt: skip

# Names inside a reconstruction layer.
LAYER_TABLE: tuple[tuple[str, str], ...] = (
    (r"\.self_attn_layer_norm\.", ".self_attention_norm."),
    (r"\.encoder_attn_layer_norm\.", ".cross_attention_norm."),
    (r"\.final_layer_norm\.", ".feed_forward_norm."),
    (r"\.self_attn\.", ".self_attention."),
    (r"\.encoder_attn\.", ".cross_attention."),
    (r"\.fc1\.", ".feed_forward.expand."),
    (r"\.fc2\.", ".feed_forward.contract."),
)

# What the released network carries and never uses.
DROPPED: tuple[tuple[str, str], ...] = (
    (r"clip\.visual\.", "CLIP's image tower; the network has its own visual backbone"),
    (r"up\d\.pixModule\.conv_sig\.", "a gate that PLAM's forward never calls"),
    (r"mlp_(woi|visual)\.2\.bias", "a shift that the softmax over tokens cancels"),
    (r"rec_\w+_trans1\.decoder1\.decoder_layers\.\d+\.encoder_attn", "cross-attention of the memory stack, never used"),
    (r"clip\.logit_scale$", "kept as `contrastive_temperature` in the configuration"),
)


@dataclass
class ConversionReport:
    """What a conversion did.

    Attributes:
        config: configuration inferred from the shapes.
        converted: number of tensors in the converted model.
        dropped: released keys that were left out, by reason.
    """

    config: RecLMISConfig
    converted: int = 0
    dropped: dict[str, list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{self.converted} tensors converted."]
        lines += [f"Dropped {len(keys)}: {reason}." for reason, keys in self.dropped.items()]
        return "\n".join(lines)


def read_checkpoint(path: str | Path) -> dict[str, torch.Tensor]:
    """State dict of a released checkpoint (a `torch.save`d dict with `state_dict`, or a bare one; `.safetensors` too).

    Nothing pickled is executed: a file that asks for more than tensors and plain containers is refused.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a checkpoint, or one whose pickle would run code.
    """
    content: Any
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No checkpoint at {path}.")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        content = load_file(path)
    else:
        try:
            # Records beside the weights (`val_loss`) may be numbers of NumPy, which run no code either.
            with torch.serialization.safe_globals(_number_types()):
                content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise ValueError(
                f"{path} cannot be read as tensors alone, and nothing else in it will be executed: {error}"
            ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{path} holds no state dict.")
    others = [str(key) for key, value in content.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise ValueError(f"{path} holds entries that are no tensors: {', '.join(others[:5])}.")
    return {str(key).removeprefix("module."): value for key, value in content.items()}


def _number_types() -> list[Any]:
    """What NumPy's floating point and integer numbers are pickled with."""
    from numpy._core.multiarray import scalar

    return [
        scalar,
        np.dtype,
        *(type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int32, np.int64, np.bool_)),
    ]


def infer_config(released: Tensors, **changes) -> RecLMISConfig:
    """Configuration of a released state dict, from its shapes.

    Raises:
        ValueError: keys that every released network has are missing.
    """
    required = ("inc.conv.weight", "outc.weight", "interact.embeddings.position_embeddings", "text_module4.weight",
                "clip.token_embedding.weight", "clip.text_projection")  # fmt: skip
    absent = [key for key in required if key not in released]
    if absent:
        raise ValueError(f"This is no released RecLMIS checkpoint: it lacks {', '.join(absent)}.")
    stem = released["inc.conv.weight"]
    downs = sorted(key for key in released if re.fullmatch(r"down\d\.nConvs\.0\.conv\.weight", key))
    ups = sorted((key for key in released if re.fullmatch(r"up\d\.nConvs\.0\.conv\.weight", key)), reverse=True)
    patches, hidden = released["interact.embeddings.position_embeddings"].shape[1:]
    layers = _count(released, r"rec_img_trans1\.decoder2\.decoder_layers\.(\d+)\.")
    text_width = released["clip.token_embedding.weight"].shape[1]
    settings = {
        "visual_config": {"widths": [stem.shape[0], *(released[key].shape[0] for key in downs)]},
        "text_config": {
            "vocab_size": released["clip.token_embedding.weight"].shape[0],
            "hidden_size": text_width,
            "intermediate_size": 4 * text_width,
            "num_hidden_layers": _count(released, r"clip\.transformer\.resblocks\.(\d+)\."),
            "num_attention_heads": text_width // 64,
            "max_position_embeddings": released["clip.positional_embedding"].shape[0],
            "projection_dim": released["clip.text_projection"].shape[1],
        },
        "num_channels": stem.shape[1],
        "num_labels": released["outc.weight"].shape[0],
        "hidden_size": hidden,
        "image_size": int(patches**0.5) * 2 ** len(downs),
        "decoder_widths": [released[key].shape[0] for key in ups],
        "reconstruction_layers": max(layers, 1),
        "prune_reconstruction": layers == 0,
    }
    if layers:
        first = "rec_img_trans1.decoder2.decoder_layers.0.fc1.weight"
        settings["reconstruction_intermediate_size"] = released[first].shape[0]
    if "clip.logit_scale" in released:
        settings["contrastive_temperature"] = float(torch.exp(-released["clip.logit_scale"].double()))
    return RecLMISConfig.release(**{**settings, **changes})


def convert_state_dict(released: Tensors) -> tuple[dict[str, torch.Tensor], dict[str, list[str]]]:
    """Our state dict, and the dropped keys by reason.

    Raises:
        ValueError: a key that neither table knows.
    """
    converted: dict[str, torch.Tensor] = {}
    dropped: dict[str, list[str]] = {}
    unknown = []
    for key, value in released.items():
        reason = next((reason for pattern, reason in DROPPED if re.match(pattern, key)), None)
        target = _translate(key) if reason is None else None
        if reason is not None:
            dropped.setdefault(reason, []).append(key)
        elif target is None:
            unknown.append(key)
        else:
            converted.update(_split_attention(target, value))
    if unknown:
        raise ValueError(f"Keys that no rule of the conversion knows: {', '.join(unknown)}.")
    return converted, dropped


def convert_model(released: Tensors, **changes) -> tuple[RecLMISModel, ConversionReport]:
    """Builds our model from a released state dict.

    Args:
        released: name -> tensor, without `module.`.
        changes: configuration fields that shapes cannot tell, for example `max_text_length=10` for MoNuSeg.

    Raises:
        ValueError: unknown keys, or weights that are missing or of the wrong shape.
    """
    report = ConversionReport(infer_config(released, **changes))
    weights, report.dropped = convert_state_dict(released)
    report.converted = len(weights)
    model = RecLMISModel(report.config)
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ValueError(f"The released weights do not fit the inferred configuration: {error}") from error
    return model.eval(), report


def _translate(key: str) -> str | None:
    for pattern, template in KEY_TABLE:
        match = re.fullmatch(pattern, key)
        if match is None:
            continue
        target = match.expand(_with_numbers(template, match.groups()))
        if "_reconstructor." in target:
            for old, new in LAYER_TABLE:
                target = re.sub(old, new, target)
        return target
    return None


def _with_numbers(template: str, groups: tuple[str, ...]) -> str:
    """Sums in a template, `{4-n}` and `{n+k}`, as numbers."""

    def from_four(part: re.Match[str]) -> str:
        return str(4 - int(groups[int(part[1]) - 1]))

    def shifted(part: re.Match[str]) -> str:
        return str(int(groups[int(part[1]) - 1]) + int(part[2]))

    return re.sub(r"\{(\d)([+-]\d)\}", shifted, re.sub(r"\{4-(\d)\}", from_four, template))


def _split_attention(key: str, value: torch.Tensor) -> dict[str, torch.Tensor]:
    """One stacked input projection becomes three; CLIP's projection is stored transposed."""
    names = ("q_proj", "k_proj", "v_proj") if ".self_attn." in key else ("query", "key", "value")
    match = re.fullmatch(r"(.+)\.in_proj_(weight|bias)", key)
    if match is not None:
        return {f"{match[1]}.{name}.{match[2]}": part.clone() for name, part in zip(names, value.chunk(3), strict=True)}
    if ".self_attn." not in key:
        key = key.replace(".out_proj.", ".output.")
    return {key: value.T.contiguous() if key == "text_encoder.projection.weight" else value}


def _count(released: Tensors, pattern: str) -> int:
    return len({match[1] for key in released if (match := re.match(pattern, key))})


def convert_checkpoint(path: str | Path, output: str | Path, *, max_text_length: int = 18) -> ConversionReport:
    """Converts a released checkpoint file into a folder that `from_pretrained` loads, and replays it from there.

    The processor reads images and notes as the release does: BGR, bilinear resize without averaging, divided by 255;
    notes of fewer than nine words get " EOF XXX" per missing word; padding is 0.

    Args:
        path: the checkpoint.
        output: folder to write; it appears when the replay was right.
        max_text_length: tokens per note: 18, or 10 for the MoNuSeg checkpoint.

    Raises:
        FileNotFoundError, ValueError: see [`read_checkpoint`] and [`convert_model`].
        FileExistsError: `output` holds something.
        OSError: CLIP's tokenizer is neither here nor reachable.
        RuntimeError: the written model answers otherwise than the converted one.
    """
    from .image_processing_reclmis import RecLMISImageProcessor
    from .processing_reclmis import RecLMISProcessor
    from .text.clip import load_clip_tokenizer

    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"{output} exists and is no empty folder; give another.")
    model, report = convert_model(read_checkpoint(path), max_text_length=max_text_length)
    size = model.config.image_size
    processor = RecLMISProcessor(
        RecLMISImageProcessor(
            size={"height": size, "width": size},
            channel_order="bgr",
            antialias=False,
            num_channels=model.config.num_channels,
            num_labels=model.config.num_labels,
        ),
        load_clip_tokenizer(),
        max_length=max_text_length,
        pad_token_id=0,
        note_min_words=9,
        note_filler=" EOF XXX",
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=output.parent, prefix=".converting-") as unfinished:
        folder = Path(unfinished) / "model"
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        _replay(model, processor, folder)
        folder.replace(output)
    return report


@torch.no_grad()
def _replay(model: RecLMISModel, processor: Any, folder: Path) -> None:
    """Whether what was written reads and answers an image and a note as the converted model does, pruned as well."""
    from .processing_reclmis import RecLMISProcessor

    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (64, 64, 3), generator=generator, dtype=torch.uint8).numpy()
    note = "Bilateral pulmonary infection, two infected areas, upper left lung and lower right lung."
    inputs = processor(images=image, text=note, return_tensors="pt")
    expected = model(**inputs).logits
    reread = RecLMISProcessor.from_pretrained(folder)(images=image, text=note, return_tensors="pt")
    for prune in (False, True):
        answer = RecLMISModel.from_pretrained(folder, prune_reconstruction=prune)(**reread).logits
        if not torch.equal(answer, expected):
            raise RuntimeError("The written model answers otherwise than the converted one; nothing was kept.")
