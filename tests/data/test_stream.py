"""Streams give the same samples as datasets in memory, in an order of (seed, epoch), shared out without overlap."""

import json

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from reclmis.data import Augmentation, NotedSegmentationDataset, NotedSegmentationStream, load_image_note_mask

POLICY = Augmentation(mirror=0.5, photometric=1)
COUNT = 24


@pytest.fixture
def table(tmp_path, arrays):
    rows = []
    for number in range(COUNT):
        image, mask = arrays(number)
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        Image.fromarray(mask * 255).save(tmp_path / f"{number}_mask.png")
        rows.append({"image": f"{number}.png", "mask": f"{number}_mask.png", "note": f"upper left lung {number}"})
    path = tmp_path / "all.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def stream(table, **options):
    return NotedSegmentationStream(load_image_note_mask(table, streaming=True)["train"], POLICY, seed=3, **options)


def ids(samples):
    return [sample["id"] for sample in samples]


def test_samples_equal_those_of_the_dataset_in_memory(table):
    whole = NotedSegmentationDataset(load_image_note_mask(table)["train"], POLICY, seed=3)
    streamed = stream(table)
    for epoch in (0, 1):
        whole.set_epoch(epoch)
        streamed.set_epoch(epoch)
        expected = {sample["id"]: sample for sample in (whole[i] for i in range(COUNT))}
        found = list(streamed)
        assert sorted(ids(found)) == sorted(expected)
        for sample in found:
            other = expected[sample["id"]]
            np.testing.assert_array_equal(sample["image"], other["image"])
            np.testing.assert_array_equal(sample["mask"], other["mask"])
            assert sample["note"] == other["note"]


@pytest.mark.parametrize("workers", [0, 2])
def test_order_is_that_of_seed_and_epoch(table, workers):
    def epochs():
        dataset = stream(table, shuffle=8)
        loader = DataLoader(
            dataset, batch_size=5, num_workers=workers, persistent_workers=workers > 0, collate_fn=list
        )  # fmt: skip
        found = []
        for epoch in range(2):
            dataset.set_epoch(epoch)
            found.append([sample["id"] for batch in loader for sample in batch])
        return found

    first, second = epochs()
    assert first != second and sorted(first) == sorted(second) and len(set(first)) == COUNT
    assert epochs() == [first, second]


def test_processes_share_without_overlap(table):
    parts = [ids(stream(table, shuffle=4).shard(rank, 2)) for rank in range(2)]
    assert all(parts) and sorted(parts[0] + parts[1]) == sorted(str(i) for i in range(COUNT))


def test_a_file_that_broke_meanwhile_is_named(table):
    streamed = stream(table)
    (table.parent / "7.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"Sample '7'.*7\.png is empty"):
        list(streamed)


def test_columns_that_are_missing(table):
    rows = load_image_note_mask(table, streaming=True)["train"].remove_columns("note")
    with pytest.raises(ValueError, match="lacks note"):
        NotedSegmentationStream(rows)
