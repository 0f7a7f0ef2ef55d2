"""The page that asks a merchant whether an application may use their data. Plain HTML: no script, nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.responses import Response

from gateway_rest import copy

DEFAULT_LANGUAGE = "id"
"""Merchants are asked in Bahasa Indonesia unless their browser says otherwise; only programs default to English."""
KEY_FIELD, DECISION_FIELD = "api_key", "decision"
ALLOW = "allow"

_STYLE = """
body { margin: 0; font: 1rem/1.5 system-ui, sans-serif; color: #1b1f24; background: #f4f5f7; }
main { max-width: 32rem; margin: 2rem auto; padding: 1.5rem; background: #fff; border: 1px solid #c9ced6; border-radius: .5rem; }
h1 { font-size: 1.4rem; line-height: 1.3; overflow-wrap: anywhere; }
code { overflow-wrap: anywhere; }
label { display: block; font-weight: 600; margin-top: 1rem; }
input { box-sizing: border-box; width: 100%; min-height: 2.75rem; font: inherit; padding: .5rem; border: 1px solid #5b6472;
  border-radius: .25rem; }
button { min-height: 2.75rem; font: inherit; padding: .5rem 1.25rem; margin: 1rem .5rem 0 0; border: 1px solid #0b5cad;
  border-radius: .25rem; background: #fff; color: #0b5cad; cursor: pointer; }
button.allow { background: #0b5cad; color: #fff; }
:focus-visible { outline: 3px solid #f5a623; outline-offset: 2px; }
.problem { border-left: .3rem solid #b3261e; padding: .5rem .75rem; background: #fdecea; }
.small { font-size: .875rem; color: #454c57; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_PAGE = """<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{content}
</main>
</body>
</html>
"""
_FORM = """<h1>{heading}</h1>
{problem}<p>{explanation}</p>
<ul>
{scopes}
</ul>
<p class="small">{returns} <code>{origin}</code></p>
<form method="post" action="/oauth/authorize">
{hidden}
<label for="key">{key_label}</label>
<input id="key" name="api_key" type="password" autocomplete="off" spellcheck="false" autocapitalize="off" required
 aria-describedby="key-help{described}"{invalid}>
<p id="key-help" class="small">{key_help}</p>
<button class="allow" name="decision" value="allow">{allow}</button>
<button name="decision" value="deny" formnovalidate>{deny}</button>
</form>"""


def language_of(accept_language: bytes | None) -> str:
    """The language of the page."""
    # "*" and languages we do not have lead to the gateway's own default; only a caller who names English gets it.
    if not accept_language or b"en" not in accept_language.lower():
        return DEFAULT_LANGUAGE
    return copy.choose(accept_language)


def asking(
    language: str,
    name: str,
    scopes: Sequence[str],
    parameters: Sequence[tuple[str, str]],
    redirect_uri: str,
    *,
    problem: str = "",
    status: int = 200,
) -> Response:
    """The question. `parameters` come back with the answer; `problem` says why an answer before was not taken."""

    def say(key: str) -> str:
        return html.escape(copy.page(language, f"consent.{key}"))

    parts = urlsplit(redirect_uri)
    origin = f"{parts.scheme}://{parts.netloc}"
    application = html.escape(name)
    content = _FORM.format(
        heading=say("heading").format(name=f"<bdi>{application}</bdi>"),
        problem=f'<p id="problem" class="problem" role="alert">{html.escape(problem)}</p>\n' if problem else "",
        explanation=say("explanation").format(name=f"<bdi>{application}</bdi>"),
        scopes="\n".join(f"<li>{html.escape(words(language, scope))}</li>" for scope in scopes),
        returns=say("returns"),
        origin=html.escape(origin),
        hidden="\n".join(
            f'<input type="hidden" name="{html.escape(key)}" value="{html.escape(value)}">' for key, value in parameters
        ),
        key_label=say("key"),
        key_help=say("key_help"),
        described=" problem" if problem else "",
        invalid=' aria-invalid="true"' if problem else "",
        allow=say("allow"),
        deny=say("deny"),
    )
    title = copy.page(language, "consent.heading").format(name=name)
    return _answer(language, title, content, status, origin)


def refusing(language: str, reason: str, status: int) -> Response:
    """A page for a request that cannot be answered, and cannot be sent back to the application either."""

    def say(key: str) -> str:
        return html.escape(copy.page(language, f"consent.{key}"))

    content = f'<h1>{say("refused")}</h1>\n<p>{say("refused_help")}</p>\n<p class="small"><code>{html.escape(reason)}</code></p>'
    return _answer(language, copy.page(language, "consent.refused"), content, status, "")


def words(language: str, scope: str) -> str:
    """What a scope allows, in words; the scope itself where there are none yet."""
    try:
        return copy.page(language, f"consent.scope.{scope}")
    except KeyError:
        return scope


def _answer(language: str, title: str, content: str, status: int, origin: str) -> Response:
    policy = (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; frame-ancestors 'none'; "
        # Browsers hold the redirect that answers the form against this as well.
        f"form-action 'self'{' ' + origin if origin else ''}"
    )
    headers = {
        "content-security-policy": policy,
        "x-frame-options": "DENY",
        "x-content-type-options": "nosniff",
        # Not no-referrer: with it a browser would not say any more that the form came from this very page.
        "referrer-policy": "same-origin",
        "cache-control": "no-store",
        "content-language": language,
        "vary": "accept-language",
    }
    page = _PAGE.format(language=language, title=html.escape(title), style=_STYLE, content=content)
    return Response(page, status, headers, "text/html")
