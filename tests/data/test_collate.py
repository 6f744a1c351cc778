import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, Value
from torch.utils.data import DataLoader

from reclmis import RecLMISConfig, RecLMISProcessor
from reclmis.data import Augmentation, Collator, NotedSegmentationDataset, load_lvit, synthetic_dataset
from reclmis.data.collate import SampleError
from reclmis.notes import fits, parse_note

SIZE = 32
POLICY = Augmentation(mirror=0.5, photometric=1)


@pytest.fixture(scope="module")
def split():
    return synthetic_dataset(num_train=6, num_validation=1, size=SIZE)["train"]


@pytest.fixture(scope="module")
def processor(split):
    config = RecLMISConfig.tiny(text_encoder="tokens", text_config={}, image_size=SIZE)
    return RecLMISProcessor.from_model_config(config, notes=list(split["note"]))


def epochs_of(loader, dataset, count):
    found = []
    for epoch in range(count):
        dataset.set_epoch(epoch)
        found.append([sample for batch in loader for sample in batch])
    return found


def same(first, second):
    return all(
        a["note"] == b["note"] and np.array_equal(a["image"], b["image"]) and np.array_equal(a["mask"], b["mask"])
        for a, b in zip(first, second, strict=True)
    )


def test_samples_are_arrays(split):
    sample = NotedSegmentationDataset(split)[2]
    assert sample.keys() == {"image", "mask", "note", "id", "original_size"}
    assert (sample["image"].shape, sample["image"].dtype) == ((SIZE, SIZE, 3), np.uint8)
    assert (sample["mask"].shape, sample["mask"].dtype) == ((SIZE, SIZE), np.uint8)
    assert set(np.unique(sample["mask"])) == {0, 1}
    assert (sample["note"], sample["id"]) == (split[2]["note"], split[2]["id"])


def test_size_resizes_and_the_original_is_remembered(split):
    sample = NotedSegmentationDataset(split, size=(16, 24))[0]
    assert sample["image"].shape == (16, 24, 3) and sample["mask"].shape == (16, 24)
    assert set(np.unique(sample["mask"])) <= {0, 1}
    assert sample["original_size"] == (SIZE, SIZE)


