"""CLIP's tokenizer from the vocabulary file that the package `open_clip_torch` carries, for work without a network."""

import gzip
from importlib.util import find_spec
from pathlib import Path

from transformers import CLIPTokenizer

VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
MERGES = 49152 - 256 - 2


def open_clip_tokenizer() -> CLIPTokenizer:
    """Builds `transformers.CLIPTokenizer` from open_clip's merges.

    The ids follow CLIP's convention: the 256 bytes, the same with an end-of-word mark, one per merge, then start and
    end of text.

    Raises:
        ImportError: open_clip is not installed.
    """
    spec = find_spec("open_clip")
    if spec is None or spec.origin is None:
        raise ImportError("open_clip is not installed: `pip install reclmis[clip]`.")
    with gzip.open(Path(spec.origin).parent / VOCABULARY, "rt", encoding="utf-8") as file:
        merges = [tuple(line.split()) for line in file.read().split("\n")[1 : MERGES + 1]]
    letters = list(_byte_letters().values())
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(merge) for merge in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges)  # type: ignore[arg-type]


def _byte_letters() -> dict[int, str]:
    """Byte-level BPE's printable letter for every byte, in CLIP's order: printable Latin-1 first, then the rest."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + index) for index, byte in enumerate(others)}
