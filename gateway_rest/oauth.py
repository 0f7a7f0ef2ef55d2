"""OAuth's own endpoints. They speak forms and redirects, so they are written by hand; everything is decided by the cloud.

What comes in is taken apart here and passed on as it came, in its order; what goes out are the cloud's status, body and a few of
its headers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl, urlencode, urlsplit

import orjson
from google.rpc import code_pb2
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from gateway_rest import consent, copy, errors
from gateway_rest.channel import CallFailed, Channel, UnaryCall
from gateway_rest.errors import Problem, Refusal
from gateway_rest.limits import Limits
from gateway_rest.transcoding import metadata
from gateway_rest.transcoding.exchanges import Exchange
from gipos.v1.keys_pb2 import DecideAuthorizationRequest, OAuthRequest, OAuthResponse, Parameter, PrepareAuthorizationResponse
from kernel.scopes import SCOPES

BODY_BYTES = 64 * 1024
MAX_FIELDS = 60
CALL_SECONDS = 15.0

_SERVICE = "/gipos.v1.OAuthService/"
_FORM = "application/x-www-form-urlencoded"
_PASSED_ON = {"content-type", "cache-control", "pragma", "www-authenticate", "location"}
_OWN_CREDENTIALS = {"authorization", "x-api-key", "origin"}
_ASKED_AGAIN = {code_pb2.UNAUTHENTICATED, code_pb2.PERMISSION_DENIED, code_pb2.RESOURCE_EXHAUSTED}


class _Failed(Refusal):
    """The cloud could not answer at all."""

    def __init__(self, failed: CallFailed) -> None:
        Exception.__init__(self, failed.status.message)
        self.problem = errors.from_call(failed)


class _Unreadable(Exception):
    """The body is not a form."""


def routes(channel: Channel, limits: Limits) -> list[Route]:
    """The routes of OAuth 2.0: token, revocation, introspection, consent and metadata."""

    def plain(name: str) -> UnaryCall:
        return channel.unary(_SERVICE + name, OAuthRequest, OAuthResponse)

    prepare = channel.unary(f"{_SERVICE}PrepareAuthorization", OAuthRequest, PrepareAuthorizationResponse)
    decide = channel.unary(f"{_SERVICE}DecideAuthorization", DecideAuthorizationRequest, OAuthResponse)
    screen = _Consent(prepare, decide, limits)
    return [
        Route("/oauth/token", _form_endpoint(plain("IssueToken"), limits), methods=["POST"]),
        Route("/oauth/revoke", _form_endpoint(plain("RevokeToken"), limits), methods=["POST"]),
        Route("/oauth/introspect", _form_endpoint(plain("IntrospectToken"), limits), methods=["POST"]),
        Route("/oauth/authorize", screen.serve, methods=["GET", "POST"]),
        Route("/.well-known/oauth-authorization-server", _describe, methods=["GET"]),
    ]


def _form_endpoint(call: UnaryCall, limits: Limits) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        exchange = _exchange(request)
        try:
            parameters = await _form(exchange, limits)
        except _Unreadable as error:
            body = orjson.dumps({"error": "invalid_request", "error_description": str(error)})
            return Response(body, 400, {"cache-control": "no-store", "pragma": "no-cache"}, "application/json")
        message = _message(request, exchange, parameters)
        try:
            reply = await call(message, _outgoing(exchange), CALL_SECONDS)
        except CallFailed as error:
            raise _Failed(error) from error
        answer = _respond(reply.message)  # type: ignore[arg-type]  # the class the call was made for
        # Applications that live in a browser come here from their own pages. Nothing here depends on cookies.
        answer.headers["access-control-allow-origin"] = "*"
        return answer

    return serve


class _Consent:
    """The merchant's side: the question and the answer."""

    def __init__(self, prepare: UnaryCall, decide: UnaryCall, limits: Limits) -> None:
        self._prepare_call = prepare
        self._decide_call = decide
        self._limits = limits

    async def serve(self, request: Request) -> Response:
        """Both."""
        return await (self.answer(request) if request.method == "POST" else self.ask(request))

    async def ask(self, request: Request) -> Response:
        """GET: what the application wants, in words."""
        exchange = _exchange(request)
        try:
            parameters = _parsed(exchange.query)
        except _Unreadable as error:
            return consent.refusing(_language(exchange), str(error), 400)
        return await self._page(request, exchange, parameters)

    async def answer(self, request: Request) -> Response:
        """POST: the merchant decided."""
        exchange = _exchange(request)
        language = _language(exchange)
        if exchange.headers.get(b"sec-fetch-site", b"same-origin") not in {b"same-origin", b"none"}:
            return consent.refusing(language, "cross_site_request", 403)
        try:
            given = await _form(exchange, self._limits)
        except _Unreadable as error:
            return consent.refusing(language, str(error), 400)
        parameters = [(name, value) for name, value in given if name not in {consent.KEY_FIELD, consent.DECISION_FIELD}]
        said = dict(given)
        if said.get(consent.DECISION_FIELD) != consent.ALLOW:
            return await self._denied(request, exchange, parameters)
        key = said.get(consent.KEY_FIELD, "").strip()
        if not key or not key.isascii() or not key.isprintable():
            return await self._page(request, exchange, parameters, copy.page(language, "consent.key_missing"), 400)
        outgoing = [*_outgoing(exchange), ("authorization", f"Bearer {key}")]
        message = DecideAuthorizationRequest(request=_message(request, exchange, parameters), allowed=True)
        try:
            reply = await self._decide_call(message, outgoing, CALL_SECONDS)
        except CallFailed as error:
            problem = errors.from_call(error)
            if error.status.code not in _ASKED_AGAIN:
                raise _Failed(error) from error
            return await self._page(request, exchange, parameters, _worded(problem, language), problem.status)
        return _respond(reply.message, redirect_status=303)  # type: ignore[arg-type]  # as above

    async def _page(
        self, request: Request, exchange: Exchange, parameters: list[tuple[str, str]], problem: str = "", status: int = 200
    ) -> Response:
        prepared = await self._prepare(request, exchange, parameters)
        language = _language(exchange)
        if prepared.HasField("refusal"):
            return _refused(prepared.refusal, language)
        redirect_uri = dict(parameters).get("redirect_uri", "")
        return consent.asking(
            language, prepared.client_name, prepared.scopes, parameters, redirect_uri, problem=problem, status=status
        )

    async def _denied(self, request: Request, exchange: Exchange, parameters: list[tuple[str, str]]) -> Response:
        """Saying no needs no key. Where to go back to is what the cloud has found to be the application's own."""
        prepared = await self._prepare(request, exchange, parameters)
        if prepared.HasField("refusal"):
            return _refused(prepared.refusal, _language(exchange))
        said = dict(parameters)
        back = {"error": "access_denied", "error_description": "The merchant refused.", "iss": _issuer(request)}
        if said.get("state"):
            back["state"] = said["state"]
        uri = said["redirect_uri"]
        return _redirect(f"{uri}{'&' if urlsplit(uri).query else '?'}{urlencode(back)}", 303)

    async def _prepare(
        self, request: Request, exchange: Exchange, parameters: list[tuple[str, str]]
    ) -> PrepareAuthorizationResponse:
        message = _message(request, exchange, parameters)
        message.authorization = ""
        try:
            reply = await self._prepare_call(message, _outgoing(exchange), CALL_SECONDS)
        except CallFailed as error:
            raise _Failed(error) from error
        return reply.message  # type: ignore[return-value]  # as above


