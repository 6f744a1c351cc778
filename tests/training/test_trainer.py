"""transformers' Trainer trains the model as it is."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer, TrainingArguments

from reclmis import RecLMISConfig, RecLMISModel, RecLMISProcessor
from reclmis.data import Augmentation, Collator, NotedSegmentationDataset, load_dataset_by_name


@pytest.fixture(scope="module")
def parts():
    splits = load_dataset_by_name("synthetic", num_train=7, num_validation=3, seed=0, size=32)
    config = RecLMISConfig.tiny(
        image_size=32, hidden_size=16, visual_config={"widths": [4, 8, 12]}, decoder_widths=[8, 8],
        text_config={"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
    )  # fmt: skip
    processor = RecLMISProcessor.from_model_config(config, notes=list(splits["train"]["note"]))
    config.text_config["vocab_size"] = len(processor.tokenizer)
    datasets = {name: NotedSegmentationDataset(splits[name], augmentation, size=(32, 32))
                for name, augmentation in (("train", Augmentation.paper()), ("validation", None))}  # fmt: skip
    return config, processor, datasets


def trainer(parts, folder, **options):
    config, processor, datasets = parts
    arguments = TrainingArguments(
        output_dir=str(folder), num_train_epochs=2, per_device_train_batch_size=2, per_device_eval_batch_size=2,
        remove_unused_columns=False, save_strategy="epoch", logging_steps=1, report_to=[], use_cpu=True, seed=0,
        learning_rate=1e-3, disable_tqdm=True, **options,
    )  # fmt: skip
    torch.manual_seed(0)
    return Trainer(
        RecLMISModel(config), arguments, data_collator=Collator(processor, only_tensors=True),
        train_dataset=datasets["train"], eval_dataset=datasets["validation"], processing_class=processor,
        compute_metrics=lambda answer: {"area": float((np.asarray(answer.predictions) >= 0).mean())},
    )  # fmt: skip


def test_trains_evaluates_saves_and_resumes(parts, tmp_path):
    whole = trainer(parts, tmp_path)
    losses = [row["loss"] for row in whole.train() and whole.state.log_history if "loss" in row]
    assert len(losses) == 8 and all(np.isfinite(losses))
    metrics = whole.evaluate()
    assert np.isfinite(metrics["eval_loss"]) and 0 <= metrics["eval_area"] <= 1
    # Its checkpoints are ours: model and processor, and they go on where they stopped.
    first, last = sorted(tmp_path.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    model, processor = RecLMISModel.from_pretrained(last), RecLMISProcessor.from_pretrained(last)
    picture = np.zeros((40, 30, 3), np.uint8)
    assert model(**processor(images=picture, text="left lung", return_tensors="pt")).logits.isfinite().all()
    before = load_file(last / "model.safetensors")
    again = trainer(parts, tmp_path)
    again.train(resume_from_checkpoint=str(first))
    after = again.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_accumulates_and_checkpoints_activations(parts, tmp_path):
    run = trainer(parts, tmp_path, gradient_accumulation_steps=2, gradient_checkpointing=True)
    run.train()
    assert run.state.global_step == 4
