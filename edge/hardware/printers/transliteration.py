"""Any text as characters a receipt printer has: one character per column, nothing that a printer could take for a command."""

from __future__ import annotations

import unicodedata

_REPLACED = {
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u02bc\u00b4\u0060", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u00ad", "-"),
    **dict.fromkeys("\u2022\u00b7\u2219\u25cf\u25aa\u2023", "*"),
    "\u2044": "/",
    "\u00d7": "x",
    "\u20ac": "EUR",
    "\u00a3": "GBP",
    "\u00a9": "(c)",
    "\u00ae": "(R)",
    "\u00df": "ss",
    "\u00e6": "ae",
    "\u00c6": "AE",
    "\u00f8": "o",
    "\u00d8": "O",
    "\u0142": "l",
    "\u0141": "L",
    "\u0111": "d",
    "\u0110": "D",
    "\u0131": "i",
}
UNKNOWN = "?"


def transliterate(text: str, code_page: str = "ascii") -> tuple[str, frozenset[str]]:
    """The text in characters of a code page, and the characters that had no equivalent and became "?".

    Control characters become spaces, so that a name pasted with an escape sequence in it stays a name. Line feeds are kept.
    """
    kept: list[str] = []
    lost: set[str] = set()
    for composed in text:
        # Marks such as the trade mark sign fall apart into letters; accents fall off; what printers know stays.
        for character in _REPLACED.get(composed) or unicodedata.normalize("NFKD", composed):
            plain = _REPLACED.get(character, character)
            category = unicodedata.category(plain[0])
            if plain == "\n":
                kept.append(plain)
            elif category in {"Cc", "Zs", "Zl", "Zp"}:
                kept.append(" ")
            elif category in {"Mn", "Me", "Cf"}:
                continue
            elif _has(code_page, plain):
                kept.append(plain)
            else:
                lost.add(composed)
                kept.append(UNKNOWN)
    return "".join(kept), frozenset(lost)


def _has(code_page: str, text: str) -> bool:
    try:
        text.encode(code_page)
    except UnicodeEncodeError:
        return False
    return True
