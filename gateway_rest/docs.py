"""Swagger UI from packaged files, and the OpenAPI document. Nothing is fetched from elsewhere and no script stands in a page."""

from __future__ import annotations

import hashlib
import html

import swagger_ui_bundle
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Route

from gateway_rest.errors import Refusal

_FILES = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript", "favicon-32x32.png": "image/png"}
_POLICY = (
    "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
)
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" type="image/png" href="/docs/favicon-32x32.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="documentation"></div>
<noscript>This page needs JavaScript. The same in machine form: <a href="/openapi.json">/openapi.json</a></noscript>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/initializer.js"></script>
</body>
</html>
"""
# The packaged Swagger UI reads OpenAPI 3.0 only. What we say in 3.1 means the same in 3.0, so the page relabels its own copy.
_INITIALIZER = """"use strict";
fetch("/openapi.json")
  .then((answer) => answer.json())
  .then((spec) => {
    spec.openapi = "3.0.3";
    window.ui = SwaggerUIBundle({
      spec,
      dom_id: "#documentation",
      deepLinking: true,
      persistAuthorization: true,
      displayRequestDuration: true,
      tryItOutEnabled: true,
      validatorUrl: null,
      presets: [SwaggerUIBundle.presets.apis],
    });
  })
  .catch((error) => {
    document.getElementById("documentation").textContent = "The documentation cannot be loaded: " + error;
  });
"""


def routes(document: bytes, title: str) -> list[Route]:
    """The routes of the documentation."""
    etag = f'"{hashlib.sha256(document).hexdigest()[:32]}"'
    page = _PAGE.format(title=html.escape(title))
    headers = {"content-security-policy": _POLICY, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}

    async def openapi(request: Request) -> Response:
        own = {"etag": etag, "cache-control": "no-cache", "access-control-allow-origin": "*"}
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=own)
        return Response(document, media_type="application/json", headers=own)

    async def index(_: Request) -> Response:
        return Response(page, media_type="text/html", headers={**headers, "cache-control": "no-cache"})

    async def file(request: Request) -> Response:
        name = request.path_params["name"]
        if name == "initializer.js":
            return Response(_INITIALIZER, media_type="text/javascript", headers={**headers, "cache-control": "no-cache"})
        if name not in _FILES:
            raise Refusal(404, "ROUTE_NOT_FOUND", path=request.url.path)
        path = swagger_ui_bundle.swagger_ui_path / name
        return FileResponse(path, media_type=_FILES[name], headers={**headers, "cache-control": "max-age=86400"})

    async def root(_: Request) -> Response:
        return RedirectResponse("/docs", status_code=302)

    return [
        Route("/", root),
        Route("/docs", index),
        Route("/docs/", index),
        Route("/docs/{name}", file),
        Route("/openapi.json", openapi),
        Route("/openapi/v1.json", openapi),
    ]
