"""OAuth 2.0 as Authlib plays it, over rows that were read before and into effects that are written after. No I/O here.

Narrower than Authlib in what is known to go wrong: PKCE with S256 always, a client never gets more than its own scopes, exact
redirect addresses, every parameter once and in plain ASCII.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson
from authlib.common.urls import add_params_to_uri
from authlib.oauth2.rfc6749 import (
    AuthorizationServer,
    InvalidRequestError,
    OAuth2Error,
    grants,
)
from authlib.oauth2.rfc6750 import BearerTokenGenerator
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc7662 import IntrospectionEndpoint

from cloud.accounts.oauth_forms import FormRequest
from gipos.v1.keys_pb2 import OAuthResponse, Parameter
from kernel.signatures import CLIENT_SECRET_PREFIX as SECRET_PREFIX
from kernel.signatures import CODE_PREFIX, REFRESH_PREFIX, TOKEN_PREFIX, fingerprint, is_key, matches, new_key

ACCESS_LIFE = timedelta(hours=1)
REFRESH_LIFE = timedelta(days=30)
"""From its last use; every use gives a new one."""
CODE_LIFE = timedelta(seconds=60)


@dataclass(frozen=True)
class Client:
    """A registered application."""

    tenant_id: str
    id: str
    name: str
    mode: str
    scopes: tuple[str, ...]
    grant_types: tuple[str, ...]
    redirect_uris: tuple[str, ...]
    secret_fingerprint: bytes | None

    def get_client_id(self) -> str:
        return self.id

    def get_default_redirect_uri(self) -> None:
        """None: what an application does not say, it does not get."""

    def get_allowed_scope(self, scope: str | None) -> str | None:
        """What is asked for, all there is when nothing is; None (which becomes invalid_scope) when it is more than that."""
        wanted = (scope or "").split() or list(self.scopes)
        return " ".join(dict.fromkeys(wanted)) if set(wanted) <= set(self.scopes) else None

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri in self.redirect_uris

    def check_client_secret(self, client_secret: str) -> bool:
        if self.secret_fingerprint is None or not is_key(client_secret, SECRET_PREFIX):
            return False
        return matches(fingerprint(client_secret), self.secret_fingerprint)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return (method == "none") == (self.secret_fingerprint is None)

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code" and "authorization_code" in self.grant_types

    def check_grant_type(self, grant_type: str) -> bool:
        return ("authorization_code" if grant_type == "refresh_token" else grant_type) in self.grant_types


@dataclass(frozen=True)
class Code:
    """What a merchant agreed to, to be turned into tokens once."""

    tenant_id: str
    fingerprint: bytes
    grant_id: str
    client_id: str
    redirect_uri: str
    challenge: str
    scopes: tuple[str, ...]
    expires_at: datetime

    code_challenge_method = "S256"

    @property
    def code_challenge(self) -> str:
        return self.challenge

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return " ".join(self.scopes)


@dataclass(frozen=True)
class Token:
    """An access or refresh token."""

    tenant_id: str
    id: str
    is_refresh: bool
    client_id: str
    grant_id: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    is_ended: bool
    """Revoked, or its grant is, or (a refresh token) used up."""
    now: datetime

    def check_client(self, client: Client) -> bool:
        return self.client_id == client.id

    def get_scope(self) -> str:
        return " ".join(self.scopes)

    def is_expired(self) -> bool:
        return self.expires_at <= self.now

    def is_revoked(self) -> bool:
        return self.is_ended


@dataclass(frozen=True)
class Facts:
    """What was read before."""

    now: datetime
    client: Client | None = None
    code: Code | None = None
    token: Token | None = None


@dataclass
class Effects:
    """What is to be written after."""

    response: OAuthResponse = field(default_factory=OAuthResponse)
    error: str = ""
    """The error code of RFC 6749, when it is one."""
    access_token: str = ""
    refresh_token: str = ""
    scopes: tuple[str, ...] = ()
    """Of the access token, or of the code."""
    used_code: Code | None = None
    used_token: Token | None = None
    revoked: Token | None = None
    new_code: str = ""
    redirect_uri: str = ""
    challenge: str = ""


def issue(request: FormRequest, facts: Facts) -> Effects:
    """The token endpoint."""
    server = _Server(facts, request)
    server.create_token_response(request)
    return server.effects


def revoke(request: FormRequest, facts: Facts) -> Effects:
    """The revocation endpoint."""
    server = _Server(facts, request)
    server.create_endpoint_response("revocation", request)
    return server.effects


def introspect(request: FormRequest, facts: Facts) -> Effects:
    """The introspection endpoint. A client learns of its own tokens only."""
    server = _Server(facts, request)
    server.create_endpoint_response("introspection", request)
    return server.effects


def prepare(request: FormRequest, facts: Facts) -> Effects:
    """Checks what an application asks a merchant for; `scopes` of the effects is what the merchant would agree to."""
    server = _Server(facts, request)
    try:
        server.get_consent_grant(request)
    except OAuth2Error as error:
        server.handle_error_response(request, error)
    else:
        server.effects.scopes = tuple(request.scope.split())
    return server.effects


def decide(request: FormRequest, facts: Facts, *, allowed: bool) -> Effects:
    """The merchant's answer, as a redirect to the application."""
    server = _Server(facts, request)
    try:
        grant = server.get_consent_grant(request)
    except OAuth2Error as error:
        server.handle_error_response(request, error)
    else:
        server.create_authorization_response(request, grant_user=facts if allowed else None, grant=grant)
    return server.effects


