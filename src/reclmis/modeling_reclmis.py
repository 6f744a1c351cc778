"""RecLMIS, wired as in Figure 3 of the paper. `forward` is the figure, in order; each box is a file of its own."""

# Shapes: B samples, K classes, C width, N patches, L words.

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .configuration_reclmis import RecLMISConfig
from .decoder import MaskDecoder, PixelLevelAttention
from .distributed import batch_sizes, gather_batch
from .image_embeddings import ImageEmbeddings
from .interaction import ConditionedInteraction, InterestHead, NullNote, PatchEmbedding, PresenceHead, WordProjection
from .losses import (
    LossWatch,
    contrastive_loss,
    cross_entropy_loss,
    dice_loss,
    presence_loss,
    reconstruction_loss,
    similarity,
    soften_twice,
    total_loss,
)
from .text import build_text_encoder, without_padding
from .vision import build_visual_backbone

# Modules that only training needs, and what their parameters' names begin with.
TRAINING_ONLY_MODULES = (
    "visual_reconstructor",
    "language_reconstructor",
    "patch_interest",
    "word_interest",
    "interaction.word_refinement",
)
_VECTOR_BYTES = 64
TRAINING_ONLY = tuple(rf"^{re.escape(name)}\." for name in TRAINING_ONLY_MODULES)


