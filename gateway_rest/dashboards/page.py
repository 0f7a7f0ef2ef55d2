"""The page that shows a live dashboard: packaged files only, and a key that stays in the browser's tab.

All words come from gateway_rest/copy; what is shown is drawn by its script.
"""

from __future__ import annotations

import html

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway_rest import copy, pages

FIRST = "id"
"""The language of shopkeepers, whatever their browsers ask for; a link switches."""
_PREFIX = "dashboard."
_HEADERS = {
    "content-security-policy": pages.STRICT,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
_PAGE = """<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · GiPos</title>
<link rel="icon" type="image/svg+xml" href="/docs/assets/icon.svg">
<link rel="stylesheet" href="/docs/assets/pages.css">
<link rel="stylesheet" href="/docs/assets/dashboard.css">
<script defer src="/docs/assets/dashboard.js"></script>
</head>
<body>
<a class="skip" href="#content">{skip}</a>
<header><div class="bar"><h1>{title}</h1><p id="state" role="status"></p>
<span class="links"><a href="/?lang={language}">{start}</a>
<a href="/dashboard?lang={other}" lang="{other}" hreflang="{other}">{switch}</a>
<button type="button" id="leave" hidden>{leave}</button></span></div></header>
<main id="content" tabindex="-1" data-texts="{texts}">
<p id="stale" role="alert" hidden></p>
<form id="door" hidden>
<label for="key">{key}</label>
<input id="key" type="password" autocomplete="off" spellcheck="false" autocapitalize="off" required
  aria-describedby="key-help problem">
<p id="key-help" class="quiet">{key_help}</p>
<p id="problem" role="alert"></p>
<button type="submit">{show}</button>
</form>
<div id="board" hidden></div>
<noscript><p>{script}</p></noscript>
</main>
</body>
</html>
"""


def routes() -> list[Route]:
    """`/dashboard`."""
    made = {language: _page(language) for language in copy.LANGUAGES}

    async def dashboard(request: Request) -> Response:
        chosen = request.query_params.get("lang", "")
        language = chosen if chosen in made else FIRST
        return Response(made[language], headers={**_HEADERS, "content-language": language}, media_type="text/html")

    return [Route("/dashboard", dashboard)]


def _page(language: str) -> bytes:
    def say(key: str) -> str:
        return html.escape(copy.page(language, _PREFIX + key))

    other = "en" if language == "id" else "id"
    return _PAGE.format(
        language=language,
        other=other,
        title=say("title"),
        start=html.escape(copy.page(language, "start")),
        skip=html.escape(copy.page(language, "skip")),
        switch=html.escape(copy.page(other, "language")),
        leave=say("leave"),
        key=say("key"),
        key_help=say("key_help"),
        show=say("show"),
        script=say("script"),
        texts=html.escape(orjson.dumps(copy.pages(language, _PREFIX)).decode()),
    ).encode()
