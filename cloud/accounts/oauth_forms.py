"""What came to an OAuth endpoint, read strictly before Authlib sees it: hostile bytes end here, with an answer of RFC 6749."""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote_plus, urlsplit

from authlib.oauth2.rfc6749 import InvalidRequestError, OAuth2Error, OAuth2Request
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload

from gipos.v1.keys_pb2 import OAuthRequest

MAX_PARAMETERS = 50
MAX_VALUE = 4096

_PLAIN = re.compile(r"[\x20-\x7e]*")
# Authlib repeats these in descriptions, where quotes and backslashes are forbidden.
_QUOTED = ("response_type", "grant_type", "redirect_uri", "client_id", "scope", "token_type_hint")
_UNQUOTED = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]*")


class FormRequest(OAuth2Request):
    """A request as Authlib wants it."""

    def __init__(self, method: str, uri: str, form: dict[str, str], authorization: str) -> None:
        super().__init__(method, uri, headers={"Authorization": authorization} if authorization else {})
        self._form = form
        self.payload = BasicOAuth2Payload(form)
        self.scope = ""
        parts = urlsplit(uri)
        self.issuer = f"{parts.scheme}://{parts.netloc}"
        """Who answers: the origin under which the client knows us."""

    @property
    def form(self) -> dict[str, str]:
        """The parameters."""
        return self._form

    @property
    def args(self) -> dict[str, str]:
        """The parameters."""
        return self._form


def read(request: OAuthRequest) -> FormRequest:
    """The request, checked.

    Raises:
        OAuth2Error: invalid_request (unclear parameters or credentials), or insecure_transport (not https, and not on loopback).
    """
    if len(request.uri) > MAX_VALUE or len(request.authorization) > 2 * MAX_VALUE:
        # Only a caller of gRPC can say so much; libraries on the way remember addresses they have seen.
        raise InvalidRequestError("The address or the Authorization header is too long.")
    if len(request.parameters) > MAX_PARAMETERS:
        raise InvalidRequestError("Too many parameters.")
    form: dict[str, str] = {}
    for parameter in request.parameters:
        name, value = parameter.name, parameter.value
        if name in form:
            raise InvalidRequestError("A parameter is given more than once.")
        if len(value) > MAX_VALUE or not _PLAIN.fullmatch(value) or (name in _QUOTED and not _UNQUOTED.fullmatch(value)):
            raise InvalidRequestError("A parameter is too long or holds characters that are not allowed.")
        if value:  # RFC 6749 §3.1: without a value is as good as not sent
            form[name] = value
    if request.authorization[:6].lower() == "basic ":
        return _with_basic(request, form)
    return FormRequest(request.method, request.uri, form, "")


def _with_basic(request: OAuthRequest, form: dict[str, str]) -> FormRequest:
    try:
        client_id, _, secret = base64.b64decode(request.authorization[6:].strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise InvalidRequestError("The Authorization header is not HTTP Basic.") from None
    client_id, secret = unquote_plus(client_id), unquote_plus(secret)
    if not _UNQUOTED.fullmatch(client_id) or not _PLAIN.fullmatch(secret):
        raise InvalidRequestError("The Authorization header holds characters that are not allowed.")
    if "client_secret" in form or form.get("client_id", client_id) != client_id:
        raise InvalidRequestError("Identify the client in one way only: by the Authorization header, or in the form.")
    # Handed on as a clean header: Authlib must read exactly what was checked here.
    header = "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()
    return FormRequest(request.method, request.uri, {**form, "client_id": client_id}, header)


__all__ = ["FormRequest", "OAuth2Error", "read"]