def refusal(error: str, description: str, status: int = 400) -> OAuthResponse:
    """An error in the form of RFC 6749 §5.2."""
    body = orjson.dumps({"error": error, "error_description": description})
    headers = {"content-type": "application/json", "cache-control": "no-store", "pragma": "no-cache"}
    return OAuthResponse(http_status=status, body=body, headers=[Parameter(name=n, value=v) for n, v in headers.items()])


class _Server(AuthorizationServer):
    def __init__(self, facts: Facts, request: FormRequest) -> None:
        super().__init__(scopes_supported=None)
        self.facts = facts
        self.effects = Effects()
        self.request_issuer = request.issuer
        # This generator asks the client for its scopes. A plain function in its place would not, and nobody else does.
        self.register_token_generator(
            "default",
            BearerTokenGenerator(
                lambda **_: new_key(TOKEN_PREFIX),
                lambda **_: new_key(REFRESH_PREFIX),
                lambda *_: int(ACCESS_LIFE.total_seconds()),
            ),
        )
        self.register_grant(_ClientCredentials)
        self.register_grant(_AuthorizationCode, [_Challenge()])
        self.register_grant(_RefreshToken)
        self.register_endpoint(_Revocation)
        self.register_endpoint(_Introspection)

    def query_client(self, client_id: str) -> Client | None:
        client = self.facts.client
        return client if client is not None and client.id == client_id else None

    def save_token(self, token: dict[str, Any], request: FormRequest) -> None:
        self.effects.access_token = token["access_token"]
        self.effects.refresh_token = token.get("refresh_token", "")
        self.effects.scopes = tuple(token["scope"].split())

    def create_oauth2_request(self, request: FormRequest) -> FormRequest:
        return request

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nobody listens."""

    def handle_response(self, status: int, body: Any, headers: list[tuple[str, str]]) -> OAuthResponse:
        parts = {name.lower(): value for name, value in headers}
        if "location" in parts:
            # RFC 9207: so that an application that talks to several servers knows whose answer this is.
            parts["location"] = add_params_to_uri(parts["location"], [("iss", self.request_issuer)])
        if isinstance(body, dict):
            self.effects.error = body.get("error", "")
        self.effects.response = OAuthResponse(
            http_status=status,
            body=orjson.dumps(body) if isinstance(body, dict) else b"",
            headers=[Parameter(name=name, value=value) for name, value in parts.items()],
        )
        return self.effects.response


class _ClientCredentials(grants.ClientCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ["client_secret_basic", "client_secret_post"]


class _AuthorizationCode(grants.AuthorizationCodeGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ["client_secret_basic", "client_secret_post", "none"]

    def generate_authorization_code(self) -> str:
        return new_key(CODE_PREFIX)

    def save_authorization_code(self, code: str, request: FormRequest) -> None:
        effects = self.server.effects
        effects.new_code = code
        effects.scopes = tuple(request.scope.split())
        effects.redirect_uri = request.payload.redirect_uri
        effects.challenge = request.form["code_challenge"]

    def query_authorization_code(self, code: str, client: Client) -> Code | None:
        found: Code | None = self.server.facts.code
        is_good = found is not None and found.client_id == client.id and found.expires_at > self.server.facts.now
        return found if is_good else None

    def delete_authorization_code(self, authorization_code: Code) -> None:
        self.server.effects.used_code = authorization_code

    def authenticate_user(self, authorization_code: Code) -> Code:
        return authorization_code


class _RefreshToken(grants.RefreshTokenGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ["client_secret_basic", "client_secret_post", "none"]
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> Token | None:
        # One that was used before passes here: that it was shows when it is written, and ends the whole family.
        found: Token | None = self.server.facts.token
        return found if found is not None and found.is_refresh and not found.is_expired() else None

    def authenticate_user(self, refresh_token: Token) -> Token:
        return refresh_token

    def revoke_old_credential(self, refresh_token: Token) -> None:
        self.server.effects.used_token = refresh_token


class _Challenge(CodeChallenge):
    """PKCE for every client, by SHA-256 only. Authlib itself asks it of public clients alone and takes "plain" as well."""

    SUPPORTED_CODE_CHALLENGE_METHOD = ["S256"]

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        data = grant.request.payload.data
        if not data.get("code_challenge") or data.get("code_challenge_method") != "S256":
            raise InvalidRequestError("PKCE is required: send code_challenge and code_challenge_method=S256.")
        super().validate_code_challenge(grant, redirect_uri)


class _Revocation(RevocationEndpoint):
    CLIENT_AUTH_METHODS = ["client_secret_basic", "client_secret_post", "none"]

    def query_token(self, token_string: str, token_type_hint: str | None) -> Token | None:
        found: Token | None = self.server.facts.token
        return found

    def revoke_token(self, token: Token, request: FormRequest) -> None:
        self.server.effects.revoked = token


class _Introspection(IntrospectionEndpoint):
    CLIENT_AUTH_METHODS = ["client_secret_basic", "client_secret_post"]

    def query_token(self, token_string: str, token_type_hint: str | None) -> Token | None:
        found: Token | None = self.server.facts.token
        return found

    def check_permission(self, token: Token, client: Client, request: FormRequest) -> bool:
        return token.check_client(client)

    def introspect_token(self, token: Token) -> dict[str, Any]:
        return {
            "active": True,
            "client_id": token.client_id,
            "token_type": "refresh_token" if token.is_refresh else "Bearer",
            "scope": token.get_scope(),
            "sub": token.tenant_id,
            "iss": self.server.request_issuer,
            "iat": int(token.created_at.timestamp()),
            "exp": int(token.expires_at.timestamp()),
        }
