import numpy as np
import pytest
from PIL import Image

from reclmis.data import DataError, load_dataset_by_name, load_original, read_mask
from reclmis.notes import fits
from tests.data.conftest import LViTFolder


def put(folder, name, pixels):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / name)


@pytest.fixture
def qata(tmp_path, arrays):
    """The download of Kaggle: two folders deep, no notes, no validation."""
    root = tmp_path / "archive"
    for part, names in (("Train Set", ["covid_1", "covid_2", "sub-s1_ses-e1"]), ("Test Set", ["covid_9"])):
        for number, name in enumerate(names):
            image, mask = arrays(number)
            put(root / "QaTa-COV19" / "QaTa-COV19-v2" / part / "Images", f"{name}.png", image)
            put(root / "QaTa-COV19" / "QaTa-COV19-v2" / part / "Ground-truths", f"mask_{name}.png", mask * 255)
    return root


def ids(splits):
    return {split: rows["id"] for split, rows in splits.items()}


def table(path, names, prefix="mask_"):
    return LViTFolder.table(path, [(f"{prefix}{name}.png", f"note of {name}") for name in names])


def test_qata_with_the_tables_of_lvit(qata):
    table(qata / "Train_text.xlsx", ["covid_1", "sub-s1_ses-e1"])
    table(qata / "Val_text.xlsx", ["covid_2"])
    table(qata / "Test_text.xlsx", ["covid_9"])
    splits = load_dataset_by_name(qata)
    assert ids(splits) == {"train": ["covid_1", "sub-s1_ses-e1"], "validation": ["covid_2"], "test": ["covid_9"]}
    assert splits["validation"]["note"] == ["note of covid_2"]
    assert ids(load_dataset_by_name(qata, splits=["test"])) == {"test": ["covid_9"]}
    assert ids(load_dataset_by_name(f"qata:{qata}")) == ids(splits)


def test_qata_with_a_table_of_all_notes_and_one_of_validation_names(qata, tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    table(notes / "Train_text_for_Covid19.xlsx", ["covid_1", "covid_2", "sub-s1_ses-e1"])
    table(notes / "Test_text_for_Covid19.xlsx", ["covid_9"], prefix="")
    (notes / "Val_ID.csv").write_text("Image\nmask_covid_2\n")
    found = ids(load_dataset_by_name(qata, notes=notes))
    assert found == {"train": ["covid_1", "sub-s1_ses-e1"], "validation": ["covid_2"], "test": ["covid_9"]}


def test_notes_that_are_missing(qata):
    with pytest.raises(DataError) as caught:
        load_dataset_by_name(qata)
    assert sum("has no note" in line for line in caught.value.problems) == 4
    splits = load_dataset_by_name(qata, missing_notes="The infected lung.")
    assert set(splits["train"]["note"]) == {"The infected lung."}
    table(qata / "Train_text.xlsx", ["covid_1"])
    splits = load_dataset_by_name(qata, missing_notes="from_masks")
    by_id = {row["id"]: row for split in splits.values() for row in split}
    assert by_id["covid_1"]["note"] == "note of covid_1"
    for name in ("covid_2", "sub-s1_ses-e1", "covid_9"):
        fit = fits(by_id[name]["note"], read_mask(by_id[name]["mask"]), orientation="image")
        assert fit.stated is not None and fit.holds


def test_what_does_not_fit_is_reported_once(qata):
    names = ["covid_1", "sub-s1_ses-e1", "covid_404"]
    table(qata / "Train_text.xlsx", names)
    table(qata / "Val_text.xlsx", ["covid_2"])
    table(qata / "Test_text.xlsx", ["covid_9"])
    put(qata / "QaTa-COV19/QaTa-COV19-v2/Train Set/Ground-truths", "mask_lost.png", np.zeros((24, 24), np.uint8))
    (qata / "QaTa-COV19/QaTa-COV19-v2/Test Set/Images/covid_9.png").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        load_dataset_by_name(qata)
    lines = caught.value.problems
    for words in ("mask_lost.png has no image", "'covid_404' has no image", "covid_9.png is empty"):
        assert sum(words in line for line in lines) == 1, lines
    assert len(lines) == 4  # and that no test sample is left


def test_mosmed(tmp_path, arrays):
    names = ["bjorke_1", "Morozov_study_0255_14", "Jun_coronacases_case10_103"]
    for number, name in enumerate(names):
        image, mask = arrays(number)
        put(tmp_path / "frames", f"{name}.png", image)
        put(tmp_path / "masks", f"{name}.png", mask * 255)
    for split, name in zip(("train", "val", "test"), names, strict=True):
        (tmp_path / f"{split}.csv").write_text(f"Image;text\n{name}.png;note, of {name}.\n")
    splits = load_dataset_by_name(tmp_path)
    assert ids(splits) == {"train": [names[0]], "validation": [names[1]], "test": [names[2]]}
    assert splits["test"]["note"] == [f"note, of {names[2]}."]


OUTLINE = (
    "<Annotations><Annotation><Regions><Region><Vertices>"
    '<Vertex X="4" Y="4"/><Vertex X="12" Y="4"/><Vertex X="12" Y="9"/><Vertex X="4" Y="9"/>'
    "</Vertices></Region></Regions></Annotation></Annotations>"
)


@pytest.mark.parametrize("streaming", [False, True])
def test_monuseg(tmp_path, arrays, streaming):
    training = tmp_path / "MoNuSeg 2018 Training Data" / "MoNuSeg 2018 Training Data"
    test = tmp_path / "MoNuSegTestData"
    for number, (folder, names) in enumerate({
        training: ["TCGA-18-5592-01Z-00-DX1", "TCGA-38-6178-01Z-00-DX1"], test: ["TCGA-2Z-A9J9-01A-01-TS1"],
    }.items()):  # fmt: skip
        for name in names:
            put(folder / "Tissue Images" if number == 0 else folder, f"{name}.tif", arrays(number)[0])
            outlines = folder / "Annotations" if number == 0 else folder
            outlines.mkdir(exist_ok=True)
            (outlines / f"{name}.xml").write_text(OUTLINE)
    table(tmp_path / "Train_text.xlsx", ["TCGA-18-5592-01Z-00-DX1"], prefix="")
    table(tmp_path / "Val_text.xlsx", ["TCGA-38-6178-01Z-00-DX1"], prefix="")
    options = {"missing_notes": "The nuclei.", "streaming": streaming}
    splits = load_dataset_by_name(tmp_path, **options, **({} if streaming else {"cache_dir": tmp_path / "cache"}))
    rows = {split: next(iter(rows)) for split, rows in splits.items()}
    assert {split: row["note"] for split, row in rows.items()} == {
        "train": "note of TCGA-18-5592-01Z-00-DX1",
        "validation": "note of TCGA-38-6178-01Z-00-DX1",
        "test": "The nuclei.",
    }
    for row in rows.values():
        mask = read_mask(row["mask"])
        assert mask.shape == (24, 24) and mask[4:9, 4:12].all() and not mask[:4].any() and not mask[:, 13:].any()


def test_a_folder_without_the_layout(tmp_path):
    with pytest.raises(FileNotFoundError, match="Train Set"):
        load_original("qata", tmp_path)
