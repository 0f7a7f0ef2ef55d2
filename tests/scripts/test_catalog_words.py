from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

from scripts import catalog_words
from scripts.catalog_table import REQUIRED

SOURCES = Path(catalog_words.__file__).parent


def placeholders(language: str, key: str) -> set[str | None]:
    class Anything(dict[str, object]):
        def __missing__(self, name: str) -> str:
            return "{" + name + "}"

    return {name for _, name, _, _ in string.Formatter().parse(catalog_words.say(language, key, Anything())) if name}


@pytest.mark.parametrize("key", sorted(catalog_words.keys()))
def test_both_languages_say_the_same_facts(key: str) -> None:
    assert placeholders("id", key) == placeholders("en", key)


def test_every_sentence_the_importer_names_exists_and_none_is_left_over() -> None:
    code = "".join(path.read_text() for path in SOURCES.glob("*catalog*.py") if path.name != "catalog_words.py")
    named = set(re.findall(r'"((?:table|number|row|server|stop|list|sum|report)\.[a-z_]+)"', code))
    fates = {f"list.{fate}" for fate in ("held", "accepted", "rejected", "failed")}
    assert named | fates | {f"field.{field}" for field in REQUIRED} == catalog_words.keys()
