"""Identity from outside: a real gateway before a real cloud, spoken to by keys, as applications and as browsers do."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import json
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp
import pytest
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata

from cloud import demo, server
from cloud.platform.database import Database
from cloud.settings import Settings
from gateway_rest.__main__ import Server, bind, configured
from gateway_rest.app import Gateway
from gateway_rest.channel import GrpcChannel
from gateway_rest.contract import installed
from kernel.scopes import SCOPES
from kernel.signatures import CLIENT_SECRET_PREFIX, is_key, new_key

BACK = "https://app.example/back"


@dataclass
class Web:
    """A client of the gateway, and the demo merchant's key."""

    url: str
    key: str
    session: aiohttp.ClientSession
    database: Database
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))

    async def __call__(self, method: str, path: str, **options: Any) -> tuple[int, Any, Any]:
        """Status, body and headers."""
        async with self.session.request(method, self.url + path, allow_redirects=False, **options) as answer:
            body = await answer.read()
            kind = answer.content_type
            read = json.loads(body) if kind.endswith("json") and body else body.decode()
            return answer.status, read, answer.headers

    async def api(self, method: str, path: str, key: str = "", **options: Any) -> tuple[int, Any, Any]:
        return await self(
            method, path, headers={"authorization": f"Bearer {key or self.key}", **options.pop("headers", {})}, **options
        )

    async def client(self, *grant_types: str, scopes: tuple[str, ...] = ("products:read",), **fields: Any) -> Any:
        draft = {"name": "Aplikasi <Uji>", "scopes": list(scopes), "grant_types": list(grant_types), **fields}
        if "authorization_code" in grant_types:
            draft.setdefault("redirect_uris", [BACK])
        status, made, _ = await self.api("POST", "/api/v1/oauth-clients", json=draft)
        assert status == 201, made
        return made

    async def token(self, client: Any = None, **form: str) -> tuple[int, Any, Any]:
        """The token endpoint, with the client's secret in the form."""
        who = (
            {}
            if client is None
            else {"client_id": client["id"], **({"client_secret": client["secret"]} if client["secret"] else {})}
        )
        return await self("POST", "/oauth/token", data={**who, **form})

    def asked(self, client: Any, **changes: str | None) -> dict[str, str]:
        """The parameters of an authorization request."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()
        plain = {
            "response_type": "code",
            "client_id": client["id"],
            "redirect_uri": BACK,
            "state": 'x"&<>',
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **changes,
        }
        return {name: value for name, value in plain.items() if value is not None}

    async def code(self, client: Any, **changes: str | None) -> str:
        """A code, as a merchant gives it who reads the page and agrees."""
        status, _, headers = await self.decide(self.asked(client, **changes), "allow", self.key)
        assert status == 303
        return back(headers)["code"]

    async def decide(self, parameters: dict[str, str], decision: str, key: str, **options: Any) -> tuple[int, Any, Any]:
        return await self("POST", "/oauth/authorize", data={**parameters, "decision": decision, "api_key": key}, **options)

    async def exchange(self, client: Any, code: str, **changes: str) -> tuple[int, Any, Any]:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": self.verifier, **changes}
        return await self.token(client, **form)

    async def works(self, token: str) -> bool:
        status, _, _ = await self.api("GET", "/api/v1/products", token)
        return status == 200


def back(headers: Any) -> dict[str, str]:
    """What an application finds in the address its merchant comes back to."""
    parts = urlsplit(headers["location"])
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == BACK
    return dict(parse_qsl(parts.query))


@pytest.fixture
async def web(database_url: str, tmp_path: Path) -> AsyncIterator[Web]:
    settings = Settings(database_url=database_url, data_dir=tmp_path / "data", drain_seconds=0.2, database_connections=6)
    async with server.running(settings) as cloud:
        state = tmp_path / "demo.json"
        await demo.create(cloud.database, state, "")
        gateway = Gateway(installed(), lambda: GrpcChannel(f"127.0.0.1:{cloud.port}"))
        uvicorn = Server(configured(gateway, graceful_seconds=2), gateway)
        listener = bind("127.0.0.1", 0)
        task = asyncio.create_task(uvicorn.serve(sockets=[listener]))
        while not uvicorn.started:
            await asyncio.sleep(0.005)
            assert not task.done()
        async with aiohttp.ClientSession() as session:
            port = listener.getsockname()[1]
            yield Web(f"http://127.0.0.1:{port}", json.loads(state.read_text())["api_key"], session, cloud.database)
        uvicorn.should_exit = True
        await task


async def test_the_merchants_own_program_gets_a_token_and_uses_it(web: Web) -> None:
    client = await web.client(scopes=("products:read", "sales:read"))
    assert client["secret"].startswith("gipos_secret_")
    assert client["grant_types"] == ["client_credentials"]
    basic = {"authorization": aiohttp.encode_basic_auth(client["id"], client["secret"])}
    status, token, headers = await web("POST", "/oauth/token", data={"grant_type": "client_credentials"}, headers=basic)
    assert status == 200
    assert headers["cache-control"] == "no-store"
    assert (token["token_type"], token["expires_in"], token["scope"]) == ("Bearer", 3600, "products:read sales:read")
    assert is_key(token["access_token"], "gipos_token_")
    assert "refresh_token" not in token
    status, who, _ = await web.api("GET", "/api/v1/me", token["access_token"])
    assert (status, who["kind"], who["key_id"], who["scopes"]) == (
        200,
        "oauth_client",
        client["id"],
        ["products:read", "sales:read"],
    )
    assert await web.works(token["access_token"])
    status, problem, _ = await web.api("POST", "/api/v1/products", token["access_token"], json={"name": "x"})
    assert (status, problem["reason"]) == (403, "PERMISSION_DENIED")
    # The same by form, and asked for less.
    status, token, _ = await web.token(client, grant_type="client_credentials", scope="sales:read")
    assert (status, token["scope"]) == (200, "sales:read")
    assert not await web.works(token["access_token"])
    status, shown, _ = await web.api("GET", f"/api/v1/oauth-clients/{client['id']}")
    assert (status, shown["secret"]) == (200, "")


async def test_a_client_never_gets_more_than_its_scopes(web: Web) -> None:
    client = await web.client(scopes=("products:read",))
    for scope in ("sales:write", "products:read sales:write", "customers:pii", "x"):
        status, told, _ = await web.token(client, grant_type="client_credentials", scope=scope)
        assert (status, told["error"]) == (400, "invalid_scope"), scope
    status, small, _ = await web.api(
        "POST", "/api/v1/api-keys", json={"name": "kecil", "scopes": ["api_keys:write", "products:read"]}
    )
    assert status == 201
    draft = {"name": "x", "scopes": ["sales:write"]}
    status, problem, _ = await web.api("POST", "/api/v1/oauth-clients", small["key"], json=draft)
    assert (status, problem["reason"]) == (403, "PERMISSION_DENIED")


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"grant_types": ["authorization_code"]}, "redirect_uris"),
    ({"grant_types": ["password"]}, "grant_types[0]"),
    ({"redirect_uris": [BACK]}, "redirect_uris"),
    ({"public": True}, "grant_types"),
    ({"grant_types": ["authorization_code"], "redirect_uris": ["http://app.example/"]}, "redirect_uris[0]"),
    ({"grant_types": ["authorization_code"], "redirect_uris": ["https://app.example/#x"]}, "redirect_uris[0]"),
    ({"grant_types": ["authorization_code"], "redirect_uris": ["https://a@app.example/"]}, "redirect_uris[0]"),
    ({"grant_types": ["authorization_code"], "redirect_uris": ["javascript:alert(1)"]}, "redirect_uris[0]"),
    ({"grant_types": ["authorization_code"], "redirect_uris": ['https://app.example/"x']}, "redirect_uris[0]"),
    ({"grant_types": ["authorization_code"], "redirect_uris": [BACK], "scopes": ["api_keys:write"]}, "scopes"),
]


async def test_an_application_that_cannot_be_is_refused_by_field(web: Web) -> None:
    for fields, named in IMPOSSIBLE:
        draft = {"name": "x", "scopes": ["products:read"], **fields}
        status, problem, _ = await web.api("POST", "/api/v1/oauth-clients", json=draft)
        assert (status, problem["errors"][0]["field"]) == (400, named), fields


async def test_requests_that_are_not_clear_are_refused_in_oauths_own_words(web: Web) -> None:
    client = await web.client()
    good = {"client_id": client["id"], "client_secret": client["secret"], "grant_type": "client_credentials"}
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({"data": {**good, "client_secret": new_key(CLIENT_SECRET_PREFIX)}}, 401, "invalid_client"),
        ({"data": {**good, "client_secret": "wrong"}}, 401, "invalid_client"),
        ({"data": {**good, "grant_type": "password"}}, 400, "unsupported_grant_type"),
        ({"data": {**good, "grant_type": 'a"b\\'}}, 400, "invalid_request"),
        ({"data": {"client_id": client["id"], "client_secret": client["secret"]}}, 400, "unsupported_grant_type"),
        ({"data": {**good, "grant_type": "authorization_code", "code": "x"}}, 400, "unauthorized_client"),
        ({"data": {**good, "scope": "products:read\x00"}}, 400, "invalid_request"),
        ({"data": {**good, "scope": "é"}}, 400, "invalid_request"),
        ({"data": {**good, "x": "y" * 5000}}, 400, "invalid_request"),
        ({"data": b"grant_type=client_credentials&grant_type=password", "headers": form_type()}, 400, "invalid_request"),
        ({"data": b"grant_type=%FF", "headers": form_type()}, 400, "invalid_request"),
        ({"data": "&".join(f"a{n}=1" for n in range(80)), "headers": form_type()}, 400, "invalid_request"),
        ({"json": good}, 400, "invalid_request"),
        (
            {"data": good, "headers": {"authorization": aiohttp.encode_basic_auth(client["id"], client["secret"])}},
            400,
            "invalid_request",
        ),
        ({"data": {"grant_type": "client_credentials"}, "headers": {"authorization": "Basic !!"}}, 400, "invalid_request"),
        ({"data": {"grant_type": "client_credentials"}, "headers": {"authorization": "Basic /////w=="}}, 400, "invalid_request"),
    ]
    for options, expected, error in cases:
        status, told, headers = await web("POST", "/oauth/token", **options)
        assert (status, told["error"]) == (expected, error), (options, told)
        assert ("www-authenticate" in headers) == (status == 401)
    status, told, _ = await web("POST", "/oauth/token", data=b"x" * 100_000, headers=form_type())
    assert (status, told["reason"]) == (413, "PAYLOAD_TOO_LARGE")
    status, _, _ = await web("GET", "/oauth/token")
    assert status == 405


def form_type() -> dict[str, str]:
    return {"content-type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize("public", [False, True])
async def test_an_application_is_let_in_by_a_merchant_and_refreshes(web: Web, public: bool) -> None:
    client = await web.client("authorization_code", scopes=("products:read", "sales:read"), public=public)
    assert bool(client["secret"]) is not public
    status, page, headers = await web("GET", f"/oauth/authorize?{urlencode(web.asked(client, scope='products:read'))}")
    assert status == 200
    assert "Aplikasi &lt;Uji&gt;" in page
    assert "<Uji>" not in page
    assert '<html lang="id">' in page
    assert "melihat produk" in page
    assert "melihat penjualan" not in page
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "form-action 'self' https://app.example" in policy
    assert "frame-ancestors 'none'" in policy
    assert not re.search(r"<script|https?://(?!app\.example)", page)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    assert base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode() in policy
    hidden = {
        html.unescape(name): html.unescape(value) for name, value in re.findall(r'type="hidden" name="(.*?)" value="(.*?)"', page)
    }
    assert hidden == web.asked(client, scope="products:read")
    status, _, headers = await web.decide(hidden, "allow", web.key)
    said = back(headers)
    assert (status, said["state"], said["iss"]) == (303, 'x"&<>', web.url)
    status, tokens, _ = await web.exchange(client, said["code"])
    assert (status, tokens["scope"]) == (200, "products:read")
    assert await web.works(tokens["access_token"])
    status, fresh, _ = await web.token(client, grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    assert status == 200
    assert fresh["refresh_token"] != tokens["refresh_token"]
    assert await web.works(fresh["access_token"])
    assert await web.works(tokens["access_token"]), "until its hour is over"
    status, told, _ = await web.token(
        client, grant_type="refresh_token", refresh_token=fresh["refresh_token"], scope="sales:read"
    )
    assert (status, told["error"]) == (400, "invalid_scope")


async def test_a_refresh_token_used_twice_ends_the_whole_family(web: Web) -> None:
    client = await web.client("authorization_code")
    _, tokens, _ = await web.exchange(client, await web.code(client))
    _, fresh, _ = await web.token(client, grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    assert await web.works(fresh["access_token"])
    status, told, _ = await web.token(client, grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    assert (status, told["error"]) == (400, "invalid_grant")
    assert not await web.works(fresh["access_token"])
    assert not await web.works(tokens["access_token"])
    status, told, _ = await web.token(client, grant_type="refresh_token", refresh_token=fresh["refresh_token"])
    assert (status, told["error"]) == (400, "invalid_grant")


async def test_a_code_works_once_and_for_whom_it_was_given_only(web: Web) -> None:
    client, other = await web.client("authorization_code"), await web.client("authorization_code")
    code = await web.code(client)
    attempts = [
        web.exchange(other, code),
        web.exchange(client, code, code_verifier=secrets.token_urlsafe(48)),
        web.exchange(client, code, redirect_uri="https://app.example/other"),
        web.exchange(client, new_key("gipos_code_")),
        web.exchange(client, "code"),
    ]
    for attempt in attempts:
        status, told, _ = await attempt
        assert (status, told["error"]) == (400, "invalid_grant")
    status, tokens, _ = await web.exchange(client, code)
    assert status == 200, "those who could not prove themselves took nothing away"
    status, told, _ = await web.exchange(client, code)
    assert (status, told["error"]) == (400, "invalid_grant")
    assert not await web.works(tokens["access_token"]), "used twice: one of the two is a thief"
    # Two at the same moment: one wins, and then loses what it won.
    code = await web.code(client)
    answers = await asyncio.gather(*(web.exchange(client, code) for _ in range(4)))
    assert sorted(status for status, _, _ in answers) == [200, 400, 400, 400]
    winner = next(told for status, told, _ in answers if status == 200)
    assert not await web.works(winner["access_token"])
    late = await web.code(client)
    async with web.database.across_tenants() as connection:
        from sqlalchemy import text

        await connection.execute(text("UPDATE oauth_codes SET expires_at = now() - interval '1 second' WHERE used_at IS NULL"))
    status, told, _ = await web.exchange(client, late)
    assert (status, told["error"]) == (400, "invalid_grant")


async def test_proof_by_pkce_is_asked_of_every_client(web: Web) -> None:
    for public in (False, True):
        client = await web.client("authorization_code", public=public)
        for changes in (
            {"code_challenge": None},
            {"code_challenge_method": "plain"},
            {"code_challenge_method": None},
            {"code_challenge": "x"},
        ):
            status, _, headers = await web("GET", f"/oauth/authorize?{urlencode(web.asked(client, **changes))}")
            assert (status, back(headers)["error"]) == (302, "invalid_request")
        code = await web.code(client)
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK}
        status, told, _ = await web.token(client, **form)
        assert (status, told["error"]) == (400, "invalid_request")


async def test_what_cannot_be_trusted_is_not_redirected_to(web: Web) -> None:
    client = await web.client("authorization_code")
    plain = await web.client()
    for changes in (
        {"redirect_uri": "https://evil.example/back"},
        {"redirect_uri": BACK + "/"},
        {"redirect_uri": None},
        {"client_id": "app_x"},
        {"client_id": None},
        {"client_id": plain["id"]},
        {"redirect_uri": 'https://app.example/"><script>'},
        {"state": "x\r\nSet-Cookie: a=b"},
    ):
        parameters = web.asked(client, **changes)
        status, page, headers = await web("GET", f"/oauth/authorize?{urlencode(parameters)}")
        assert (status, "location" in headers) == (400, False), changes
        assert "<script" not in page
        assert "form-action 'self'" in headers["content-security-policy"]
        status, _, headers = await web.decide(parameters, "deny", "")
        assert (status, "location" in headers) == (400, False)
    status, _, headers = await web("GET", f"/oauth/authorize?{urlencode(web.asked(client, scope='sales:write'))}")
    assert (status, back(headers)["error"], back(headers)["state"]) == (302, "invalid_scope", 'x"&<>')
    status, _, headers = await web("GET", f"/oauth/authorize?{urlencode(web.asked(client, response_type='token'))}")
    assert (status, back(headers)["error"]) == (302, "unsupported_response_type")
    doubled = urlencode(web.asked(client)) + "&scope=a&scope=b"
    status, _, _ = await web("GET", f"/oauth/authorize?{doubled}")
    assert status == 400


async def test_the_merchant_may_refuse_or_must_prove_to_be_one(web: Web) -> None:
    client = await web.client("authorization_code", scopes=("products:read", "sales:read"))
    asked = web.asked(client)
    status, _, headers = await web.decide(asked, "deny", "")
    assert (status, back(headers)["error"], back(headers)["state"]) == (303, "access_denied", 'x"&<>')
    status, page, _ = await web.decide(asked, "allow", "")
    assert (status, 'role="alert"' in page) == (400, True)
    status, page, _ = await web.decide(asked, "allow", new_key("gipos_test_"))
    assert (status, 'role="alert"' in page, 'aria-invalid="true"' in page) == (401, True, True)
    _, small, _ = await web.api("POST", "/api/v1/api-keys", json={"name": "x", "scopes": ["api_keys:write", "products:read"]})
    status, page, _ = await web.decide(asked, "allow", small["key"])
    assert (status, "sales:read" in page) == (403, True)
    _, reader, _ = await web.api("POST", "/api/v1/api-keys", json={"name": "x", "scopes": list(set(SCOPES) - {"api_keys:write"})})
    status, page, _ = await web.decide(asked, "allow", reader["key"])
    assert (status, "api_keys:write" in page) == (403, True)
    status, _, headers = await web.decide(asked, "allow", web.key, headers={"sec-fetch-site": "cross-site"})
    assert (status, "location" in headers) == (403, False)
    status, page, _ = await web("GET", f"/oauth/authorize?{urlencode(asked)}", headers={"accept-language": "en-GB,en;q=0.9"})
    assert (status, '<html lang="en">' in page, "wants to connect" in page) == (200, True, True)
    # An application cannot let itself, or another one, in.
    own = await web.client(scopes=("api_keys:write", "products:read", "sales:read"))
    _, token, _ = await web.token(own, grant_type="client_credentials")
    status, page, _ = await web.decide(asked, "allow", token["access_token"])
    assert status == 403


async def test_tokens_are_revoked_and_introspected_by_their_client(web: Web) -> None:
    client, other = await web.client("authorization_code", "client_credentials"), await web.client()

    async def at(path: str, who: Any, token: str, **more: str) -> tuple[int, Any]:
        form = {"client_id": who["id"], "client_secret": who["secret"], "token": token, **more}
        status, told, _ = await web("POST", path, data=form)
        return status, told

    _, tokens, _ = await web.exchange(client, await web.code(client))
    status, told = await at("/oauth/introspect", client, tokens["access_token"])
    assert (status, told["active"], told["client_id"], told["scope"]) == (200, True, client["id"], "products:read")
    assert 3500 < told["exp"] - told["iat"] <= 3600
    assert await at("/oauth/introspect", other, tokens["access_token"]) == (200, {"active": False})
    assert await at("/oauth/introspect", client, "x") == (200, {"active": False})
    status, told = await at("/oauth/revoke", other, tokens["access_token"])
    assert (status, told["error"]) == (400, "invalid_grant")
    assert await web.works(tokens["access_token"])
    assert await at("/oauth/revoke", client, tokens["access_token"], token_type_hint="access_token") == (200, {})
    assert not await web.works(tokens["access_token"])
    assert await at("/oauth/introspect", client, tokens["access_token"]) == (200, {"active": False})
    _, fresh, _ = await web.token(client, grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    assert await web.works(fresh["access_token"])
    assert await at("/oauth/revoke", client, fresh["refresh_token"]) == (200, {})
    assert not await web.works(fresh["access_token"]), "a refresh token takes its family with it"
    assert await at("/oauth/revoke", client, "unknown") == (200, {})
    # A client that is removed takes everything with it.
    _, token, _ = await web.token(client, grant_type="client_credentials")
    assert await web.works(token["access_token"])
    status, _, _ = await web.api("DELETE", f"/api/v1/oauth-clients/{client['id']}")
    assert status == 204
    assert not await web.works(token["access_token"])
    status, told, _ = await web.token(client, grant_type="client_credentials")
    assert (status, told["error"]) == (400, "invalid_client")


async def test_programs_find_everything_by_the_metadata(web: Web) -> None:
    status, document, headers = await web("GET", "/.well-known/oauth-authorization-server")
    assert status == 200
    assert headers["access-control-allow-origin"] == "*"
    # RFC 8414 wants https, which a demo on loopback has not.
    AuthorizationServerMetadata(json.loads(json.dumps(document).replace("http://", "https://"))).validate()
    assert document["issuer"] == web.url
    assert document["code_challenge_methods_supported"] == ["S256"]
    for name in ("token", "revocation", "introspection"):
        status, _, _ = await web("POST", urlsplit(document[f"{name}_endpoint"]).path, data={})
        assert status in {400, 401}
    status, _, _ = await web("GET", urlsplit(document["authorization_endpoint"]).path)
    assert status == 400


async def test_guessing_client_secrets_is_slowed_down(web: Web) -> None:
    client = await web.client()
    wrong = {**client, "secret": new_key(CLIENT_SECRET_PREFIX)}
    status, problem, headers = await web.token(wrong, grant_type="client_credentials")
    assert status == 401
    while status != 429:  # each second gives an attempt back, perhaps just between the two
        while (await web.token(wrong, grant_type="client_credentials"))[0] != 429:
            pass
        status, problem, headers = await web.token(client, grant_type="client_credentials")
    assert problem["reason"] == "RATE_LIMITED"
    assert int(headers["retry-after"]) >= 1


async def test_secrets_of_applications_are_stored_as_fingerprints_only(web: Web) -> None:
    from sqlalchemy import text

    client = await web.client("authorization_code")
    _, tokens, _ = await web.exchange(client, await web.code(client))
    async with web.database.across_tenants() as connection:
        for table in ("oauth_clients", "oauth_codes", "oauth_tokens", "oauth_grants"):
            rows = str((await connection.execute(text(f"SELECT t::text FROM {table} t"))).all())
            for secret in (client["secret"], tokens["access_token"], tokens["refresh_token"]):
                assert secret.rpartition("_")[2] not in rows


async def test_web_pages_call_with_keys_that_name_them_and_our_own_pages_with_any(web: Web) -> None:
    origin = "https://toko.example"
    draft = {"name": "Halaman", "scopes": ["products:read"], "allowed_origins": [origin]}
    status, made, _ = await web.api("POST", "/api/v1/api-keys", json=draft, headers={"origin": web.url})
    assert status == 201
    status, _, headers = await web.api("GET", "/api/v1/products", made["key"], headers={"origin": origin})
    assert (status, headers["access-control-allow-origin"]) == (200, origin)
    status, problem, _ = await web.api("GET", "/api/v1/products", made["key"], headers={"origin": "https://evil.example"})
    assert (status, problem["reason"]) == (403, "ORIGIN_NOT_ALLOWED")
    status, changed, _ = await web.api("PATCH", f"/api/v1/api-keys/{made['id']}", json={"allowed_addresses": ["203.0.113.7"]})
    assert (status, changed["allowed_origins"], changed["name"]) == (200, [origin], "Halaman")
    status, problem, _ = await web.api("GET", "/api/v1/products", made["key"])
    assert (status, problem["reason"]) == (403, "IP_NOT_ALLOWED")
    status, new, _ = await web.api("POST", f"/api/v1/api-keys/{made['id']}:rotate", json={"overlap": "0s"})
    assert (status, new["predecessor_id"]) == (200, made["id"])
    status, problem, headers = await web.api("GET", "/api/v1/products", made["key"])
    assert (status, headers["www-authenticate"].startswith('Bearer realm="gipos", error="invalid_token"')) == (401, True)
    status, ended, _ = await web.api("DELETE", f"/api/v1/api-keys/{new['id']}")
    assert (status, ended["status"]) == (200, "revoked")
    status, me, _ = await web.api("GET", "/api/v1/me")
    status, problem, _ = await web.api("DELETE", f"/api/v1/api-keys/{me['key_id']}")
    assert (status, problem["reason"]) == (409, "LOCK_OUT")
