"""The first page: what there is, and the first call, in the reader's language."""

from __future__ import annotations

import html

from gateway_rest import copy, pages

_COMMANDS = """export GIPOS_URL={url}
export GIPOS_API_KEY=gipos_test_…
curl -sS "$GIPOS_URL/api/v1/me" -H "Authorization: Bearer $GIPOS_API_KEY\""""


def page(language: str, url: str) -> bytes:
    """The page; `url` is where the reader found this gateway."""

    def say(key: str) -> str:
        return html.escape(copy.page(language, key))

    quick = "/docs/guides/mulai-cepat" if language == "id" else "/docs/guides/quick-start"
    errors = "/docs/errors?lang=id" if language == "id" else "/docs/errors"
    cards = (
        (quick, "quick"), ("/docs", "try"), ("/docs/redoc", "read"), ("/docs/guides", "guides"), (errors, "errors"),
        ("/openapi.json", "machine"), (f"/dashboard?lang={language}", "board"),
    )  # fmt: skip
    items = "".join(f'<li><a href="{address}">{say(key)}</a><p>{say(f"{key}.help")}</p></li>' for address, key in cards)
    body = (
        f'<h1>{say("title")}</h1><p class="lead">{say("lead")}</p>'
        f"<h2>{say('first')}</h2><p>{say('first.help')}</p>"
        f'<pre tabindex="0"><code>{html.escape(_COMMANDS.format(url=url))}</code></pre>'
        f'<ul class="cards">{items}</ul>'
    )
    other = "en" if language == "id" else "id"
    return pages.layout(language, copy.page(language, "title"), body, path="/", alternative=f"/?lang={other}")