async def _describe(request: Request) -> Response:
    """RFC 8414, with what RFC 9207 and RFC 7636 add."""
    issuer = _issuer(request)
    secret_methods = ["client_secret_basic", "client_secret_post"]
    document = {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/oauth/authorize",
        "token_endpoint": f"{issuer}/oauth/token",
        "revocation_endpoint": f"{issuer}/oauth/revoke",
        "introspection_endpoint": f"{issuer}/oauth/introspect",
        "service_documentation": f"{issuer}/docs",
        "scopes_supported": list(SCOPES),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "client_credentials", "refresh_token"],
        "token_endpoint_auth_methods_supported": [*secret_methods, "none"],
        "revocation_endpoint_auth_methods_supported": [*secret_methods, "none"],
        "introspection_endpoint_auth_methods_supported": secret_methods,
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,
        "ui_locales_supported": ["id", "en"],
    }
    headers = {"cache-control": "no-store", "access-control-allow-origin": "*"}
    return Response(orjson.dumps(document), 200, headers, "application/json")


def _exchange(request: Request) -> Exchange:
    exchange = Exchange(request.scope, request.receive, _unused)
    if exchange.headers.get(b"x-request-id") != exchange.request_id.encode():
        # The error page, should there be one, names the same id as the cloud's log.
        kept = [pair for pair in request.scope["headers"] if pair[0] != b"x-request-id"]
        request.scope["headers"] = [*kept, (b"x-request-id", exchange.request_id.encode())]
    if exchange.repeated:
        raise Refusal(400, "DUPLICATE_HEADER", name=exchange.repeated)
    return exchange


