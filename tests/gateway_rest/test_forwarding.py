"""Whose word counts about who is calling, and HTTPS by file or by proxy."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway_rest.__main__ import main
from gateway_rest.errors import Refusal
from gateway_rest.forwarding import Proxies

OURS = ("10.0.0.0/8", "192.0.2.1", "fd00::/8")
STRICT = "max-age=31536000"

CHAINS: list[tuple[str, list[tuple[str, str]], str]] = [
    ("203.0.113.9", [], "203.0.113.9"),
    ("203.0.113.9", [("x-forwarded-for", "198.51.100.1")], "203.0.113.9"),
    ("10.0.0.1", [("x-forwarded-for", "198.51.100.1")], "198.51.100.1"),
    ("10.0.0.1", [("x-forwarded-for", "1.1.1.1, 198.51.100.1")], "198.51.100.1"),
    ("10.0.0.1", [("x-forwarded-for", "1.1.1.1, 198.51.100.1, 10.0.0.2")], "198.51.100.1"),
    ("10.0.0.1", [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "198.51.100.1")], "198.51.100.1"),
    ("10.0.0.1", [("x-forwarded-for", "10.0.0.3, 10.0.0.2")], "10.0.0.3"),
    ("10.0.0.1", [("x-forwarded-for", "nonsense")], "10.0.0.1"),
    ("10.0.0.1", [("x-forwarded-for", "nonsense, 10.0.0.2")], "10.0.0.2"),
    ("10.0.0.1", [("x-forwarded-for", "")], "10.0.0.1"),
    ("10.0.0.1", [("x-forwarded-for", "198.51.100.1:4711")], "198.51.100.1"),
    ("10.0.0.1", [("x-forwarded-for", "[2001:db8::1]:4711")], "2001:db8::1"),
    ("10.0.0.1", [("x-forwarded-for", "2001:db8::1")], "2001:db8::1"),
    ("10.0.0.1", [("x-forwarded-for", "::ffff:198.51.100.1")], "198.51.100.1"),
    ("::ffff:10.0.0.1", [("x-forwarded-for", "198.51.100.1")], "198.51.100.1"),
    ("fd00::1", [("x-forwarded-for", "198.51.100.1")], "198.51.100.1"),
    ("192.0.2.1", [("forwarded", 'for=198.51.100.1;proto=https, for="[fd00::2]:80"')], "198.51.100.1"),
    ("192.0.2.1", [("forwarded", 'For="[2001:db8::1]:4711"')], "2001:db8::1"),
    ("192.0.2.1", [("forwarded", "for=_hidden")], "192.0.2.1"),
    ("192.0.2.1", [("forwarded", "for=198.51.100.1"), ("x-forwarded-for", "198.51.100.1")], "198.51.100.1"),
    ("192.0.2.2", [("forwarded", "for=198.51.100.1")], "192.0.2.2"),
]


def scope_of(peer: str, headers: list[tuple[str, str]], kind: str = "http") -> dict[str, Any]:
    raw = [(name.encode(), value.encode()) for name, value in headers]
    return {"type": kind, "client": (peer, 5000), "headers": raw, "scheme": "http" if kind == "http" else "ws"}


@pytest.mark.parametrize(("peer", "headers", "caller"), CHAINS)
def test_the_rightmost_address_that_is_no_proxy_of_ours_is_the_caller(
    peer: str, headers: list[tuple[str, str]], caller: str
) -> None:
    scope = scope_of(peer, headers)
    Proxies(OURS).settle(scope)
    assert scope["client"][0] == caller


def test_headers_that_contradict_each_other_are_refused() -> None:
    scope = scope_of("10.0.0.1", [("x-forwarded-for", "198.51.100.1"), ("forwarded", "for=10.9.9.9")])
    with pytest.raises(Refusal) as caught:
        Proxies(OURS).settle(scope)
    assert caught.value.problem.reason == "FORWARDED_AMBIGUOUS"


@pytest.mark.parametrize(
    ("peer", "headers", "scheme"),
    [
        ("10.0.0.1", [("x-forwarded-proto", "https")], "https"),
        ("10.0.0.1", [("x-forwarded-proto", "http, https")], "https"),
        ("10.0.0.1", [("forwarded", "for=1.1.1.1;proto=https")], "https"),
        ("10.0.0.1", [("x-forwarded-proto", "gopher")], "http"),
        ("203.0.113.9", [("x-forwarded-proto", "https")], "http"),
    ],
)
def test_the_scheme_is_believed_from_the_same_proxies(peer: str, headers: list[tuple[str, str]], scheme: str) -> None:
    scope = scope_of(peer, headers)
    Proxies(OURS).settle(scope)
    assert scope["scheme"] == scheme


def test_a_websocket_stays_a_websocket() -> None:
    scope = scope_of("10.0.0.1", [("x-forwarded-proto", "https")], "websocket")
    Proxies(OURS).settle(scope)
    assert scope["scheme"] == "wss"


def test_a_caller_without_an_address_is_left_alone() -> None:
    scope = {**scope_of("10.0.0.1", []), "client": None}
    Proxies(OURS).settle(scope)
    assert scope["client"] is None


async def test_nobody_is_believed_unless_configured(cloud: Any, rest: Any) -> None:
    claims = {"X-Forwarded-For": "10.9.9.9", "Forwarded": "for=10.8.8.8", "X-Forwarded-Proto": "https", "X-Real-IP": "10.7.7.7"}
    async with rest("GET", "/api/v1/me", headers=claims) as answer:
        assert answer.status == 200
        assert "Strict-Transport-Security" not in answer.headers
    assert cloud.metadata[0]["x-forwarded-for"] == "127.0.0.1"
    assert not {"forwarded", "x-forwarded-proto", "x-real-ip"} & cloud.metadata[0].keys()


@pytest.fixture
async def proxied(cloud: Any, serve: Any) -> AsyncIterator[Any]:
    """A gateway that believes proxies on this machine."""
    async for running in serve(cloud.contract, f"127.0.0.1:{cloud.port}", proxies=Proxies(["127.0.0.0/8"])):
        yield running


async def test_a_trusted_proxy_names_the_caller_and_tls(cloud: Any, proxied: Any) -> None:
    claims = {"X-Forwarded-For": "10.9.9.9, 198.51.100.7", "X-Forwarded-Proto": "https"}
    for path in ("/api/v1/me", "/healthz", "/nope"):
        async with proxied("GET", path, headers=claims) as answer:
            assert answer.headers["Strict-Transport-Security"] == STRICT
    assert cloud.metadata[0]["x-forwarded-for"] == "198.51.100.7"
    async with proxied("GET", "/api/v1/me", headers={"X-Forwarded-For": "198.51.100.7"}) as answer:
        assert "Strict-Transport-Security" not in answer.headers


async def test_a_trusted_proxy_that_contradicts_itself_is_answered_in_the_usual_form(cloud: Any, proxied: Any) -> None:
    claims = {"X-Forwarded-For": "198.51.100.7", "Forwarded": "for=198.51.100.8"}
    async with proxied("GET", "/api/v1/me", headers=claims) as answer:
        assert answer.status == 400
        assert (await answer.json())["reason"] == "FORWARDED_AMBIGUOUS"
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await proxied.session.ws_connect(proxied.url + "/api/v1/events:watch", headers=claims)
    assert caught.value.status == 400
    assert cloud.requests == []


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Files with a certificate for localhost and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "cert.pem", folder / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    encoding, shape = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    files[1].write_bytes(key.private_bytes(encoding, shape, serialization.NoEncryption()))
    return str(files[0]), str(files[1])


async def test_the_gateway_speaks_tls_itself(cloud: Any, serve: Any, certificate: tuple[str, str]) -> None:
    options = {"tls_cert": certificate[0], "tls_key": certificate[1]}
    async for running in serve(cloud.contract, f"127.0.0.1:{cloud.port}", server_options=options):
        url = running.url.replace("127.0.0.1", "localhost")
        trusting = ssl.create_default_context(cafile=certificate[0])
        for path in ("/api/v1/me", "/openapi.json"):
            async with running.session.get(url + path, ssl=trusting) as answer:
                assert answer.status == 200
                assert answer.headers["Strict-Transport-Security"] == STRICT
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await running.session.get(f"{url}/api/v1/me")
        reader, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rpartition(":")[2]))
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert not (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()


def test_tls_needs_both_files_and_they_must_fit(
    certificate: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GIPOS_GATEWAY_TLS_CERT", "GIPOS_GATEWAY_TLS_KEY", "GIPOS_GATEWAY_TRUSTED_PROXIES"):
        monkeypatch.delenv(name, raising=False)
    wrong = [
        (["--tls-cert", certificate[0]], "certificate and its key"),
        (["--tls-cert", str(tmp_path / "no.pem"), "--tls-key", certificate[1]], "Cannot read"),
        (["--tls-cert", certificate[1], "--tls-key", certificate[1]], "cannot be used together"),
        (["--trusted-proxies", "10.0.0.0/8,nowhere"], "nowhere"),
    ]
    for arguments, words in wrong:
        assert main(arguments) == 1
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1
        assert words in said[0]
