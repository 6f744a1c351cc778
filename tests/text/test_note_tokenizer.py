import os
import subprocess
import sys
import unicodedata

import pytest

from reclmis.text.note_tokenizer import build_note_tokenizer

NOTES = [
    "Bilateral pulmonary infection, two infected areas, upper left lung and lower right lung.",
    "Unilateral pulmonary infection, one infected area, middle left lung.",
    "Bilateral pulmonary infection, three infected areas, all left lung and upper right lung.",
]


@pytest.fixture(scope="module")
def tokenizer():
    return build_note_tokenizer(NOTES, max_length=20)


def test_special_tokens_frame_every_note(tokenizer):
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    ids = tokenizer("upper left lung")["input_ids"]
    assert ids[0] == 1 and ids[-1] == 2 and 0 not in ids
    assert tokenizer("")["input_ids"] == [1, 2]
    assert tokenizer.model_max_length == 20


def test_words_of_the_notes_are_single_tokens(tokenizer):
    for word in ("bilateral", "pulmonary", "infection", "infected", "upper", "left", "right", "lung"):
        assert len(tokenizer(word)["input_ids"]) == 3, word


def test_case_and_width_do_not_matter(tokenizer):
    expected = tokenizer("upper left lung")["input_ids"]
    assert tokenizer("Upper LEFT lung")["input_ids"] == expected
    assert tokenizer("ｕｐｐｅｒ left lung")["input_ids"] == expected  # full-width letters


@pytest.mark.parametrize("note", ["верхнее левое лёгкое", "左肺上部", "الرئة اليسرى", "\N{LUNGS} 5 µm"])
def test_no_language_is_unknown(tokenizer, note):
    ids = tokenizer(note)["input_ids"]
    assert None not in ids and len(ids) > 2
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == unicodedata.normalize("NFKC", note).lower()


def test_truncation_keeps_the_end(tokenizer):
    ids = tokenizer("lung " * 50, truncation=True, max_length=8)["input_ids"]
    assert len(ids) == 8 and ids[0] == 1 and ids[-1] == 2


def test_the_order_of_the_notes_does_not_matter(tokenizer):
    assert build_note_tokenizer(iter(NOTES[::-1])).get_vocab() == tokenizer.get_vocab()


def test_another_process_learns_the_same():
    program = (
        "import sys; from reclmis.text.note_tokenizer import build_note_tokenizer;"
        "print(build_note_tokenizer(sys.argv[1:], max_length=20).backend_tokenizer.to_str())"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, *NOTES], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": "7", "TOKENIZERS_PARALLELISM": "true"},
    )  # fmt: skip
    assert run.stdout.strip() == build_note_tokenizer(NOTES, max_length=20).backend_tokenizer.to_str()


def test_the_vocabulary_has_its_limit():
    assert len(build_note_tokenizer(NOTES, vocab_size=270)) == 270
    with pytest.raises(ValueError, match="at least 259, got 100"):
        build_note_tokenizer(NOTES, vocab_size=100)


def test_notes_are_needed():
    with pytest.raises(ValueError, match="pass the training notes"):
        build_note_tokenizer([])


def test_save_and_load(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    assert {file.suffix for file in tmp_path.iterdir()} <= {".json", ".txt", ".jinja"}
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for note in (*NOTES, "", "左肺上部"):
        assert loaded(note)["input_ids"] == tokenizer(note)["input_ids"]
    assert (loaded.pad_token_id, loaded.model_max_length) == (0, 20)
