"""Guides: Markdown files of the project as pages, with headings one can link to."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

_HERE = Path(__file__).resolve().parent
_LANGUAGE = re.compile(r"<!-- lang: (en|id) -->\n+")
_SLUG = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Guide:
    """One guide."""

    name: str
    """As it stands in its address."""
    language: str
    title: str
    summary: str
    """Its first paragraph, as plain text."""
    body: str
    """HTML."""


def folder(name: str) -> Path:
    """Where documents of this kind are: next to this file where they were packaged, else in the checkout."""
    packaged = _HERE / name
    return packaged if packaged.is_dir() else _HERE.parents[1] / "docs" / name


def load() -> dict[str, Guide]:
    """All guides by name."""
    return {path.stem: read(path) for path in sorted(folder("guides").glob("*.md"))}


def read(path: Path) -> Guide:
    """A Markdown file as a guide. A comment in its first line may say that it is in Indonesian."""
    text = path.read_text("utf-8")
    marked = _LANGUAGE.match(text)
    if marked is not None:
        text = text[marked.end() :]
    # HTML in the source is shown as text: our documents need none.
    renderer = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = renderer.parse(text)
    title, summary = "", ""
    for index, token in enumerate(tokens):
        inline = tokens[index + 1].content if index + 1 < len(tokens) else ""
        if token.type == "heading_open":
            token.attrSet("id", slug(inline))
            title = title or inline
        elif token.type == "paragraph_open" and not summary:
            summary = inline
        elif token.type == "inline":
            _relink(token)
        elif token.type == "table_open":
            token.attrSet("tabindex", "0")  # wide ones scroll, also by keyboard
    body = renderer.renderer.render(tokens, renderer.options, {})
    plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", lambda match: match[1] or "", summary)
    return Guide(
        path.stem, marked[1] if marked else "en", re.sub(r"[`*]", "", title), plain, body.replace("<pre>", '<pre tabindex="0">')
    )


def slug(heading: str) -> str:
    """The anchor of a heading: "Rate limits" is `rate-limits`."""
    return _SLUG.sub("-", heading.lower()).strip("-")


def index(guides: dict[str, Guide], language: str) -> str:
    """The list of guides as HTML, those in the reader's language first."""
    ordered = sorted(guides.values(), key=lambda guide: (guide.language != language, guide.name not in _FIRST, guide.title))
    items = "".join(
        f'<li lang="{guide.language}"><a href="/docs/guides/{guide.name}">{html.escape(guide.title)}</a>'
        f"<p>{html.escape(guide.summary)}</p></li>"
        for guide in ordered
    )
    return f'<ul class="cards">{items}</ul>'


_ELSEWHERE = {"errors": "/docs/errors?lang=en", "errors.id": "/docs/errors?lang=id"}
_FIRST = ("quick-start", "mulai-cepat")


def _relink(inline: Token) -> None:
    """Links between files of the repository become links between pages."""
    for token in inline.children or []:
        target: Any = token.attrGet("href") if token.type == "link_open" else None
        if not isinstance(target, str) or "://" in target or target.startswith(("#", "/")):
            continue
        file, _, anchor = target.partition("#")
        name = Path(file).stem
        page = _ELSEWHERE.get(name) or f"/docs/guides/{name}"
        token.attrSet("href", page + (f"#{anchor}" if anchor else ""))