@dataclass
class RecLMISOutput(ModelOutput):
    """What [`RecLMISModel`] returns.

    Attributes:
        loss: weighted sum of `loss_terms` (eq. 11), float32 scalar; with `labels` only.
        logits: mask logits `[B, K, H, W]`, at the size of `pixel_values`.
        patch_interest: W_poi, eq. 2, `[B, N]`, sums to 1; `None` when pruned, or when no loss trains it.
        word_interest: W_woi, eq. 3, `[B, L]`, sums to 1 over real words; `None` likewise.
        hidden_states: the visual backbone's feature maps `[B, C_i, H / stride_i, W / stride_i]`, fine to coarse; with
            `output_hidden_states=True`.
        visual_features: V `[B, C, h, w]`; with `output_features=True`.
        text_features: E `[B, L, C]`; with `output_features=True`.
        interacted_patches: V' `[B, N, C]`; with `output_features=True`.
        interacted_words: E' `[B, L, C]`; with `output_features=True`, `None` when pruned.
        attentions: maps `[B, heads, queries, keys]` of the interaction by name; with `output_attentions=True`.
        loss_terms: unweighted terms by name, out of `dice`, `cross_entropy`, `presence`, `contrastive`,
            `visual_reconstruction` and `language_reconstruction`; with `labels` only.
        presence_logits: `[B]` float32; their sigmoid is the probability that the image shows what the note describes.
            `None` unless the configuration says `presence`.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    patch_interest: torch.Tensor | None = None
    word_interest: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    visual_features: torch.Tensor | None = None
    text_features: torch.Tensor | None = None
    interacted_patches: torch.Tensor | None = None
    interacted_words: torch.Tensor | None = None
    attentions: dict[str, torch.Tensor] | None = None
    loss_terms: dict[str, torch.Tensor] | None = None
    presence_logits: torch.Tensor | None = None


class RecLMISModel(PreTrainedModel):
    """Language-guided segmentation: an image and a note in, the mask of what the note describes out.

    ```python
    >>> model = RecLMISModel.from_pretrained("org/reclmis-qata", prune_reconstruction=True)
    >>> processor = RecLMISProcessor.from_pretrained("org/reclmis-qata")
    >>> outputs = model(**processor(images=image, text=note, return_tensors="pt"))
    >>> mask = processor.post_process_semantic_segmentation(outputs, target_sizes=[(height, width)])[0]
    ```
    """

    config: RecLMISConfig
    # Registered parts: contracts in `vision/base.py` and `text/base.py` say what may be asked of them.
    visual_backbone: Any
    text_encoder: Any
    patch_interest: Any
    word_interest: Any
    visual_reconstructor: Any
    language_reconstructor: Any
    config_class = RecLMISConfig
    base_model_prefix = "reclmis"
    main_input_name = "pixel_values"
    input_modalities = ["image", "text"]  # noqa: RUF012
    accepts_loss_kwargs = False
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    # Whether a broken loss term is found one step late, without a wait for the device; `None`: off the CPU only.
    defers_loss_check: bool | None = None
    # With several processes: every one gets batches of one size, so that they need not tell each other.
    has_equal_batches: bool = False
    is_optimized_for_inference = False
    _loss_watch: LossWatch | None = None
    _no_split_modules = ["UpBlock", "ConditionedInteraction", "MemoryLayer", "TargetLayer"]  # noqa: RUF012

    def __init__(self, config: RecLMISConfig) -> None:
        # Fields that were set after construction have had their types checked, but not their values.
        config.validate()
        super().__init__(config)
        self.visual_backbone = build_visual_backbone(
            config.visual_backbone,
            num_channels=config.num_channels,
            image_size=config.image_size,
            **config.visual_config,
        )
        self.text_encoder = build_text_encoder(
            config.text_encoder, max_length=config.max_text_length, **config.text_config
        )
        channels, width = self.visual_backbone.channels, config.hidden_size
        # The paper's V has the model's width already, and so needs no projection.
        self.visual_projection = nn.Conv2d(channels[-1], width, 1) if channels[-1] != width else nn.Identity()
        self.word_projection = WordProjection(self.text_encoder.width, width)
        self.null_note = NullNote(width) if config.note_dropout else None
        side = -(-config.image_size // self.backbone_stride)
        self.interaction = ConditionedInteraction(
            width,
            config.num_attention_heads,
            (side, side),
            dropout=config.dropout,
            kind=config.interaction,
            block=config.interaction_block,
            refine_words=config.trains_word_interest,
        )
        self.decoder = MaskDecoder(
            width, channels[:-1], self.visual_backbone.strides, list(config.decoder_widths), config.num_labels
        )
        self.presence = PresenceHead(width) if config.presence else None
        self.patch_interest = InterestHead(width) if config.trains_patch_interest else None
        self.word_interest = InterestHead(width) if config.trains_word_interest else None
        self.visual_reconstructor = self._reconstructor() if config.trains_visual_reconstruction else None
        self.language_reconstructor = self._reconstructor() if config.trains_language_reconstruction else None
        if config.trains_language_reconstruction and config.reconstruction_target == "released":
            _check_released_target(self.text_encoder.width, width)
        if config.prune_reconstruction:
            self._keys_to_ignore_on_load_unexpected = list(TRAINING_ONLY)
        self.post_init()
        self._freeze()
        if config.prune_reconstruction:
            self.eval()

    # The figure --------------------------------------------------------------------------------------------------------

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        text_hidden_states: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        output_features: bool = False,
        return_dict: bool | None = None,
        image_embeddings: ImageEmbeddings | None = None,
    ) -> RecLMISOutput | tuple:
        """Segments what the notes describe.

        Args:
            pixel_values: `[B, num_channels, H, W]` as the processor makes them; H and W divisible by
                `backbone_stride`.
            input_ids: `[B, L]` token ids of the notes. A model with a null note (`note_dropout` above 0) does without.
            attention_mask: `[B, L]`, 1 for real tokens and 0 for padding; `None` means that every token is real. A row
                of zeros is a sample without a note, which a null note stands for.
            labels: `[B, H, W]` class indices; with them the loss is computed.
            text_hidden_states: `[B, L, W]` from [`encode_text`], in place of running the text encoder again.
            generator: source of the reconstruction masks and of what notes are dropped, on the model's device. Without
                one, training draws from the global state, and evaluation from a fixed seed, so that its losses repeat.
            output_attentions: also return the interaction's attention maps.
            output_hidden_states: also return the visual backbone's feature maps.
            output_features: also return V, E, V' and E'.
            return_dict: `False` returns a tuple.
            image_embeddings: of [`get_image_embeddings`], in place of `pixel_values`: of as many images as there are notes,
                or of one image for all of them.

        Raises:
            ValueError: inputs that do not fit each other or the backbone, or a loss asked of a pruned model.
            NonFiniteLossError: a loss term is nan or infinite.
        """
        batch = self._check_inputs(
            pixel_values, input_ids, attention_mask, labels, text_hidden_states, image_embeddings, output_hidden_states
        )
        pixels: Any = pixel_values if image_embeddings is None else image_embeddings.visual
        output_attentions = self.config.output_attentions if output_attentions is None else output_attentions
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        states, attention_mask, given = self._notes(
            pixels, batch, input_ids, attention_mask, text_hidden_states, generator
        )
        word_mask = attention_mask.bool() if attention_mask is not None else None
        # Released weights attend to padding as if it were words.
        attended = word_mask if self.config.text_padding == "ignore" else None

        if image_embeddings is None:
            features = self.encode_image(pixels)
            visual = self.visual_projection(features[-1])  # V
        else:
            features, visual = [], image_embeddings.visual.expand(batch, -1, -1, -1)
        words = self.word_projection(states, attended)  # E
        if given is not None:
            words, word_mask = self.null_note(words, word_mask, given)  # type: ignore[misc]
            attended = word_mask if attended is not None else None
        patches, refined_words, attentions = self.interaction(visual, words, attended, bool(output_attentions))
        patch_interest = self.patch_interest(patches) if self.patch_interest is not None else None
        word_interest = self.word_interest(refined_words, word_mask) if self.word_interest is not None else None
        coarsest = patches.transpose(1, 2).unflatten(2, visual.shape[-2:])
        if image_embeddings is None:
            logits = self.decoder(coarsest, features[:-1])
        else:
            logits = self.decoder.merge(coarsest, image_embeddings.skips)
        presence_logits = None
        if self.presence is not None:
            drawn = F.adaptive_avg_pool2d(foreground_logit(logits), visual.shape[-2:]).flatten(1)
            presence_logits = self.presence(patches, words, word_mask, drawn)

        loss, loss_terms = None, None
        if labels is not None:
            with torch.autocast(logits.device.type, enabled=False):
                loss_terms = self._segmentation_terms(logits, labels)
                if presence_logits is not None:
                    loss_terms["presence"] = presence_loss(presence_logits, labels)
            note_ids = None if input_ids is None else without_padding(input_ids, attention_mask)
            loss_terms |= self._auxiliary_terms(
                visual.flatten(2).transpose(1, 2), words, patches, states, patch_interest, word_interest, word_mask,
                attended, given, same_note_ids=note_ids, generator=generator,
            )  # fmt: skip
            loss = total_loss(loss_terms, self.loss_weights, self._watch_for(loss_terms))

        output = RecLMISOutput(
            loss=loss,
            logits=logits,
            patch_interest=patch_interest,
            word_interest=word_interest,
            hidden_states=tuple(features) if output_hidden_states else None,
            visual_features=visual if output_features else None,
            text_features=words if output_features else None,
            interacted_patches=patches if output_features else None,
            interacted_words=refined_words if output_features else None,
            attentions=attentions or None,
            loss_terms=loss_terms,
            presence_logits=presence_logits,
        )
        return_dict = self.config.return_dict if return_dict is None else return_dict
        return output if return_dict else output.to_tuple()

    def encode_image(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps of the visual backbone, fine to coarse, for `[B, num_channels, H, W]`."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.visual_frozen is not True):
            # A processor's pixels are float32 whatever the weights are.
            return self.visual_backbone(pixel_values.to(self.dtype))

    def get_image_embeddings(self, pixel_values: torch.Tensor) -> ImageEmbeddings:
        """All that a note does not change, for `[B, num_channels, H, W]`: encode an image once, then ask many notes.

        ```python
        >>> image = model.get_image_embeddings(**processor(images=image, return_tensors="pt"))
        >>> outputs = model(image_embeddings=image, **processor(text=notes, return_tensors="pt"))
        ```

        Raises:
            ValueError: pixel values that do not fit the backbone.
        """
        self.check_pixels(pixel_values)
        *skips, coarsest = self.encode_image(pixel_values)
        height, width = pixel_values.shape[-2:]
        visual, prepared = self.visual_projection(coarsest), self.decoder.prepare(skips)
        return ImageEmbeddings(visual, prepared, (height, width), self.is_optimized_for_inference)

    def encode_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Hidden states `[B, L, W]` of the text encoder for `[B, L]` ids. With a frozen encoder they depend on the note
        alone, so each note need be encoded once only: hand them back as `text_hidden_states`."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.text_frozen):
            return self.text_encoder(input_ids, attention_mask)

    def _notes(self, pixels, batch, input_ids, attention_mask, states, generator):
        """Text states `[B, L, W]`, their attention mask, and `[B]` whether there is a note; `None` for a model that takes
        none away. Of `pixels`, type and device count."""
        if self.null_note is None:
            return (states if states is not None else self.encode_text(input_ids, attention_mask)), attention_mask, None
        if input_ids is None and states is None:
            length = self.config.max_text_length
            nothing = pixels.new_zeros(batch, length, self.text_encoder.width, dtype=self.dtype)
            return nothing, pixels.new_ones(batch, length, dtype=torch.long), pixels.new_zeros(batch).bool()
        if attention_mask is None:
            notes = input_ids if states is None else states
            attention_mask = torch.ones(notes.shape[:2], dtype=torch.long, device=notes.device)
        given = attention_mask.bool().any(dim=1)
        # An encoder must not be asked to attend to nothing.
        readable = torch.where(given[:, None], attention_mask, 1)
        if states is None:
            # A table of notes keeps an entry for none.
            states = self.encode_text(input_ids, attention_mask if hasattr(self.text_encoder, "knows") else readable)
        if self.training:
            # A generator that is None cannot be traced for a batch size that is left open.
            source = {} if generator is None else {"generator": generator}
            dropped = torch.rand(batch, device=states.device, **source) < self.config.note_dropout
            given = given & ~dropped
        return states, readable, given

    @property
    def backbone_stride(self) -> int:
        """Height and width of the image must be divisible by this."""
        return self.visual_backbone.strides[-1]

    @property
    def loss_weights(self) -> dict[str, float]:
        """The lambdas of eq. 11 by the name of their term."""
        config = self.config
        return {
            "dice": config.segmentation_weight * config.dice_weight,
            "cross_entropy": config.segmentation_weight * config.cross_entropy_weight,
            "presence": config.presence_weight,
            "contrastive": config.contrastive_weight,
            "visual_reconstruction": config.visual_reconstruction_weight,
            "language_reconstruction": config.language_reconstruction_weight,
        }

    def _watch_for(self, terms: dict[str, torch.Tensor]) -> LossWatch | None:
        """While training on a device of its own the loss terms are looked at one step late, so that no step waits."""
        late = self.defers_loss_check
        if late is None:
            late = self.training and next(iter(terms.values())).device.type != "cpu"
        if not late or torch.compiler.is_compiling():
            return None
        if self._loss_watch is None:
            self._loss_watch = LossWatch()
        return self._loss_watch

    def finish_loss_check(self) -> None:
        """Looks at the loss terms of the last step, where that waits for the next one; for the end of an epoch.

        Raises:
            NonFiniteLossError: one of them is nan or infinite.
        """
        if self._loss_watch is not None:
            self._loss_watch.finish()

    # Losses ------------------------------------------------------------------------------------------------------------

    def _segmentation_terms(self, logits: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        terms = {}
        if self.config.dice_weight:
            terms["dice"] = dice_loss(logits, labels)
        if self.config.cross_entropy_weight:
            terms["cross_entropy"] = cross_entropy_loss(logits, labels)
        return terms

    def _auxiliary_terms(
        self,
        visual,
        words,
        patches,
        states,
        patch_interest,
        word_interest,
        word_mask,
        attended,
        given,
        *,
        same_note_ids,
        generator,
    ) -> dict[str, torch.Tensor]:
        """Contrastive and reconstruction terms. `visual` is V as tokens `[B, N, C]`, `patches` is V', `word_mask` marks
        the real words, `attended` those that attention sees (`None` for all), `given` the samples that have a note."""
        config, terms = self.config, {}
        if generator is None and not self.training and not torch.compiler.is_compiling():
            generator = torch.Generator(visual.device).manual_seed(0)
        if config.trains_contrastive:
            with _named("contrastive"):
                terms["contrastive"] = self._contrastive(
                    visual, words, patch_interest, word_interest, word_mask, same_note_ids, given
                )
        released = config.reconstruction_target == "released"
        if self.visual_reconstructor is not None:
            with _named("visual_reconstruction"):
                hidden = self._draw(visual, patch_interest, config.visual_mask_ratio, None, generator)
                rebuilt = self.reconstruct_visual(visual, words, hidden, patch_interest, word_interest, attended)
                terms["visual_reconstruction"] = self._reconstruction(
                    rebuilt, patches if released else visual, patch_interest, None
                )
        if self.language_reconstructor is not None:
            with _named("language_reconstruction"):
                counted = attended
                if given is not None:
                    # There is nothing to rebuild of a note that is not there.
                    word_mask = word_mask & given[:, None]
                    counted = word_mask if attended is not None else given[:, None].expand_as(word_mask)
                hidden = self._draw(words, word_interest, config.language_mask_ratio, word_mask, generator)
                rebuilt = self.reconstruct_language(visual, words, hidden, patch_interest, word_interest, attended)
                terms["language_reconstruction"] = self._reconstruction(
                    rebuilt, states if released else words, word_interest, counted
                )
        return terms

    def _contrastive(
        self, visual, words, patch_interest, word_interest, word_mask, same_note_ids, given
    ) -> torch.Tensor:
        config = self.config
        if config.text_padding == "attend" and word_mask is not None:
            # In released weights padding counts as words that align with nothing: cosine 0, not left out.
            words, word_mask = words.masked_fill(~word_mask[:, :, None], 0.0), None
        if not config.contrastive_condition:
            patch_interest = word_interest = None
        elif config.contrastive_weighting == "double_softmax":
            patch_interest = soften_twice(patch_interest, None)
            word_interest = soften_twice(word_interest, word_mask)
        same_note = None
        if self.training:
            counts = batch_sizes(len(visual), visual.device, self.has_equal_batches)
            visual, words, patch_interest, word_interest, word_mask, same_note_ids, given = (
                None if part is None else gather_batch(part, counts)
                for part in (visual, words, patch_interest, word_interest, word_mask, same_note_ids, given)
            )
        if config.contrastive_equal_notes == "positive":
            if same_note_ids is None:
                raise ValueError("`contrastive_equal_notes='positive'` compares notes: pass `input_ids` as well.")
            same_note = (same_note_ids[:, None] == same_note_ids[None]).all(dim=-1)
        with torch.autocast(visual.device.type, enabled=False):
            scores = similarity(visual, words, patch_interest, word_interest, word_mask)
            return contrastive_loss(scores, config.contrastive_temperature, same_note, given)

    def reconstruct_visual(self, visual, words, hidden, patch_interest, word_interest, word_mask) -> torch.Tensor:
        """CVR (eq. 7): V^ `[B, N, C]` from V with `hidden` `[B, N]` patches zeroed, and E weighed by W_woi."""
        condition = word_interest if self.config.visual_reconstruction_condition else None
        masked = visual.masked_fill(hidden[:, :, None], 0.0)
        if self.config.reconstruction_attention == "cross":
            return self.visual_reconstructor(masked, words, condition, source_mask=word_mask)
        joint = self._joint(visual, words, patch_interest, word_interest, word_mask, condition is not None)
        rebuilt = self.visual_reconstructor(torch.cat([masked, words], dim=1), *joint[:2], **joint[2])
        return rebuilt[:, : visual.shape[1]]

    def reconstruct_language(self, visual, words, hidden, patch_interest, word_interest, word_mask) -> torch.Tensor:
        """CLR (eq. 9): E^ `[B, L, C]` from E with `hidden` `[B, L]` words zeroed, and V weighed by W_poi."""
        condition = patch_interest if self.config.language_reconstruction_condition else None
        masked = words.masked_fill(hidden[:, :, None], 0.0)
        if self.config.reconstruction_attention == "cross":
            return self.language_reconstructor(masked, visual, condition, masked_mask=word_mask)
        joint = self._joint(visual, words, patch_interest, word_interest, word_mask, condition is not None)
        rebuilt = self.language_reconstructor(torch.cat([visual, masked], dim=1), *joint[:2], **joint[2])
        return rebuilt[:, visual.shape[1] :]

    def _joint(self, visual, words, patch_interest, word_interest, word_mask, conditioned):
        """Table 5's self-attention: both modalities, concatenated, are source and condition."""
        source = torch.cat([visual, words], dim=1)
        condition = torch.cat([patch_interest, word_interest], dim=1) if conditioned else None
        mask = None
        if word_mask is not None:
            mask = torch.cat([word_mask.new_ones(visual.shape[:2]), word_mask], dim=1)
        return source, condition, {"masked_mask": mask, "source_mask": mask}

    def _draw(self, tokens, interest, ratio, mask, generator) -> torch.Tensor:
        from .reconstruction import draw_mask

        # An interest that nothing trains is not built, and counts as uniform.
        interest = tokens.new_ones(tokens.shape[:2]) if interest is None else interest
        return draw_mask(interest, ratio, self.config.mask_strategy, token_mask=mask, generator=generator)

    def _reconstruction(self, rebuilt, target, interest, mask) -> torch.Tensor:
        if self.config.reconstruction_stop_gradient:
            target = target.detach()
        if self.config.reconstruction_target == "normalised":
            target = F.layer_norm(target, target.shape[-1:])
        with torch.autocast(rebuilt.device.type, enabled=False):
            return reconstruction_loss(rebuilt, target, interest, self.config.reconstruction_weighting, mask)

    def _reconstructor(self) -> nn.Module:
        from .reconstruction import ConditionedReconstructor

        config = self.config
        return ConditionedReconstructor(
            config.hidden_size,
            config.reconstruction_heads,
            config.reconstruction_layers,
            config.reconstruction_intermediate_size,
            dropout=config.dropout,
            conditioning=config.reconstruction_conditioning,
            causal=config.reconstruction_causal,
        )

    # Inputs ------------------------------------------------------------------------------------------------------------

    def check_pixels(self, pixel_values: torch.Tensor) -> None:
        """Raises:
        ValueError: pixel values that do not fit the backbone.
        """
        config = self.config
        if pixel_values.ndim != 4 or pixel_values.shape[1] != config.num_channels:
            raise ValueError(
                f"`pixel_values` must be [B, {config.num_channels}, H, W], got {list(pixel_values.shape)}."
            )
        height, width = pixel_values.shape[-2:]
        fixed = self.visual_backbone.input_size
        if fixed is not None and (height, width) != tuple(fixed):
            raise ValueError(
                f"{config.visual_backbone!r} takes images of {fixed[0]} x {fixed[1]} pixels only, got {height} x {width}. "
                "Let the processor resize them, or build the model with another `image_size`."
            )
        stride = self.backbone_stride
        if height % stride or width % stride:
            raise ValueError(
                f"The image has {height} x {width} pixels, but {config.visual_backbone!r} needs multiples of {stride}. "
                f"Let the processor resize it, or pad it (`do_resize=False, do_pad=True, pad_size_divisor={stride}`)."
            )

    def _check_inputs(
        self,
        pixel_values,
        input_ids,
        attention_mask,
        labels,
        text_hidden_states,
        image_embeddings,
        output_hidden_states,
    ) -> int:
        """The batch's size, once everything fits."""
        config = self.config
        if (pixel_values is None) == (image_embeddings is None):
            raise ValueError("Pass either `pixel_values`, or `image_embeddings` from `get_image_embeddings`.")
        if image_embeddings is None:
            self.check_pixels(pixel_values)
            batch, _, height, width = pixel_values.shape
        else:
            batch, (height, width) = image_embeddings.visual.shape[0], image_embeddings.image_size
            if image_embeddings.optimized != self.is_optimized_for_inference:
                one, other = ("an optimised", "another") if image_embeddings.optimized else ("another", "an optimised")
                raise ValueError(
                    f"`image_embeddings` come from {one} model, but this is {other} one; let it make its own."
                )
            if labels is not None:
                raise ValueError("`image_embeddings` are for inference; to compute a loss, pass `pixel_values`.")
            if output_hidden_states:
                raise ValueError("`image_embeddings` hold no hidden states of the backbone; pass `pixel_values`.")
        if input_ids is None and text_hidden_states is None:
            if self.null_note is None:
                raise ValueError(
                    "A note is missing: pass `input_ids`, or `text_hidden_states` from `encode_text`. A model trained with "
                    "`note_dropout` above 0 does without."
                )
            if attention_mask is not None:
                raise ValueError("An `attention_mask` needs its notes: pass `input_ids` as well, or leave it out.")
        notes = input_ids if input_ids is not None else text_hidden_states
        if image_embeddings is not None and batch == 1 and notes is not None:
            batch = notes.shape[0]
        for name, value in (("notes", notes), ("masks (`labels`)", labels)):
            if value is not None and value.shape[0] != batch:
                raise ValueError(f"{batch} images, but {value.shape[0]} {name}.")
        if attention_mask is not None and attention_mask.shape != notes.shape[:2]:
            raise ValueError(
                f"`attention_mask` is {list(attention_mask.shape)}, but the notes are {list(notes.shape[:2])}."
            )
        if labels is None:
            return batch
        if config.prune_reconstruction:
            raise ValueError(
                "This model is pruned for inference and has no loss. Load it without `prune_reconstruction=True` to "
                "train it, from a checkpoint that was saved unpruned; leave `labels` out to segment."
            )
        if labels.shape != (batch, height, width):
            raise ValueError(
                f"`labels` must be [B, H, W] = {[batch, height, width]} like the images, got {list(labels.shape)}."
            )
        return batch

    # Life as a pretrained model ------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> "RecLMISModel":
        if mode and self.config.prune_reconstruction:
            raise ValueError(
                "A pruned model cannot be trained: the parts behind its losses are gone. Load the unpruned checkpoint "
                "without `prune_reconstruction=True`."
            )
        super().train(mode)
        if self.config.text_frozen:
            self.text_encoder.eval()
        for part in self._frozen_visual_parts():
            if isinstance(part, nn.Module):
                part.eval()
        return self

    def optimize_for_inference(self) -> "RecLMISModel":
        """A copy that computes the same logits, up to rounding, with fewer operations; this model stays as it is.

        Leaves out what only training needs, folds batch norms of the U-Net and of the decoder into convolutions, keeps
        tensors channels-last, computes a pixel-level attention's two 1x1 convolutions in one, and turns each convolution
        over an upsampled map into a transposed one over the map itself ([`reclmis.inference`]). Backbones of timm keep
        their own form. The copy can neither be trained nor saved: save this model.
        """
        from .inference import optimize_for_inference

        return optimize_for_inference(self)

    def save_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        """As transformers does.

        Raises:
            ValueError: the model was optimised for inference; its weights fit no configuration.
        """
        if self.is_optimized_for_inference:
            raise ValueError("A model optimised for inference cannot be saved; save the model that it was made from.")
        return super().save_pretrained(*args, **kwargs)

    def _frozen_visual_parts(self) -> list[nn.Module | nn.Parameter]:
        """What `visual_frozen` names.

        Raises:
            ValueError: a name that the backbone does not have.
        """
        frozen, backbone = self.config.visual_frozen, self.visual_backbone
        if isinstance(frozen, bool):
            return [backbone] if frozen else []
        named = {**dict(backbone.named_parameters()), **dict(backbone.named_modules())}
        unknown = [name for name in frozen if name not in named]
        if unknown:
            inside = [name for name, _ in backbone.named_modules() if name and name.count(".") < 2]
            raise ValueError(
                f"`visual_frozen` names {', '.join(unknown)}, which {self.config.visual_backbone!r} does not have. It has "
                f"{', '.join(inside[:40])}{', ...' if len(inside) > 40 else ''}, and what is in them."
            )
        return [named[name] for name in frozen]

    def _freeze(self) -> None:
        for part in self._frozen_visual_parts():
            part.requires_grad_(False)
            if isinstance(part, nn.Module):
                part.eval()
        if self.config.text_frozen:
            self.text_encoder.requires_grad_(False).eval()
        if not self.config.trains_text:
            # No loss depends on the note: parameters that never get a gradient would stall distributed training.
            self.text_encoder.requires_grad_(False)
            self.word_projection.requires_grad_(False)

    def get_input_embeddings(self) -> nn.Module:
        return self.text_encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.text_encoder.set_input_embeddings(value)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if hasattr(module, "init_non_persistent_buffers"):
            # Loading skips the constructor's arithmetic, and such buffers are in no checkpoint.
            module.init_non_persistent_buffers()  # type: ignore[operator]
        if getattr(module, "_keeps_own_init", False):
            return
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, PatchEmbedding):
            # Positions must be told apart from the start: words name places, and V' has no residual.
            init.copy_(module.position_embedding, _sine_positions(module.grid, module.position_embedding.shape[-1]))
        elif isinstance(module, NullNote):
            init.normal_(module.word, std=self.config.initializer_range)
        elif isinstance(module, PixelLevelAttention):
            # Gates start open. Children come before their parent, so the linear layer is set already.
            init.ones_(module.gate.bias)
        else:
            super()._init_weights(module)
            own = getattr(module, "position_embedding", None)
            if isinstance(own, nn.Parameter):
                init.normal_(own, std=self.config.initializer_range)

    @classmethod
    def from_parts(cls, config: RecLMISConfig) -> "RecLMISModel":
        """A new model whose backbone and text encoder start from the pretrained weights that the configuration names.

        `visual_config["pretrained"]` and `text_config["pretrained"]` are `True` for the part's own weights, or a Hub id,
        file or folder; parts without the key start at random, as they all do in `RecLMISModel(config)`.
        """
        model = cls(config)
        for part, source in (
            (model.visual_backbone, config.visual_config.get("pretrained")),
            (model.text_encoder, config.text_config.get("pretrained")),
        ):
            if not source:
                continue
            if not hasattr(part, "load_pretrained"):
                raise ValueError(
                    f"{type(part).__name__} has no pretrained weights to load, yet `pretrained` is {source!r}."
                )
            part.load_pretrained(source)
        model._freeze()
        return model

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, allow_missing_keys: bool = False, **kwargs: Any):
        """Loads weights and configuration from a folder or the Hub, as transformers does, with two differences.

        Weights that the checkpoint lacks raise instead of being left random: a mask from them would look plausible.
        `prune_reconstruction=True` builds and reads only what makes the mask.

        Args:
            allow_missing_keys: initialise what is missing, with transformers' warning; for fine-tuning.

        Raises:
            ValueError: the checkpoint lacks weights of the model; they are named. Or its file is damaged.
            OSError: no such checkpoint, or one without a `.safetensors` file: nothing pickled is read.
        """
        model: Any
        report: dict[str, Any]
        wants_report = kwargs.pop("output_loading_info", False)
        kwargs.setdefault("use_safetensors", True)
        try:
            loaded: Any = super().from_pretrained(
                pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs
            )
            model, report = loaded
        except SafetensorError as error:
            raise ValueError(
                f"The weights in {pretrained_model_name_or_path} are damaged: {error}. Copy or download them again."
            ) from error
        missing = sorted(report["missing_keys"])
        if missing and not allow_missing_keys:
            pruned = all(any(re.match(part, key) for part in TRAINING_ONLY) for key in missing)
            mend = (
                "The checkpoint was saved pruned: load it with `prune_reconstruction=True`."
                if pruned
                else "Get the whole checkpoint again, or pass `allow_missing_keys=True` to initialise them at random."
            )
            raise ValueError(f"{pretrained_model_name_or_path} lacks weights: {', '.join(missing)}. {mend}")
        model._freeze()
        _align(model)
        return (model, report) if wants_report else model


