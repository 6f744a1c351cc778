import json
from hashlib import sha256

import pytest

from reclmis.data import build_manifest, dataset_hash, embed_files, load_dataset_by_name, read_manifest
from reclmis.data.manifest import sample_key, summary, write_manifest

NAMES = ["a", "b", "c"]


@pytest.fixture
def splits(lvit):
    lvit.split(NAMES)
    return load_dataset_by_name(lvit.root)


def test_content_and_privacy(lvit, splits, tmp_path):
    manifest = build_manifest(splits)
    files = [(lvit.root / f"Train_Folder/img/{name}.png").read_bytes() for name in NAMES]
    assert manifest["train"]["samples"] == sorted(sample_key(sha256(content).digest()) for content in files)
    assert (manifest["train"]["images"], manifest["train"]["notes"]) == (3, 3)
    assert manifest["train"]["sha256"] == dataset_hash(splits["train"])
    written = write_manifest(manifest, tmp_path / "data_manifest.json").read_text()
    assert "note of" not in written and ".png" not in written
    assert read_manifest(tmp_path) == read_manifest(tmp_path / "data_manifest.json") == manifest
    assert "samples" not in summary(manifest)["train"] and "samples" in manifest["train"]


def test_where_the_bytes_are_changes_nothing_and_any_change_of_them_does(lvit, splits):
    before = dataset_hash(splits["train"])
    assert dataset_hash(embed_files(splits["train"])) == before
    assert dataset_hash(splits["train"].select([1, 0, 2])) != before
    path = lvit.root / "Train_Folder/labelcol/mask_b.png"
    path.write_bytes(path.read_bytes() + b"\0")
    assert dataset_hash(splits["train"]) != before


@pytest.mark.parametrize("content", ["{", "[]", '{"train": {"images": 3}}', '{"train": 3}'])
def test_what_is_no_manifest(tmp_path, content):
    (tmp_path / "data_manifest.json").write_text(content)
    with pytest.raises(ValueError, match="no manifest"):
        read_manifest(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_manifest(tmp_path / "elsewhere")


def test_written_as_json(tmp_path, splits):
    path = write_manifest(build_manifest(splits), tmp_path / "m.json")
    assert json.loads(path.read_text())["train"]["images"] == 3
