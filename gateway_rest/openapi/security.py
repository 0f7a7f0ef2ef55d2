"""How callers prove who they are, and the scope that each operation asks for."""

from __future__ import annotations

from typing import Any

from gateway_rest.transcoding.rules import Binding
from kernel import scopes

SCHEMES: dict[str, Any] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key (`gipos_test_…`, `gipos_live_…`) or an OAuth 2.0 access token.",
    },
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "An API key, for tools that cannot set the header Authorization.",
    },
    "oauth2": {
        "type": "oauth2",
        "description": "For applications. Register one with `POST /api/v1/oauth-clients`; authorization code needs PKCE (S256).",
        "flows": {
            "clientCredentials": {"tokenUrl": "/oauth/token", "scopes": scopes.SCOPES},
            "authorizationCode": {
                "authorizationUrl": "/oauth/authorize",
                "tokenUrl": "/oauth/token",
                "refreshUrl": "/oauth/token",
                "scopes": scopes.SCOPES,
            },
        },
    },
}


def scope(binding: Binding) -> str:
    """The scope an operation needs; empty when any valid key will do, or for contracts that are not ours."""
    try:
        return scopes.scope_of(binding.path)
    except KeyError:
        return ""


def requirement(binding: Binding) -> list[dict[str, list[str]]]:
    """The operation's `security`: any one of the schemes, with the scope it needs."""
    needed = [found] if (found := scope(binding)) else []
    return [{name: needed} for name in SCHEMES]
