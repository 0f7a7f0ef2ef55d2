"""The pages for people: start, guides and error reference as plain HTML, Swagger UI and Redoc from packaged files.

Nothing is fetched from elsewhere, no script stands in a page, and what is typed into a page leaves it for this gateway only.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from importlib import resources, util
from pathlib import Path

from gateway_rest import copy

STRICT = (
    "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
)
"""What a page may load: its own files. Keys typed into it can be sent to this gateway only."""
STYLED = f"{STRICT}; style-src 'self' 'unsafe-inline'; worker-src 'self' blob:"
"""For Redoc, which writes its styles into the page and searches in a worker it makes itself."""

_VENDORED = "fastapi_offline"
"""A package that brings the browser files of Swagger UI (Apache 2.0) and Redoc (MIT); none of its code runs here."""
_FOREIGN_LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".html": "text/html"}
_NAVIGATION = (("/", "start"), ("/docs", "try"), ("/docs/redoc", "read"), ("/docs/guides", "guides"), ("/docs/errors", "errors"))


@dataclass(frozen=True)
class Asset:
    """A file of a page."""

    content: bytes
    media_type: str


def assets() -> dict[str, Asset]:
    """Every file that pages load, by name.

    Raises:
        FileNotFoundError: the package with the browser files is not installed.
    """
    found = {
        item.name: Asset(item.read_bytes(), _TYPES[Path(item.name).suffix])
        for item in resources.files(__name__).joinpath("files").iterdir()
        if Path(item.name).suffix in _TYPES
    }
    # Looked up without importing it: importing would load a web framework for three files.
    package = util.find_spec(_VENDORED)
    folder = Path((package.submodule_search_locations or [""])[0] if package is not None else "") / "static"
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "redoc.standalone.js"):
        # Redoc asks its maker's server for a logo; without one it shows none.
        content = (folder / name).read_bytes().replace(_FOREIGN_LOGO, b"data:,")
        found[name] = Asset(content, _TYPES[Path(name).suffix])
    return found


def layout(
    language: str, title: str, body: str, *, path: str, head: str = "", alternative: str = "", wide: bool = False
) -> bytes:
    """A whole page: navigation, then the body.

    Args:
        language: Of the body, "en" or "id".
        title: Of the page.
        body: HTML.
        path: Where the page is, to mark it in the navigation.
        head: HTML for the head, of pages that need more than the style sheet.
        wide: Whether the body brings its own margins, on white.
        alternative: Address of the same page in the other language, if there is one.
    """
    links = "".join(
        f'<a href="{address}"{_current(address, path)}>{html.escape(copy.page(language, key))}</a>'
        for address, key in _NAVIGATION
    )
    other = "id" if language == "en" else "en"
    if alternative:
        switch = html.escape(copy.page(other, "language"))
        links += f'<a class="language" href="{alternative}" lang="{other}" hreflang="{other}">{switch}</a>'
    text = f"""<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{html.escape(title)} · GiPos API</title>
<link rel="icon" type="image/svg+xml" href="/docs/assets/icon.svg">
<link rel="stylesheet" href="/docs/assets/pages.css">
{head}</head>
<body>
<a class="skip" href="#content">{html.escape(copy.page(language, "skip"))}</a>
<header><nav aria-label="GiPos API">{links}</nav></header>
<main id="content" tabindex="-1"{' class="wide"' if wide else ""}>
{body}
</main>
</body>
</html>
"""
    return text.encode()


def _current(address: str, path: str) -> str:
    return ' aria-current="page"' if address == path else ""
