import shutil

import numpy as np
import pytest
from datasets import DatasetDict

from reclmis.data import embed_files, load_dataset_by_name, read_mask, write_parquet

NAMES = ["a", "b", "c"]


@pytest.fixture
def splits(lvit):
    lvit.split(NAMES)
    lvit.split(["x"], split="validation", table="Val_text.xlsx")
    return load_dataset_by_name(lvit.root)


def assert_same(splits, others):
    assert list(splits) == list(others)
    for split in splits:
        for row, other in zip(splits[split], others[split], strict=True):
            assert (row["id"], row["note"]) == (other["id"], other["note"])
            np.testing.assert_array_equal(np.asarray(row["image"]), np.asarray(other["image"]))
            np.testing.assert_array_equal(read_mask(row["mask"]), read_mask(other["mask"]))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("way", ["saved", "parquet"])
def test_what_was_written_needs_no_original(lvit, tmp_path, splits, way, streaming):
    before = {split: list(rows) for split, rows in splits.items()}
    target = tmp_path / "carried"
    if way == "saved":
        embed_files(splits).save_to_disk(target)
    else:
        paths = write_parquet(splits, target, rows_per_file=2)
        assert [path.name for path in paths] == [
            "train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "validation-00000-of-00001.parquet",
        ]  # fmt: skip
    shutil.rmtree(lvit.root)
    assert_same(before, load_dataset_by_name(target, streaming=streaming))


def test_embedding_keeps_the_bytes(lvit, splits):
    from datasets import Image

    rows = embed_files(splits)["train"]
    assert rows.features == splits["train"].features
    raw = rows.cast_column("image", Image(decode=False))
    assert raw[0]["image"]["bytes"] == (lvit.root / "Train_Folder/img/a.png").read_bytes()


def test_parquet_is_never_mixed_with_older_files(tmp_path, splits):
    write_parquet(splits, tmp_path / "out")
    with pytest.raises(FileExistsError, match="another folder"):
        write_parquet(splits, tmp_path / "out")


def test_columns_and_splits_that_are_missing(tmp_path, splits):
    broken = DatasetDict({"train": embed_files(splits["train"]).rename_column("note", "words")})
    broken.save_to_disk(tmp_path / "broken")
    with pytest.raises(ValueError, match="no note"):
        load_dataset_by_name(tmp_path / "broken")
    embed_files(splits).save_to_disk(tmp_path / "good")
    with pytest.raises(ValueError, match="no split 'test'; it has train, validation"):
        load_dataset_by_name(tmp_path / "good", splits=["test"])