async def _unused(_: object) -> None:
    raise AssertionError("answers of screens are sent by Starlette")


async def _form(exchange: Exchange, limits: Limits) -> list[tuple[str, str]]:
    content_type = exchange.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    try:
        body = await exchange.read_body(limits, BODY_BYTES)
    finally:
        exchange.let_go()  # a form is small; what is made of it counts for nothing
    if content_type.decode("latin-1") != _FORM:
        raise _Unreadable(f"Send the parameters as {_FORM}.")
    return _parsed(body)


def _parsed(text: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise _Unreadable("The parameters cannot be read.") from None


def _message(request: Request, exchange: Exchange, parameters: list[tuple[str, str]]) -> OAuthRequest:
    return OAuthRequest(
        method=exchange.method,
        uri=f"{_issuer(request)}{request.url.path}",
        parameters=[Parameter(name=name, value=value) for name, value in parameters],
        authorization=exchange.headers.get(b"authorization", b"").decode("latin-1"),
    )


def _issuer(request: Request) -> str:
    """The origin under which the caller knows us."""
    return f"{request.url.scheme}://{request.url.netloc}"


def _outgoing(exchange: Exchange) -> list[tuple[str, str]]:
    pairs = metadata.outgoing(exchange.headers, exchange.request_id, exchange.client)
    return [(name, value) for name, value in pairs if name not in _OWN_CREDENTIALS]


def _language(exchange: Exchange) -> str:
    return consent.language_of(exchange.headers.get(b"accept-language"))


def _worded(problem: Problem, language: str) -> str:
    return copy.detail(language, problem.reason, problem.facts) or problem.detail


def _respond(message: OAuthResponse, *, redirect_status: int = 302) -> Response:
    headers = {parameter.name: parameter.value for parameter in message.headers if parameter.name in _PASSED_ON}
    if "location" in headers:
        return _redirect(headers["location"], redirect_status)
    return Response(message.body, message.http_status, headers)


def _refused(message: OAuthResponse, language: str) -> Response:
    """A refusal goes back to the application when it is known where that is; else the merchant reads it."""
    if any(parameter.name == "location" for parameter in message.headers):
        return _respond(message)
    told = orjson.loads(message.body)
    return consent.refusing(language, f"{told.get('error', '')}: {told.get('error_description', '')}", message.http_status)


def _redirect(uri: str, status: int) -> Response:
    return RedirectResponse(uri, status, {"cache-control": "no-store", "referrer-policy": "no-referrer"})
