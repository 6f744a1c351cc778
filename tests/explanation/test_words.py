"""Which tokens make which word, on every kind of tokenizer that marks words differently."""

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from reclmis.explanation.words import words_of
from reclmis.text.clip import load_clip_tokenizer
from reclmis.text.note_tokenizer import build_note_tokenizer


def merged(tokenizer, note, **options):
    """Words with their tokens' texts, and what is left out."""
    ids = tokenizer(note, **options)["input_ids"]
    found = words_of(tokenizer, note, ids, [1] * len(ids))
    texts = tokenizer.convert_ids_to_tokens(ids)
    return [(word, [texts[place] for place in places])
            for word, places in zip(found.words, found.tokens, strict=True)], found  # fmt: skip


@pytest.fixture(scope="module")
def learned():
    return build_note_tokenizer(["upper left lung, covid"] * 3, vocab_size=300)


def word_pieces():
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "upper", "lu", "##ng", ",", "left"]
    tokenizer = Tokenizer(models.WordPiece({token: i for i, token in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )


def test_learned_byte_level_tokens(learned):
    words, found = merged(learned, "Upper left LUNG, base.")
    assert words == [
        ("Upper", ["Ġupper"]),
        ("left", ["Ġleft"]),
        ("LUNG", ["Ġlung"]),
        (",", [","]),
        ("base", ["Ġ", "b", "a", "s", "e"]),
        (".", ["."]),
    ]
    assert found.left_out == ((0, "<start>"), (11, "<end>"))


def test_letters_of_several_bytes(learned):
    words, _ = merged(learned, "pneumothörax 肺 left")
    assert [word for word, _ in words] == ["pneumothörax", "肺", "left"]
    assert [len(tokens) for _, tokens in words] == [14, 4, 1]  # a blank and 13 bytes, a blank and 3 bytes


def test_clip_marks_ends_of_words():
    tokenizer = load_clip_tokenizer()
    words, found = merged(tokenizer, "Bilateral COVID-19 pneumonia, left.")
    assert [word for word, _ in words] == ["Bilateral", "COVID-19", "pneumonia", ",", "left", "."]
    assert dict(words)["COVID-19"][-3:] == ["-</w>", "1</w>", "9</w>"]
    assert dict(words)["pneumonia"] == ["pneumonia</w>"] and dict(words)["left"] == ["left</w>"]
    assert found.left_out[0] == (0, "<|startoftext|>") and found.left_out[-1][1] == "<|endoftext|>"


def test_word_pieces_and_unknown_words():
    tokenizer = word_pieces()
    words, _ = merged(tokenizer, "Upper lung, left")
    assert words == [("Upper", ["upper"]), ("lung", ["lu", "##ng"]), (",", [","]), ("left", ["left"])]
    words, found = merged(tokenizer, "upper xyz lung")
    assert words == [("upper", ["upper"]), ("lung", ["lu", "##ng"])]
    assert (2, "[UNK]") in found.left_out


def test_a_note_that_was_cut_keeps_the_words_that_were_read(learned):
    words, found = merged(learned, "upper left lung", truncation=True, max_length=4)
    assert [word for word, _ in words] == ["upper", "left"] and len(found.left_out) == 2


def test_what_a_processor_appends_is_no_word_of_the_note(learned):
    ids = learned("upper left covid")["input_ids"]
    found = words_of(learned, "upper left", ids, [1] * len(ids))
    assert found.words == ("upper", "left") and (3, "covid") in found.left_out


def test_a_note_that_the_tokenizer_was_given_otherwise_is_told_as_it_was_given(learned):
    ids = learned("left lung")["input_ids"]
    assert words_of(learned, "sinister lobe", ids, [1] * len(ids)).words == ("left", "lung")


def test_padding_and_empty_notes(learned):
    ids = [*learned("left")["input_ids"], 0, 0]
    found = words_of(learned, "left", ids, [1, 1, 1, 0, 0])
    assert found.words == ("left",) and len(found.left_out) == 2
    nothing = words_of(learned, "", ids, [0] * 5)
    assert nothing.words == () and nothing.left_out == ()
    assert nothing.sums(np.ones((5, 2, 3))).shape == (0, 2, 3)


def test_sums_means_and_what_is_left_out(learned):
    _, found = merged(learned, "base left")  # <start> Ġ b a s e Ġleft <end>
    weights = [0.1, 0.05, 0.05, 0.1, 0.1, 0.1, 0.3, 0.2]
    assert found.weighted(weights) == [("base", pytest.approx(0.4)), ("left", pytest.approx(0.3))]
    assert found.left_out_weights(weights) == [("<start>", 0.1), ("<end>", 0.2)]
    maps = np.array(weights)[:, None, None] * np.ones((1, 2, 2))
    np.testing.assert_allclose(found.sums(maps)[:, 0, 0], [0.4, 0.3])
    np.testing.assert_allclose(found.means(maps)[:, 0, 0], [0.08, 0.3])


@pytest.mark.parametrize(
    ("word", "parts"),
    [("lung,", ["lung", ","]), ("(left)", ["(", "left", ")"]), ("COVID-19", ["COVID-19"]), ("...", ["..."])],
)
def test_punctuation_is_apart(learned, word, parts):
    assert [part for part, _ in merged(learned, word)[0]] == parts
