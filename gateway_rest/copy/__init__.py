"""Words of the gateway in two languages, by key. English is the default of an API; Indonesian when the caller asks for it."""

from __future__ import annotations

import re
from importlib import resources
from string import Formatter
from typing import Any

import orjson

LANGUAGES = ("en", "id")
DEFAULT = "en"

_TEXTS: dict[str, Any] = {
    language: orjson.loads(resources.files(__name__).joinpath(f"{language}.json").read_bytes()) for language in LANGUAGES
}
_WEIGHTED = re.compile(r"\s*([A-Za-z]{1,8})(?:-[A-Za-z0-9-]+)?\s*(?:;\s*q=([01](?:\.\d{0,3})?)\s*)?")


def choose(accept_language: bytes | None) -> str:
    """The language a caller asks for by Accept-Language, of those we have."""
    if not accept_language:
        return DEFAULT
    best, weight = DEFAULT, 0.0
    for part in accept_language.decode("latin-1")[:200].split(","):
        match = _WEIGHTED.fullmatch(part)
        # "in" is what some old Java runtimes still call Indonesian.
        language = {"in": "id"}.get(match[1].lower(), match[1].lower()) if match else ""
        if match and language in LANGUAGES and float(match[2] or 1) > weight:
            best, weight = language, float(match[2] or 1)
    return best


def title(language: str, reason: str, status: int) -> str:
    """A short name of an error: by its reason, else by its HTTP status."""
    texts = _TEXTS[language]
    found: str = texts["title"].get(reason) or texts["status"].get(str(status)) or texts["status"]["500"]
    return found


def page(language: str, key: str) -> str:
    """A text of the pages for people.

    Raises:
        KeyError: there is none.
    """
    found: str = _TEXTS[language]["pages"][key]
    return found


def pages(language: str, prefix: str) -> dict[str, str]:
    """All texts of the pages whose keys begin so, without that beginning."""
    texts: dict[str, str] = _TEXTS[language]["pages"]
    return {key.removeprefix(prefix): text for key, text in texts.items() if key.startswith(prefix)}


def advice(language: str, reason: str) -> str:
    """What to do about an error, in general; empty where there is nothing to say beyond its title."""
    found: str = _TEXTS[language].get("advice", {}).get(reason, "")
    return found


def advised(language: str, reason: str, status: int) -> str:
    """Title and advice as plain sentences."""
    return f"{title(language, reason, status)}. {advice(language, reason)}".strip().replace("`", "")


def violation(language: str, reason: str) -> str:
    """What a violation's reason means; empty for one we have no words for."""
    found: str = _TEXTS[language].get("violation", {}).get(reason, "")
    return found


def detail(language: str, reason: str, facts: dict[str, str]) -> str | None:
    """The sentence for a reason; None when there is none, or when a fact it needs is not known."""
    template: str | None = _TEXTS[language]["detail"].get(reason)
    if template is None:
        return None
    needed = {name for _, name, _, _ in Formatter().parse(template) if name}
    return template.format(**facts) if needed <= facts.keys() else None
