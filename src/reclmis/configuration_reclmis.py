"""Every knob of RecLMIS, typed, with the source of its default beside it: paper section, released weights, or ours."""

from dataclasses import field
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .registry import text_encoders

Number = float | int


@strict
class RecLMISConfig(PreTrainedConfig):
    r"""Configuration of [`RecLMISModel`].

    The defaults are the method of the paper at the paper's widths, with padding handled correctly. Two variants have
    names: [`RecLMISConfig.paper`] (the equations as printed) and [`RecLMISConfig.release`] (how the authors' published
    weights behave). Three sizes have names: [`RecLMISConfig.tiny`], [`RecLMISConfig.small`], [`RecLMISConfig.base`].

    Args:
        visual_backbone (`str`): `"unet"`, `"timm:<model>"`, or a registered id.
        visual_config (`dict`): arguments of the visual backbone, kept with the model so that loading needs no network.
        text_encoder (`str`): `"clip"`, `"tokens"`, `"hf:<model>"`, or a registered id.
        visual_frozen (`bool` or `list[str]`): no gradient into the visual backbone (`True`), or into its modules and
            parameters of these names, such as `["stem", "down_blocks.0"]` of the U-Net or `["network.layer1"]` of
            timm's ResNets. What is frozen stays in evaluation mode.
        text_config (`dict`): architecture of the text encoder, kept with the model so that loading needs no network.
        text_frozen (`bool`): no gradient into the text encoder, which then stays in evaluation mode.
        num_labels (`int`): K, the number of output channels. 1 is binary (one logit, sigmoid); K > 1 is a softmax over
            K classes, class 0 being the background.
        image_size (`int`): pixels; the side for which the position embedding is learned. Other sizes resize it.
        prune_reconstruction (`bool`): build only what makes the mask. Such a model cannot be trained.

    Example:

    ```python
    >>> from reclmis import RecLMISConfig, RecLMISModel
    >>> model = RecLMISModel(RecLMISConfig.tiny())
    ```
    """

    model_type = "reclmis"
    # What evaluation loops of transformers need not gather.
    keys_to_ignore_at_inference = ["patch_interest", "word_interest", "loss_terms"]  # noqa: RUF012

    # Parts ---------------------------------------------------------------------------------------------------------
    visual_backbone: str = "unet"  # paper 3.1: U-Net
    visual_config: dict[str, Any] = field(default_factory=dict)
    visual_frozen: bool | list[str] = False  # released weights: the backbone is trained
    text_encoder: str = "clip"  # paper 3.1: 12-layer CLIP text tower
    text_config: dict[str, Any] = field(default_factory=dict)
    text_frozen: bool = True  # released weights
    text_padding: Literal["ignore", "attend"] = "ignore"  # ours; released weights attend to padding
    max_text_length: int = 18  # released weights (10 for MoNuSeg)

    # Shapes --------------------------------------------------------------------------------------------------------
    image_size: int = 224  # paper 4.2
    num_channels: int = 3
    hidden_size: int = 512  # C; released weights
    num_attention_heads: int = 4  # released weights
    decoder_widths: list[int] | tuple[int, ...] = (256, 128, 64, 64)  # released weights, coarse to fine
    dropout: Number = 0.1  # released weights
    initializer_range: Number = 0.02  # ours, linear layers and embeddings

    # Conditioned interaction (paper 3.2) -----------------------------------------------------------------------------
    interaction: Literal["cross", "self", "none"] = "cross"  # Table 3 "CI", Table 5
    # Released weights | ours: norms and residuals, without which small networks left the note unused (ABLATIONS.md).
    interaction_block: Literal["plain", "residual"] = "plain"

    # Beyond the paper (ours) -----------------------------------------------------------------------------------------
    note_dropout: Number = (
        0.0  # share of training notes replaced by a learned null note; above 0, a note may be left out
    )
    presence: bool = False  # judge whether the image shows what the note describes at all

    # Conditioned contrastive loss (eq. 4-6) --------------------------------------------------------------------------
    contrastive: bool = True
    contrastive_condition: bool = True  # Table 4
    contrastive_weighting: Literal["single_softmax", "double_softmax"] = "single_softmax"  # eq. 5 | released code
    contrastive_equal_notes: Literal["negative", "positive"] = "negative"  # eq. 6 | equal notes are no false negatives
    contrastive_temperature: Number = 0.01  # released configuration: 1 / exp(CLIP's logit scale)

    # Conditioned reconstruction (eq. 7-10) ---------------------------------------------------------------------------
    visual_reconstruction: bool = True  # CVR, Table 3
    language_reconstruction: bool = True  # CLR, Table 3
    visual_reconstruction_condition: bool = True  # Table 4
    language_reconstruction_condition: bool = True  # Table 4
    reconstruction_attention: Literal["cross", "self"] = "cross"  # Table 5
    reconstruction_conditioning: Literal["gate", "hadamard"] = "gate"  # released weights | eq. 7 and 9
    reconstruction_causal: bool = False  # True in released weights
    # Layer-normed V and E (ours) | V and E (eq. 8, 10) | V' and text states (released code). Nothing bounds the norm of E,
    # and at the paper's widths the unbounded target drowned the segmentation loss within ten epochs.
    reconstruction_target: Literal["normalised", "features", "released"] = "normalised"
    # Mean over tokens and channels (released code) | eq. 8 and 10, whose sum over channels grows with the width.
    reconstruction_weighting: Literal["uniform", "interest"] = "uniform"
    # Ours, measured (ABLATIONS.md): with a gradient into the target (released code) trained features may shrink until there
    # is nothing to rebuild.
    reconstruction_stop_gradient: bool = True
    reconstruction_layers: int = 3  # paper 4.2, Fig. 11
    reconstruction_heads: int = 4  # released weights
    reconstruction_intermediate_size: int = 1024  # released weights
    mask_strategy: Literal["probability", "random", "topk"] = "probability"  # Fig. 7
    visual_mask_ratio: Number = 0.5  # alpha_v, paper 4.2, Fig. 8
    language_mask_ratio: Number = 0.3  # alpha_t, paper 4.2, Fig. 8

    # Objective (eq. 11), paper 4.2, Fig. 12 --------------------------------------------------------------------------
    language_reconstruction_weight: Number = 1.0  # lambda_1
    visual_reconstruction_weight: Number = 1.0  # lambda_2
    contrastive_weight: Number = 0.2  # lambda_3
    segmentation_weight: Number = 5.0  # lambda_4
    presence_weight: Number = 1.0  # ours
    dice_weight: Number = 0.5  # released code: within the segmentation loss
    cross_entropy_weight: Number = 0.5  # released code: within the segmentation loss

    # Inference -------------------------------------------------------------------------------------------------------
    prune_reconstruction: bool = False

    def __post_init__(self, **kwargs):
        if self.id2label is None:
            self.id2label = _labels(kwargs.pop("num_labels", 1))
        self.label2id = {name: int(index) for index, name in self.id2label.items()}
        # Own copies: a dictionary of the caller, or of a preset, is never shared between two configurations.
        self.visual_config = dict(self.visual_config or {})
        self.text_config = dict(self.text_config or {})
        self.decoder_widths = list(self.decoder_widths)
        if "model_type" not in self.text_config and self.text_encoder in text_encoders:
            from .text.base import (
                complete_text_config,
            )  # here, as transformers imports this module in the middle of its own

            # Whatever the encoder must look up elsewhere is looked up once, here, and kept with the model.
            self.text_config = complete_text_config(self.text_encoder, self.text_config)
        super().__post_init__(**kwargs)

    @property
    def num_labels(self) -> int:
        return len(self.id2label or ())

    @num_labels.setter
    def num_labels(self, count: int) -> None:
        # The base class names two classes as its default does, and then leaves them out of the file.
        if self.id2label is None or len(self.id2label) != count:
            self.id2label = _labels(count)
            self.label2id = {name: index for index, name in self.id2label.items()}

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> "RecLMISConfig":
        """This one: `text_config` is a plain dictionary, not a configuration of transformers."""
        return self

    @property
    def vocab_size(self) -> int | None:
        """Number of token ids of the text encoder, `None` where its own default holds."""
        return (self.text_config or {}).get("vocab_size")

    @vocab_size.setter
    def vocab_size(self, count: int) -> None:
        self.text_config = {**(self.text_config or {}), "vocab_size": count}

    # Sizes -----------------------------------------------------------------------------------------------------------
    @classmethod
    def tiny(cls, **changes: Any) -> "RecLMISConfig":
        """Less than a fifteenth of `base` per training image; for tests, demos and continuous integration."""
        # Ours: over a grid of stride 8, more layers and heads would cost more than the rest of the network.
        cheap = {"reconstruction_layers": 1, "reconstruction_heads": 2}
        return cls(**{**_size([8, 16, 32, 64], [32, 16, 8], 64), **cheap, **changes})

    @classmethod
    def small(cls, **changes: Any) -> "RecLMISConfig":
        """Trains something useful on two CPU cores within an hour. Reconstructs as eq. 8 and 10 print it, which is stable
        at these widths."""
        equations = {"reconstruction_target": "features", "reconstruction_weighting": "interest"}
        return cls(**{**_size([16, 32, 64, 128, 192], [96, 48, 24, 16], 192), **equations, **changes})

    @classmethod
    def base(cls, **changes: Any) -> "RecLMISConfig":
        """The paper's widths, which are the defaults."""
        return cls(**changes)

    # Variants of the method ------------------------------------------------------------------------------------------
    @classmethod
    def paper(cls, **changes: Any) -> "RecLMISConfig":
        """The equations as the paper prints them."""
        return cls(
            **{
                "reconstruction_conditioning": "hadamard",
                "reconstruction_target": "features",
                "reconstruction_weighting": "interest",
                **changes,
            }
        )

    @classmethod
    def release(cls, **changes: Any) -> "RecLMISConfig":
        """The behaviour of the authors' published weights and training code."""
        return cls(
            **{
                "text_padding": "attend",
                "contrastive_weighting": "double_softmax",
                "reconstruction_conditioning": "gate",
                "reconstruction_causal": True,
                "reconstruction_target": "released",
                "reconstruction_weighting": "uniform",
                "reconstruction_stop_gradient": False,
                **changes,
            }
        )

    # What a configuration implies --------------------------------------------------------------------------------------
    @property
    def trains_visual_reconstruction(self) -> bool:
        return self.visual_reconstruction and not self.prune_reconstruction

    @property
    def trains_language_reconstruction(self) -> bool:
        return self.language_reconstruction and not self.prune_reconstruction

    @property
    def trains_contrastive(self) -> bool:
        return self.contrastive and not self.prune_reconstruction

    @property
    def trains_text(self) -> bool:
        """Whether any gradient reaches the note's features: not without interaction and without auxiliary losses."""
        return self.interaction != "none" or (
            self.trains_contrastive or self.trains_visual_reconstruction or self.trains_language_reconstruction
        )

    @property
    def trains_patch_interest(self) -> bool:
        """Whether a loss sends a gradient into W_poi (eq. 2). Without one the head is not built; W_poi is uniform."""
        return (
            (self.trains_contrastive and self.contrastive_condition)
            or (self.trains_language_reconstruction and self.language_reconstruction_condition)
            or (self.trains_visual_reconstruction and self.reconstruction_weighting == "interest")
            or (self.reconstruction_attention == "self" and self._conditions_any_reconstruction)
        )

    @property
    def trains_word_interest(self) -> bool:
        """Whether a loss sends a gradient into W_woi (eq. 3). Without one the head is not built; W_woi is uniform."""
        return (
            (self.trains_contrastive and self.contrastive_condition)
            or (self.trains_visual_reconstruction and self.visual_reconstruction_condition)
            or (self.trains_language_reconstruction and self.reconstruction_weighting == "interest")
            or (self.reconstruction_attention == "self" and self._conditions_any_reconstruction)
        )

    @property
    def _conditions_any_reconstruction(self) -> bool:
        return (self.trains_visual_reconstruction and self.visual_reconstruction_condition) or (
            self.trains_language_reconstruction and self.language_reconstruction_condition
        )

    # Checks, run at construction and again by the model ------------------------------------------------------------------
    def validate_sizes(self) -> None:
        for name in ("image_size", "num_channels", "hidden_size", "num_attention_heads", "max_text_length",
                     "reconstruction_layers", "reconstruction_heads", "reconstruction_intermediate_size"):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if not self.id2label:
            raise ValueError("`id2label` must name at least one class (one is a binary mask).")
        if not self.decoder_widths or min(self.decoder_widths) < 1:
            raise ValueError(f"`decoder_widths` must list positive widths, coarse to fine, got {self.decoder_widths}.")
        for heads in ("num_attention_heads", "reconstruction_heads"):
            if self.hidden_size % getattr(self, heads):
                raise ValueError(
                    f"`hidden_size` ({self.hidden_size}) must be a multiple of `{heads}` ({getattr(self, heads)})."
                )

    def validate_ranges(self) -> None:
        for name in ("visual_mask_ratio", "language_mask_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` is a share of the tokens, between 0 and 1, got {getattr(self, name)}.")
        for name in ("dropout", "note_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"`{name}` must lie in [0, 1), got {getattr(self, name)}.")
        if self.note_dropout and self.interaction == "none":
            raise ValueError("Without interaction no mask depends on a note: `note_dropout` must be 0.")
        if self.contrastive_temperature <= 0:
            raise ValueError(f"`contrastive_temperature` must be positive, got {self.contrastive_temperature}.")
        for name in ("language_reconstruction", "visual_reconstruction", "contrastive", "segmentation", "dice",
                     "cross_entropy", "presence"):  # fmt: skip
            if getattr(self, f"{name}_weight") < 0:
                raise ValueError(f"`{name}_weight` must not be negative, got {getattr(self, f'{name}_weight')}.")
        if self.segmentation_weight * (self.dice_weight + self.cross_entropy_weight) == 0:
            raise ValueError("The segmentation loss has weight 0: raise `segmentation_weight`, `dice_weight` or "
                             "`cross_entropy_weight`.")  # fmt: skip
        for name in ("language_reconstruction", "visual_reconstruction", "contrastive", "presence"):
            if getattr(self, name) and getattr(self, f"{name}_weight") == 0:
                raise ValueError(f"`{name}_weight` is 0; to leave the term out set `{name}=False`, "
                                 "which also spares its parameters.")  # fmt: skip

    def validate_kernels(self) -> None:
        """An attention implementation that names a repository would fetch and run its code: refused."""
        implementation = getattr(self, "_attn_implementation", None)
        names = implementation.values() if isinstance(implementation, dict) else [implementation]
        if any("/" in str(name) for name in names):
            raise ValueError(
                f"`attn_implementation` names a repository ({implementation!r}), whose code would be run. "
                "Use 'eager' or 'sdpa'."
            )


def _labels(count: int) -> dict[int, str]:
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"`num_labels` must be an integer of at least 1 (1 is a binary mask), got {count!r}.")
    if count == 1:
        return {0: "foreground"}
    return {0: "background", **{index: f"class_{index}" for index in range(1, count)}}


def _size(widths: list[int], decoder: list[int], hidden: int) -> dict[str, Any]:
    return {
        "visual_config": {"widths": widths},
        "decoder_widths": decoder,
        "hidden_size": hidden,
        # Ours: without norms and residuals, networks this small leave the note unused for many epochs.
        "interaction_block": "residual",
        "dropout": 0.0,
        "text_encoder": "tokens",
        "text_config": {"hidden_size": hidden // 2, "num_hidden_layers": 2, "num_attention_heads": 4},
        "text_frozen": False,
        "max_text_length": 32,
        "reconstruction_layers": 2,
        "reconstruction_intermediate_size": 2 * hidden,
    }


__all__ = ["RecLMISConfig"]
