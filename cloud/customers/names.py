"""How names are taken apart to find people by. Pure; what is stored of the parts is the business of indexes.py."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

SHORTEST = 2
LONGEST = 10

_WORD = re.compile(r"[^\W_]+")
# The spelling before 1972 and the one after stand side by side: Soeharto and Suharto, Tjahjadi and Cahyadi, Djoko and Joko.
_SPELLINGS = (
    *(("oe", "u"), ("tj", "c"), ("dj", "j"), ("nj", "ny"), ("sj", "sy")),
    *(("ch", "h"), ("kh", "h"), ("ph", "f"), ("th", "t")),
)
# A j may be a y of the old spelling (Jusuf), so both count as one; likewise letters that are spoken alike.
_LETTERS = str.maketrans({"j": "y", "v": "f", "p": "f", "q": "k", "x": "s", "z": "s"})


def words(text: str) -> Sequence[str]:
    """The words of a name, each once, in lower case, without accents."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return tuple(dict.fromkeys(_WORD.findall("".join(sign for sign in plain if not unicodedata.combining(sign)))))


def beginnings(word: str) -> Sequence[str]:
    """What a word is found by: its beginnings of 2 to 10 characters, and itself when it has only one."""
    return [word[:end] for end in range(SHORTEST, min(len(word), LONGEST) + 1)] or [word]


def sound(word: str) -> str:
    """Equal for words that read alike in Indonesia, however they are spelled."""
    for old, new in _SPELLINGS:
        word = word.replace(old, new)
    plain = re.sub(r"(.)\1+", r"\1", word.translate(_LETTERS))
    return plain.removesuffix("h") or plain