@contextmanager
def _named(term: str) -> Iterator[None]:
    """Says which loss term an error belongs to."""
    try:
        yield
    except Exception as error:
        raise RuntimeError(f"The loss term {term!r} cannot be computed: {error}") from error


def _check_released_target(text_width: int, width: int) -> None:
    if text_width != width:
        raise ValueError(
            f"`reconstruction_target='released'` regresses text states of width {text_width} with features of width "
            f"{width}. Make `hidden_size` equal to the text encoder's width, or use 'features'."
        )


def _align(model: nn.Module) -> None:
    """Moves weights that a file left between the bounds of vector registers. Some kernels round differently there, so that a
    model would not be equal to its own checkpoint, nor a pruned one to the whole."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu" and tensor.data_ptr() % _VECTOR_BYTES:
            tensor.data = tensor.data.clone()


def foreground_logit(logits: torch.Tensor) -> torch.Tensor:
    """Logit of any foreground `[B, 1, H, W]`."""
    if logits.shape[1] == 1:
        return logits
    return logits[:, 1:].logsumexp(dim=1, keepdim=True) - logits[:, :1]


def _sine_positions(grid: tuple[int, int], width: int) -> torch.Tensor:
    """Sines and cosines of row and column `[1, rows * columns, width]`, from which the position embedding learns on."""
    quarter = -(-width // 4)
    frequencies = 1.0 / 100.0 ** (torch.arange(quarter, dtype=torch.float32) / max(quarter, 1))
    rows = torch.arange(grid[0], dtype=torch.float32)[:, None] * frequencies
    columns = torch.arange(grid[1], dtype=torch.float32)[:, None] * frequencies
    rows = torch.cat([rows.sin(), rows.cos()], dim=1)[:, None].expand(-1, grid[1], -1)
    columns = torch.cat([columns.sin(), columns.cos()], dim=1)[None].expand(grid[0], -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)[None, :, :width]


__all__ = ["RecLMISModel", "RecLMISOutput"]
