"""Who may talk to the local API: programs on this tablet, and no web page from elsewhere. Also gives each request its id.

A page on the internet can point its own name at 127.0.0.1 (DNS rebinding) or post to a local port; both show in the headers.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.till.problems import problem
from kernel.ids import new_id

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})


def is_loopback(authority: str) -> bool:
    """Whether a Host header (or the authority of an Origin) names this machine, with any port."""
    try:
        parts = urlsplit(f"//{authority}")
        port = parts.port
    except ValueError:
        return False
    return parts.hostname in LOOPBACK_NAMES and parts.username is None and port != 0


class LoopbackOnly:
    """Refuses requests whose Host or Origin is not this machine."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request in, or answers 403."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = new_id("req")
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers["Cache-Control"] = "no-store"
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if not is_loopback(headers.get("host", "")):
            refusal = "This address only answers programs on the tablet itself: use http://127.0.0.1."
        elif origin is not None and not is_loopback(urlsplit(origin).netloc if "//" in origin else origin):
            refusal = "Pages from other addresses may not use the till."
        else:
            await self._app(scope, receive, send_with_id)
            return
        response = problem(Request(scope), 403, "NOT_LOOPBACK", refusal)
        await response(scope, receive, send_with_id)
