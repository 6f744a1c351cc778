"""Beyond the paper: images without a note, and notes of which the image shows nothing."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError

from reclmis import RecLMISModel
from reclmis.image_processing_reclmis import RecLMISImageProcessor
from reclmis.losses import contrastive_loss, presence_loss
from reclmis.modeling_reclmis import RecLMISOutput
from reclmis.prediction import predict
from reclmis.text import with_note_table
from reclmis.training import NoteCache
from tests.parts import NOTE_TEXT, lively, make_inputs, tiny_model, tiny_processor

BOTH = {"note_dropout": 0.5, "presence": True}
NOTES = ["Unilateral pulmonary infection, one infected area, upper left lung.", "Bilateral pulmonary infection."]


def logits_of(model, **inputs):
    with torch.no_grad():
        return model(**inputs).logits


class TestNullNote:
    @pytest.mark.parametrize("padding", ["ignore", "attend"])
    @pytest.mark.parametrize("kind", ["cross", "self"])
    def test_without_notes_is_a_mask_of_zeros_is_one_word_whatever_the_ids(self, padding, kind):
        model = lively(tiny_model(**BOTH, text_padding=padding, interaction=kind))
        torch.nn.init.normal_(model.null_note.word)
        inputs = make_inputs()
        nothing = logits_of(model, pixel_values=inputs["pixel_values"])
        unread = {**inputs, "attention_mask": torch.zeros_like(inputs["attention_mask"])}
        assert torch.allclose(logits_of(model, **unread), nothing, atol=1e-4)
        changed = {**unread, "input_ids": unread["input_ids"].flip(0)}
        assert torch.equal(logits_of(model, **changed), logits_of(model, **unread))
        assert not torch.allclose(logits_of(model, **inputs), nothing, atol=1e-3)

    def test_rows_with_and_without_a_note_do_not_touch_each_other(self):
        model = lively(tiny_model(**BOTH))
        inputs = make_inputs(3)
        alone = logits_of(model, **inputs)
        inputs["attention_mask"][1] = 0
        mixed = logits_of(model, **inputs)
        assert torch.allclose(mixed[[0, 2]], alone[[0, 2]], atol=1e-4)
        assert torch.allclose(mixed[1:2], logits_of(model, pixel_values=inputs["pixel_values"][1:2]), atol=1e-4)

    def test_training_drops_the_share_asked_for_and_evaluation_none(self, monkeypatch):
        model = tiny_model(note_dropout=0.3)
        seen = []
        forward = model.null_note.forward
        monkeypatch.setattr(model.null_note, "forward", lambda w, m, given: seen.append(given) or forward(w, m, given))
        inputs = make_inputs(16, 16, 16)
        with torch.no_grad():
            model(**inputs)
            assert seen.pop().all()
            model.train()
            for _ in range(40):
                model(**inputs)
        assert 0.22 < 1 - torch.cat(seen).float().mean() < 0.38
        again = [model(**inputs, generator=torch.Generator().manual_seed(3)).logits is not None for _ in range(2)]
        assert all(again) and torch.equal(seen[-1], seen[-2])

    def test_every_parameter_gets_a_gradient_whether_or_not_a_note_was_dropped(self):
        for share in (1e-9, 0.999):
            model = tiny_model(note_dropout=share, presence=True).train()
            outputs = model(**make_inputs(3, labels=True))
            outputs.loss.backward()
            assert outputs.loss.isfinite()
            assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"text_padding": "attend", "contrastive_weighting": "double_softmax"},
            {"reconstruction_attention": "self"},
            {"reconstruction_weighting": "interest"},
        ],
    )
    def test_losses_of_notes_leave_out_samples_without_one(self, changes):
        model = tiny_model(note_dropout=0.5, **changes)
        inputs = make_inputs(3, labels=True)
        inputs["attention_mask"][2] = 0
        terms = model(**inputs).loss_terms
        pair = model(**{key: value[:2] for key, value in inputs.items()}).loss_terms
        assert torch.allclose(terms["contrastive"], pair["contrastive"], atol=1e-4)
        nobody = model(pixel_values=inputs["pixel_values"], labels=inputs["labels"]).loss_terms
        assert nobody["contrastive"] == 0 and nobody["language_reconstruction"] == 0
        assert all(value.isfinite() for value in nobody.values())

    def test_is_refused_where_it_does_not_exist(self):
        with pytest.raises(ValueError, match="A note is missing.*note_dropout"):
            tiny_model()(pixel_values=make_inputs()["pixel_values"])
        with pytest.raises(StrictDataclassClassValidationError, match="Without interaction"):
            tiny_model(note_dropout=0.1, interaction="none")
        with pytest.raises(StrictDataclassClassValidationError, match="`note_dropout` must lie in"):
            tiny_model(note_dropout=1.0)

    def test_compiles_in_one_graph(self):
        model = lively(tiny_model(**BOTH))
        inputs = make_inputs()
        inputs["attention_mask"][1] = 0
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        assert torch.allclose(logits_of(compiled, **inputs), logits_of(model, **inputs), atol=1e-4)

    def test_is_kept_by_pruning_and_in_the_cache_of_notes(self, tmp_path):
        model = lively(tiny_model(**BOTH, text_config=NOTE_TEXT, text_frozen=True))
        torch.nn.init.normal_(model.null_note.word)
        model.save_pretrained(tmp_path)
        pruned = RecLMISModel.from_pretrained(tmp_path, prune_reconstruction=True)
        pixels = make_inputs()["pixel_values"]
        with torch.no_grad():
            whole, lean = model(pixel_values=pixels), pruned(pixel_values=pixels)
        assert torch.equal(whole.logits, lean.logits) and torch.equal(whole.presence_logits, lean.presence_logits)
        processor = tiny_processor(NOTES)
        processor.null_note = True
        cached = NoteCache(model, processor)([None, NOTES[0]])
        assert torch.allclose(logits_of(model, pixel_values=pixels, **cached)[:1], whole.logits[:1], atol=1e-4)

    def test_starts_sanely_in_a_checkpoint_that_has_none(self, tmp_path):
        tiny_model().save_pretrained(tmp_path)
        with pytest.raises(ValueError, match=r"lacks weights: null_note\.word, presence"):
            RecLMISModel.from_pretrained(tmp_path, **BOTH)
        model = RecLMISModel.from_pretrained(tmp_path, **BOTH, allow_missing_keys=True)
        assert 0 < model.null_note.word.abs().max() < 10 * model.config.initializer_range
        assert model(pixel_values=make_inputs()["pixel_values"]).presence_logits.isfinite().all()

    def test_is_in_a_table_of_notes(self):
        model = lively(tiny_model(**BOTH, text_config=NOTE_TEXT, text_frozen=True))
        processor = tiny_processor(NOTES)
        processor.null_note = True
        inputs = processor(
            images=[torch.zeros(3, 40, 30)] * 2, text=[NOTES[1], None], return_tensors="pt", do_rescale=False
        )
        table = with_note_table(model, processor, NOTES)
        assert torch.allclose(logits_of(table, **inputs), logits_of(model, **inputs), atol=1e-4)


class TestPresence:
    def test_loss_by_hand(self):
        labels = torch.zeros(2, 4, 4, dtype=torch.long)
        labels[0, 1, 1] = 2
        expected = (torch.log1p(torch.tensor(-1.0).exp()) + torch.log1p(torch.tensor(0.5).exp())) / 2
        assert torch.isclose(presence_loss(torch.tensor([1.0, 0.5]), labels), expected)
        assert presence_loss(torch.tensor([80.0, -80.0]).bfloat16(), labels) < 1e-6

    def test_is_a_term_with_its_weight(self):
        inputs = make_inputs(labels=True)
        outputs = tiny_model(presence=True, presence_weight=3)(**inputs)
        assert outputs.presence_logits.shape == (2,)
        without = outputs.loss - 3 * outputs.loss_terms["presence"]
        assert torch.isclose(without, tiny_model(presence=True, presence_weight=1)(**inputs).loss
                             - outputs.loss_terms["presence"])  # fmt: skip
        assert tiny_model()(**inputs).presence_logits is None

    @pytest.mark.parametrize("classes", [1, 3])
    def test_empties_the_masks_of_what_is_absent(self, classes):
        logits = torch.full((2, classes, 8, 8), -1.0)
        logits[:, -1] = 5.0
        outputs = RecLMISOutput(logits=logits, presence_logits=torch.tensor([-1.0, 1.0]))
        processor = RecLMISImageProcessor(size={"height": 8, "width": 8}, num_labels=classes)
        empty, full = processor.post_process_semantic_segmentation(outputs)
        assert not empty.any() and full.all()
        empty, full = processor.post_process_semantic_segmentation(outputs, return_probabilities=True)
        assert (empty if classes == 1 else empty[1:]).sum() == 0 and full[-1].min() > 0.9
        unruled = processor.post_process_semantic_segmentation(outputs, presence_threshold=0.0)
        assert all(mask.all() for mask in unruled)

    def test_is_learned_with_the_mask(self):
        """Eight images, half of them with a bright square that the note asks for."""
        model = tiny_model(presence=True, visual_reconstruction=False, language_reconstruction=False, contrastive=False)
        inputs = make_inputs(8, 32, 32)
        inputs["pixel_values"] *= 0.1
        inputs["pixel_values"][::2, :, 8:24, 8:24] += 2
        labels = torch.zeros(8, 32, 32, dtype=torch.long)
        labels[::2, 8:24, 8:24] = 1
        optimizer = torch.optim.Adam(model.train().parameters(), 3e-3)
        for _ in range(40):
            optimizer.zero_grad()
            model(**inputs, labels=labels).loss.backward()
            optimizer.step()
        with torch.no_grad():
            judged = model(**inputs).presence_logits > 0
        assert judged.tolist() == [True, False] * 4

    def test_reaches_whoever_asks(self):
        model = tiny_model(**BOTH, text_config=NOTE_TEXT)
        processor = tiny_processor(NOTES)
        processor.null_note = True
        image = torch.zeros(3, 40, 30, dtype=torch.uint8)
        model.presence.score.bias.data.fill_(-30.0)
        answers = list(predict(model, processor, [(image, NOTES[0]), (image, None)], threshold=0.0001))
        assert all(answer.presence < 0.01 and not answer.mask.any() for answer in answers)
        model.presence.score.bias.data.fill_(30.0)
        (answer,) = predict(model, processor, [(image, None)], threshold=0.0)
        assert answer.presence > 0.99 and answer.mask.all() and answer.note is None


@pytest.mark.parametrize("same", [None, torch.eye(3, dtype=torch.bool)])
def test_contrastive_loss_of_some_is_that_of_those_alone(same):
    scores = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    given = torch.tensor([True, False, True])
    rest = scores[given][:, given]
    assert torch.isclose(contrastive_loss(scores, 0.1, same, given), contrastive_loss(rest, 0.1))
    assert torch.isclose(contrastive_loss(scores, 0.1, same, given | True), contrastive_loss(scores, 0.1))
    assert contrastive_loss(scores, 0.1, same, given & False) == 0
