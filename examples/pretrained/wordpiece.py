"""The tokeniser of BERT's uncased networks, from their vocabulary."""

from __future__ import annotations

import unicodedata
from pathlib import Path

_LONGEST_WORD = 100
"""Longer words are unknown, as in BERT's own code."""


class WordPiece:
    """Turns a sentence into tokens: lower case, no accents, the longest pieces that are known."""

    def __init__(self, vocabulary: Path) -> None:
        lines = vocabulary.read_text(encoding="utf-8").split("\n")
        self._tokens = {piece: token for token, piece in enumerate(lines)}

    def encode(self, sentence: str, limit: int) -> list[int]:
        """Return the tokens, with those for beginning and end, at most `limit`."""
        found = [token for word in _words(sentence) for token in self._pieces(word)]
        return [self._tokens["[CLS]"], *found[: limit - 2], self._tokens["[SEP]"]]

    def _pieces(self, word: str) -> list[int]:
        found: list[int] = []
        start = 0
        while start < len(word) <= _LONGEST_WORD:
            prefix = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((end for end in ends if prefix + word[start:end] in self._tokens), None)
            if end is None:
                break
            found.append(self._tokens[prefix + word[start:end]])
            start = end
        return found if start == len(word) else [self._tokens["[UNK]"]]


def _words(sentence: str) -> list[str]:
    """Return the words; each punctuation mark is one."""
    plain = unicodedata.normalize("NFD", sentence.lower())
    return "".join(_spaced(character) for character in plain).split()


def _spaced(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Mn":  # accents
        return ""
    if category.startswith("P") or (character.isascii() and character.isprintable()):
        return character if character.isalnum() else f" {character} "
    return " " if category.startswith(("C", "Z")) else character
