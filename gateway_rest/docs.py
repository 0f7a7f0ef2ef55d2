"""The routes of the documentation: the OpenAPI document, Swagger UI, Redoc, guides and the error reference."""

from __future__ import annotations

import hashlib
import html
from functools import cache

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from gateway_rest import copy, pages
from gateway_rest.errors import Refusal
from gateway_rest.pages import guides, start

_HEADERS = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
_ERRORS = {"en": "errors.md", "id": "errors.id.md"}
_SWAGGER = ('<link rel="stylesheet" href="/docs/assets/swagger-ui.css">\n', ("swagger-ui-bundle.js", "swagger.js"))
_REDOC = ("", ("redoc.standalone.js", "redoc.js"))


def routes(document: bytes) -> list[Route]:
    """The routes; every file is read once, when it is first asked for."""
    openapi = _Kept(document, "application/json")
    openapi_headers = {"access-control-allow-origin": "*"}
    assets = cache(lambda: {name: _Kept(asset.content, asset.media_type) for name, asset in pages.assets().items()})
    texts = cache(guides.load)
    errors = cache(lambda language: guides.read(guides.folder("reference") / _ERRORS[language]))

    async def spec(request: Request) -> Response:
        return openapi.answer(request, "no-cache", **openapi_headers)

    async def asset(request: Request) -> Response:
        kept = assets().get(request.path_params["name"])
        if kept is None:
            raise _missing(request)
        return kept.answer(request, "max-age=3600", **_policy(pages.STRICT))

    async def first(request: Request) -> Response:
        return _page(start.page(_language(request), str(request.base_url).rstrip("/")))

    async def swagger(_: Request) -> Response:
        return _page(_tool("try", "/docs", *_SWAGGER))

    async def redoc(_: Request) -> Response:
        return _page(_tool("read", "/docs/redoc", *_REDOC), pages.STYLED)

    async def list_guides(request: Request) -> Response:
        language = _language(request)
        title = copy.page(language, "guides")
        body = f"<h1>{html.escape(title)}</h1>{guides.index(texts(), language)}"
        other = "en" if language == "id" else "id"
        return _page(pages.layout(language, title, body, path="/docs/guides", alternative=f"/docs/guides?lang={other}"))

    async def guide(request: Request) -> Response:
        found = texts().get(request.path_params["name"])
        if found is None:
            raise _missing(request)
        return _page(pages.layout(found.language, found.title, found.body, path="/docs/guides"))

    async def error_reference(request: Request) -> Response:
        language = _language(request)
        found = errors(language)
        other = "/docs/errors?lang=" + ("en" if language == "id" else "id")
        return _page(pages.layout(language, found.title, found.body, path="/docs/errors", alternative=other))

    async def moved(request: Request) -> Response:
        return RedirectResponse({"/reference": "/docs/redoc"}.get(request.url.path, "/docs"), status_code=308)

    return [
        Route("/", first),
        Route("/docs", swagger),
        Route("/docs/", moved),
        Route("/docs/redoc", redoc),
        Route("/redoc", redoc),
        Route("/reference", moved),
        Route("/docs/guides", list_guides),
        Route("/docs/guides/{name}", guide),
        Route("/docs/errors", error_reference),
        Route("/docs/assets/{name}", asset),
        Route("/openapi.json", spec),
        Route("/openapi/v1.json", spec),
    ]


class _Kept:
    """Bytes that do not change, with their ETag."""

    def __init__(self, content: bytes, media_type: str) -> None:
        self._content = content
        self._media_type = media_type
        self._etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'

    def answer(self, request: Request, caching: str, **headers: str) -> Response:
        """The bytes, or 304 for those who have them."""
        own = {"etag": self._etag, "cache-control": caching, **_HEADERS, **headers}
        if self._etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=own)
        return Response(self._content, media_type=self._media_type, headers=own)


def _tool(key: str, path: str, head: str, scripts: tuple[str, ...]) -> bytes:
    """A page that a packaged program draws."""
    title = copy.page(copy.DEFAULT, f"{key}.title")
    needs = html.escape(copy.page(copy.DEFAULT, "script"))
    body = (
        f'<h1 class="visually-hidden">{html.escape(title)}</h1>\n<div id="documentation"></div>\n'
        f'<noscript>{needs} <a href="/openapi.json">/openapi.json</a></noscript>'
    )
    head += "".join(f'<script defer src="/docs/assets/{name}"></script>\n' for name in scripts)
    return pages.layout(copy.DEFAULT, title, body, path=path, head=head, wide=True)


def _page(content: bytes, policy: str = pages.STRICT) -> Response:
    headers = {**_policy(policy), **_HEADERS, "cache-control": "no-cache", "vary": "accept-language"}
    return Response(content, media_type="text/html", headers=headers)


def _policy(policy: str) -> dict[str, str]:
    return {"content-security-policy": policy}


def _language(request: Request) -> str:
    """The language somebody chose by `?lang=`, else the one their browser asks for."""
    chosen = request.query_params.get("lang", "")
    return chosen if chosen in copy.LANGUAGES else copy.choose(request.headers.get("accept-language", "").encode("latin-1"))


def _missing(request: Request) -> Refusal:
    return Refusal(404, "ROUTE_NOT_FOUND", path=request.url.path)
