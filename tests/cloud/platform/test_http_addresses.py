"""Which addresses a stranger may make us call. A hole here is a hole into the data centre."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.platform import addresses

PUBLIC = [
    "93.184.216.34",
    "8.8.8.8",
    "103.28.12.1",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700:4700::1111",
    "2404:6800:4003:c00::64",
]

FORBIDDEN = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1",
    "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.168.1.1",
    "192.175.48.1", "198.18.0.1",
    "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1", "::5efe:127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::8.8.8.8", "64:ff9b:1::7f00:1", "100::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2620:4f:8000::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254",
    "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_called(address: str) -> None:
    assert addresses.is_allowed(address, private=False)
    assert addresses.is_allowed(address, private=True)


@pytest.mark.parametrize("address", FORBIDDEN)
def test_everything_that_is_not_the_public_internet_is_forbidden(address: str) -> None:
    assert not addresses.is_allowed(address, private=False)


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "fe80::1", "::ffff:127.0.0.1", "0.0.0.0", "224.0.0.1", "fd00::1%lo", "2002:7f00:1::"]
)
def test_development_opens_private_networks_and_nothing_else(address: str) -> None:
    allowed = addresses.is_allowed(address, private=True)
    assert allowed == (address == "fd00::1%lo")


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "192.168.0.9", "172.20.0.1", "::1", "fd12::1"])
def test_development_may_call_its_own_network(address: str) -> None:
    assert addresses.is_allowed(address, private=True)


@pytest.mark.parametrize(
    "text", ["", "localhost", "2130706433", "0x7f000001", "127.1", "0177.0.0.1", "1.2.3.4.5", "\uff18.8.8.8"]
)
def test_what_is_no_plain_address_is_forbidden(text: str) -> None:
    assert not addresses.is_allowed(text, private=False)


@given(st.ip_addresses(v=6))
def test_no_ipv6_address_outside_global_unicast_is_ever_allowed(address: ipaddress.IPv6Address) -> None:
    if addresses.is_allowed(str(address), private=False):
        assert int(address) >> 125 == 1
        assert not address.is_private
        assert address.sixtofour is None
        assert address.teredo is None
        assert address.ipv4_mapped is None


@given(st.ip_addresses(v=4))
def test_no_ipv4_address_the_standard_library_knows_as_special_is_allowed(address: ipaddress.IPv4Address) -> None:
    if addresses.is_allowed(str(address), private=False):
        assert address.is_global
        assert not address.is_multicast


GOOD = [
    "https://example.com", "https://example.com/hooks/1?a=b", "https://hooks.example.co.id:8443/x", "https://EXAMPLE.com./x",
    "https://bücher.example/", "https://xn--bcher-kva.example/", "https://a-b.example:443/",
]  # fmt: skip

BAD = [
    ("", "REQUIRED"),
    ("example.com/hook", "SCHEME_NOT_ALLOWED"),
    ("http://example.com/", "SCHEME_NOT_ALLOWED"),
    ("ftp://example.com/", "SCHEME_NOT_ALLOWED"),
    ("file:///etc/passwd", "SCHEME_NOT_ALLOWED"),
    ("gopher://example.com:443/", "SCHEME_NOT_ALLOWED"),
    ("https://", "INVALID"),
    ("https:///x", "INVALID"),
    ("https://exa mple.com/", "INVALID"),
    ("https://example.com/\nHost: x", "INVALID"),
    ("https://example.com\\@evil.example/", "INVALID"),
    ("https://example.com/\x00", "INVALID"),
    ("https://user:pw@example.com/", "CREDENTIALS_NOT_ALLOWED"),
    ("https://user@127.0.0.1/", "CREDENTIALS_NOT_ALLOWED"),
    ("https://example.com/#secret", "FRAGMENT_NOT_ALLOWED"),
    ("https://example.com:22/", "PORT_NOT_ALLOWED"),
    ("https://example.com:80/", "PORT_NOT_ALLOWED"),
    ("https://example.com:0/", "PORT_NOT_ALLOWED"),
    ("https://example.com:99999/", "INVALID"),
    ("https://a..example.com/", "INVALID"),
    ("https://-a.example.com/", "INVALID"),
    ("https://example.com../", "INVALID"),
    (f"https://{'a' * 64}.example/", "INVALID"),
    (f"https://example.com/{'a' * 2048}", "TOO_LONG"),
    ("https://127.0.0.1/", "TARGET_FORBIDDEN"),
    ("https://8.8.8.8/", "TARGET_FORBIDDEN"),
    ("https://[::1]/", "TARGET_FORBIDDEN"),
    ("https://[::ffff:127.0.0.1]/", "TARGET_FORBIDDEN"),
    ("https://[fe80::1%25eth0]/", "TARGET_FORBIDDEN"),
    ("https://①②⑦.⓪.⓪.①/", "TARGET_FORBIDDEN"),
    ("https://127。0。0。1/", "TARGET_FORBIDDEN"),
    ("https://127.0.0.1./", "TARGET_FORBIDDEN"),
    ("https://2130706433/", "INVALID"),
    ("https://017700000001/", "INVALID"),
    ("https://0x7f000001/", "INVALID"),
    ("https://0x7f.1/", "INVALID"),
    ("https://0177.0.0.1/", "INVALID"),
    ("https://127.1/", "INVALID"),
    ("https://0/", "INVALID"),
    ("https://example.com.0x7f000001/", "INVALID"),
    ("https://localhost/", "TARGET_FORBIDDEN"),
    ("https://LOCALHOST./", "TARGET_FORBIDDEN"),
    ("https://foo.localhost/", "TARGET_FORBIDDEN"),
    ("https://printer.local/", "TARGET_FORBIDDEN"),
    ("https://metadata.google.internal/", "TARGET_FORBIDDEN"),
    ("https://intranet/", "TARGET_FORBIDDEN"),
]


@pytest.mark.parametrize("url", GOOD)
def test_public_https_addresses_are_accepted(url: str) -> None:
    assert addresses.problems(url, private=False) == []
    assert addresses.target(url, private=False).scheme == "https"


@pytest.mark.parametrize(("url", "reason"), BAD)
def test_each_rule_on_addresses_is_told(url: str, reason: str) -> None:
    found = addresses.problems(url, private=False)
    assert reason in [each for each, _ in found]
    assert all(message for _, message in found)
    with pytest.raises(addresses.ForbiddenTarget):
        addresses.target(url, private=False)


def test_every_violation_of_an_address_is_told_at_once() -> None:
    found = addresses.problems("http://user@localhost:22/#x", private=False)
    assert [reason for reason, _ in found] == [
        "SCHEME_NOT_ALLOWED", "CREDENTIALS_NOT_ALLOWED", "FRAGMENT_NOT_ALLOWED", "PORT_NOT_ALLOWED", "TARGET_FORBIDDEN",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9000/hook", "http://localhost:1/", "http://[::1]:8080/", "http://receiver:80/"]
)
def test_development_may_use_http_and_its_own_network(url: str) -> None:
    assert addresses.problems(url, private=True) == []


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/latest", "http://[::ffff:127.0.0.1]/", "http://2130706433/", "ftp://localhost/"]
)
def test_even_development_may_not_use_everything(url: str) -> None:
    assert addresses.problems(url, private=True)


def test_the_target_has_one_form() -> None:
    assert (
        str(addresses.target("https://Bücher.Example./Pfad?q=ü", private=False)) == "https://xn--bcher-kva.example/Pfad?q=%C3%BC"
    )


def test_the_refusal_does_not_say_where_a_name_leads() -> None:
    error = addresses.ForbiddenTarget("evil.example leads to 10.0.0.7")
    assert "10.0.0.7" not in str(error)
    assert "10.0.0.7" in error.detail
