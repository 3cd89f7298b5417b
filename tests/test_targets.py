"""Which servers of others may be called: none of our own networks, in whatever form it is named."""

import socket
from typing import Any

import pytest

from service.outbox.targets import TargetRefused, Targets

pytestmark = pytest.mark.once

ATTEMPTS = [
    "127.0.0.1",
    "127.9.8.7",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.0.8",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "192.88.99.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:a9fe:a9fe",
    "::ffff:0:10.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", ATTEMPTS)
def test_no_address_of_our_own_networks_is_open(address: str) -> None:
    assert not Targets().is_open(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1"]
)
def test_addresses_of_the_internet_are_open(address: str) -> None:
    assert Targets().is_open(address)


def test_ones_own_networks_and_hosts_are_open_where_they_are_named() -> None:
    targets = Targets(["10.0.0.0/8", "fd00::/8", "hooks.internal"])
    assert targets.is_open("10.1.2.3")
    assert targets.is_open("fd00::1")
    assert not targets.is_open("127.0.0.1")
    assert targets.read("http://hooks.internal/x").secure is False
    assert targets.read("http://10.1.2.3:8080/x").port == 8080


@pytest.mark.parametrize("wrong", ["10.0.0.0/33", "10.0.0.1/8", ""])
def test_what_is_no_network_and_no_host_stops_the_start(wrong: str) -> None:
    with pytest.raises(ValueError, match="WEBHOOK_ALLOW"):
        Targets([wrong])


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/hook",
        "//example.com/hook",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "http://example.com/",
        "https://",
        "https:///hook",
        "https://user@example.com/",
        "https://user:password@example.com/",
        "https://:@example.com/",
        "https://example.com@127.0.0.1/",
        "https://example.com/#part",
        "https://example.com:99999/",
        "https://example.com:0/",
        "https://example.com:x/",
        "https://[::1/",
        "https://[fe80::1%25eth0]/",
        "https://exa mple.com/",
        "https://example.com/\r\nHost: other",
        "https://example.com\\@127.0.0.1/",
        "https://example.com/" + "x" * 2000,
        "https://" + "x" * 64 + ".example/",
        "https://a..b/",
    ],
)
def test_what_is_no_plain_url_is_refused(url: str) -> None:
    with pytest.raises(TargetRefused):
        Targets().read(url)


def test_a_url_is_taken_apart() -> None:
    target = Targets().read("https://EXAMPLE.com:8443/hook?a=b")
    assert (target.secure, target.host, target.port, target.path) == (True, "example.com", 8443, "/hook?a=b")
    assert target.authority == "example.com:8443"
    assert Targets().read("https://example.com").path == "/"
    assert Targets().read("https://[2606:4700::1]/").authority == "[2606:4700::1]"
    assert Targets().read("https://bücher.example/").host == "xn--bcher-kva.example"


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "[::1]", "[::ffff:7f00:1]", "localhost"],
)
def test_no_form_of_this_machine_is_called(host: str) -> None:
    targets = Targets()
    with pytest.raises((TargetRefused, OSError)):
        targets.addresses(targets.read(f"https://{host}/"))


def answering(*addresses: str) -> Any:
    """A resolver that knows every name by these addresses."""

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET6 if ":" in one else socket.AF_INET, 1, 6, "", (one, port)) for one in addresses]

    return look_up


def test_a_name_that_leads_to_our_own_networks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = Targets()
    target = targets.read("https://example.com/")
    for addresses in (["10.0.0.1"], ["1.1.1.1", "10.0.0.1"], ["1.1.1.1", "::ffff:127.0.0.1"]):
        monkeypatch.setattr(socket, "getaddrinfo", answering(*addresses))
        with pytest.raises(TargetRefused, match="not one of the open internet"):
            targets.addresses(target)
    monkeypatch.setattr(socket, "getaddrinfo", answering("1.1.1.1", "1.1.1.1", "2606:4700::1"))
    assert targets.addresses(target) == ["1.1.1.1", "2606:4700::1"]


def test_a_host_that_is_named_may_be_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", answering("10.0.0.1"))
    targets = Targets(["hooks.internal"])
    assert targets.addresses(targets.read("https://HOOKS.internal/")) == ["10.0.0.1"]