class TestTiles:
    @pytest.mark.parametrize("cache_bytes", [0, 2**30])
    def test_tiles_are_the_parts_of_the_images(self, split, cache_bytes):
        whole = NotedSegmentationDataset(split)
        tiled = NotedSegmentationDataset(split, tile=20, overlap=0.25, cache_bytes=cache_bytes)
        # 32 pixels in squares of 20 that overlap by 5 or more: they start at 0 and at 12.
        assert len(tiled) == 4 * len(whole)
        for index in (*range(8), 5):  # the last one from the cache
            image, (top, left) = whole[index // 4], [(0, 0), (0, 12), (12, 0), (12, 12)][index % 4]
            tile = tiled[index]
            assert tile["id"] == f"{image['id']}@{left},{top}" and tile["original_size"] == (20, 20)
            assert np.array_equal(tile["image"], image["image"][top : top + 20, left : left + 20])
            assert np.array_equal(tile["mask"], image["mask"][top : top + 20, left : left + 20])
        assert tiled.notes == [note for note in split["note"] for _ in range(4)] == [tile["note"] for tile in tiled]

    def test_the_last_tile_ends_with_the_image_and_a_small_image_is_one(self, split):
        tiled = NotedSegmentationDataset(split, tile=24, overlap=0)
        assert [tiled[index]["id"].partition("@")[2] for index in range(4)] == ["0,0", "8,0", "0,8", "8,8"]
        assert NotedSegmentationDataset(split, tile=500)[1]["original_size"] == (SIZE, SIZE)

    def test_tiles_are_resized_and_augmented_each_for_itself(self, split):
        tiled = NotedSegmentationDataset(split, POLICY, tile=16, overlap=0, size=(8, 8))
        tiles = list(tiled)
        assert {tile["image"].shape for tile in tiles} == {(8, 8, 3)}
        mirrored = [tile["note"] != split[index // 4]["note"] for index, tile in enumerate(tiles)]
        assert any(mirrored) and not all(mirrored)

    @pytest.mark.parametrize(("wrong", "named"), [({"tile": 0}, "tile"), ({"tile": 8, "overlap": 1.0}, "overlap")])
    def test_nonsense_is_refused(self, split, wrong, named):
        with pytest.raises(ValueError, match=f"`{named}`"):
            NotedSegmentationDataset(split, **wrong)

    def test_an_image_that_cannot_be_read_is_named(self, split, tmp_path):
        (tmp_path / "broken.png").write_bytes(b"no image")
        row = {
            "image": str(tmp_path / "broken.png"),
            "mask": str(tmp_path / "broken.png"),
            "note": "x",
            "id": "slide 7",
        }
        features = Features({"image": Image(), "mask": Image(), "note": Value("string"), "id": Value("string")})
        with pytest.raises(ValueError, match="slide 7"):
            NotedSegmentationDataset(Dataset.from_list([row], features=features), tile=8)


@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_reach_persistent_workers_and_draws_do_not_depend_on_them(split, workers):
    dataset = NotedSegmentationDataset(split, POLICY, seed=1)
    loader = DataLoader(dataset, batch_size=2, num_workers=workers, persistent_workers=workers > 0, collate_fn=list)
    first, second, third = epochs_of(loader, dataset, 3)
    assert not same(first, second) and not same(second, third)

    alone = NotedSegmentationDataset(split, POLICY, seed=1)
    alone.set_epoch(2)
    assert same(third, [alone[index] for index in range(len(alone))])


def test_cache_changes_nothing_and_decodes_once(split):
    plain = NotedSegmentationDataset(split, POLICY)
    cached = NotedSegmentationDataset(split, POLICY, cache_bytes=10**9)
    for epoch in range(2):
        for dataset in (plain, cached):
            dataset.set_epoch(epoch)
        assert same([plain[i] for i in range(6)], [cached[i] for i in range(6)])
    cached.augmentation = cached.dataset = None
    cached[0]["note"] = "spoilt"
    assert cached[0]["note"] == split[0]["note"]


def test_one_note_for_all(split):
    dataset = NotedSegmentationDataset(split, note="the same", cache_bytes=10**9)
    assert dataset.notes == ["the same"] * 6
    assert {dataset[index]["note"] for index in range(6)} == {"the same"}
    assert NotedSegmentationDataset(split).notes == list(split["note"])


def test_missing_columns_are_named(split):
    with pytest.raises(ValueError, match=r"lacks mask, note"):
        NotedSegmentationDataset(split.remove_columns(["mask", "note"]))


def test_wrong_masks_are_named(make_sample_dict):
    features = Features({"image": Image(), "mask": Image(), "note": Value("string"), "id": Value("string")})
    image = make_sample_dict()["image"]
    rows = {
        "image": [image, image],
        "mask": [np.zeros((24, 20), np.uint8), np.full((24, 24), 9, np.uint8)],
        "note": ["a", "b"],
        "id": ["narrow", "nine"],
    }
    dataset = NotedSegmentationDataset(Dataset.from_dict(rows, features=features))
    with pytest.raises(ValueError, match=r"'narrow'.*24 x 24.*24 x 20"):
        dataset[0]
    with pytest.raises(ValueError, match=r"'nine'.*9"):
        dataset[1]


def test_masks_of_several_classes(make_sample_dict):
    sample = make_sample_dict()
    rows = {"image": [sample["image"]], "mask": [sample["mask"] * 2], "note": ["a"], "id": ["x"]}
    features = Features({"image": Image(), "mask": Image(), "note": Value("string"), "id": Value("string")})
    dataset = NotedSegmentationDataset(Dataset.from_dict(rows, features=features), num_labels=3)
    np.testing.assert_array_equal(dataset[0]["mask"], sample["mask"] * 2)
    dataset.size = (17, 17)
    # Interpolation would put class 1 between 0 and 2.
    assert set(np.unique(dataset[0]["mask"])) == {0, 2}


def test_a_batch(split, processor):
    dataset = NotedSegmentationDataset(split)
    samples = [dataset[0], dataset[1], dataset[2]]
    batch = Collator(processor)(samples)
    assert batch["pixel_values"].shape == (3, 3, SIZE, SIZE) and batch["pixel_values"].dtype == torch.float32
    assert batch["input_ids"].dtype == torch.int64 and batch["input_ids"].shape == batch["attention_mask"].shape
    assert batch["labels"].dtype == torch.int64
    np.testing.assert_array_equal(batch["labels"].numpy(), np.stack([sample["mask"] for sample in samples]))
    assert batch["notes"] == [sample["note"] for sample in samples]
    assert batch["ids"] == [sample["id"] for sample in samples]
    assert batch["original_sizes"] == [(SIZE, SIZE)] * 3


def test_a_batch_refuses_a_mask_of_another_size(processor, make_sample_dict):
    sample = make_sample_dict(name="odd")
    sample["mask"] = sample["mask"][:, :20]
    with pytest.raises(ValueError, match=r"'odd'.*24 x 24.*24 x 20"):
        Collator(processor)([sample])


def test_from_folder_to_batch(lvit, processor):
    lvit.split(["a", "b", "c"])
    dataset = NotedSegmentationDataset(load_lvit(lvit.root)["train"], size=(SIZE, SIZE))
    batches = list(DataLoader(dataset, batch_size=2, collate_fn=Collator(processor)))
    assert [batch["ids"] for batch in batches] == [["a", "b"], ["c"]]
    assert batches[1]["original_sizes"] == [(24, 24)]


def test_a_share_of_the_samples_gets_a_note_of_which_the_image_shows_nothing():
    split = synthetic_dataset(num_train=40, num_validation=1, size=SIZE)["train"]
    dataset = NotedSegmentationDataset(split, seed=2, absent_share=0.5, cache_bytes=2**20)
    for epoch in range(3):
        dataset.set_epoch(epoch)
        samples = [dataset[index] for index in range(40)]
        changed = [sample["note"] != row["note"] for sample, row in zip(samples, split, strict=True)]
        assert 10 <= sum(changed) <= 30
        for sample, row, absent in zip(samples, split, changed, strict=True):
            assert sample["mask"].any() != absent
            own = (row["absent_note"], row["note"]) if sample["note"][:3] not in ("No ",) else (sample["note"],)
            assert sample["note"] in own and "absent_note" not in sample
        assert any(sample["note"].startswith("No ") for sample in samples)
        assert same(samples, [dataset[index] for index in range(40)])
    dataset.set_epoch(0)
    assert not same(samples, [dataset[index] for index in range(40)])


def test_contradicting_notes_are_those_of_others_or_written_where_the_dataset_has_none():
    split = synthetic_dataset(num_train=12, num_validation=1, size=SIZE)["train"]
    dataset = NotedSegmentationDataset(split.remove_columns("absent_note"), absent_share=1.0)
    lent = 0
    for index in range(len(split)):
        sample = dataset[index]
        lent += sample["note"] in split["note"]
        assert sample["note"] != split[index]["note"]
        named = parse_note(sample["note"]).finding
        assert not sample["mask"].any() and named is not None
        assert not named.present or not fits(named, dataset._decoded(index)["mask"], orientation="image").zones
    assert 3 <= lent < len(split)
    alone = NotedSegmentationDataset(split.remove_columns("absent_note").select([0]), absent_share=1.0)
    assert parse_note(alone[0]["note"]).finding is not None and alone[0]["note"] != split[0]["note"]
    with pytest.raises(ValueError, match="`absent_share` is a share"):
        NotedSegmentationDataset(split, absent_share=2)


def test_a_file_that_goes_away_is_named_with_its_sample(split, tmp_path):
    for name in ("image", "mask"):
        split[0][name].save(tmp_path / f"{name}.png")
    row = {"image": str(tmp_path / "image.png"), "mask": str(tmp_path / "mask.png"), "note": "x", "id": "scan 4"}
    features = Features({"image": Image(), "mask": Image(), "note": Value("string"), "id": Value("string")})
    dataset = NotedSegmentationDataset(Dataset.from_list([row], features=features))
    assert dataset[0]["id"] == "scan 4"
    for name in ("mask", "image"):
        (tmp_path / f"{name}.png").unlink()
        with pytest.raises(SampleError, match=f"Sample 'scan 4': .*{name}.png"):
            dataset[0]
