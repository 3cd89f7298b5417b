"""Targets: which servers may be called, whatever a URL, a name or an answer of DNS says.

Who names a URL makes this service send requests from where it stands. So an address is looked up once, looked at,
and it is this address that is connected to (OWASP, Server-Side Request Forgery Prevention).
"""

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import urlsplit

IpAddress = IPv4Address | IPv6Address
USUAL_PORTS = {"https": 443, "http": 80}
LONGEST_URL = 2000
"""Most characters of a URL."""

GLOBAL_UNICAST = IPv6Network("2000::/3")
"""All that IANA has given away of IPv6 for hosts that are reached from everywhere (RFC 4291, section 2.4)."""
CLOSED_NETWORKS: list[IPv4Network | IPv6Network] = [
    *map(IPv4Network, ("192.0.0.0/24", "192.88.99.0/24", "224.0.0.0/3")),
    *map(IPv6Network, ("2001::/23", "2002::/16", "3fff::/20")),
]
"""What Python calls global, or has called so, and what is none: relays and tunnels to any address, and examples."""
TRANSLATED = [*map(IPv6Network, ("::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96"))]
"""IPv6 addresses that stand for one of IPv4: mapped (RFC 4291), translated (RFC 2765) and by NAT64 (RFC 6052)."""


class TargetRefused(Exception):
    """A server may not be called, or a URL names none."""


@dataclass(frozen=True, slots=True)
class Callee:
    """A URL taken apart: where a request goes, and how it names it."""

    secure: bool
    host: str
    """In ASCII, without brackets."""
    port: int
    path: str
    """With the query."""

    @property
    def authority(self) -> str:
        """The `Host` of a request (RFC 9110, section 7.2)."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == USUAL_PORTS["https" if self.secure else "http"] else f"{name}:{self.port}"


class Targets:
    """Tells which servers may be called: those of the whole internet, and those that are named as one's own."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        """Take names of hosts and networks as `10.0.0.0/8`. Raises `ValueError` for what is neither."""
        self.hosts: set[str] = set()
        self.networks: list[IPv4Network | IPv6Network] = []
        for one in allowed:
            try:
                self.networks.append(ipaddress.ip_network(one))
            except ValueError:
                if "/" in one or not one:
                    raise ValueError(f"WEBHOOK_ALLOW: {one!r} is no name of a host and no network") from None
                self.hosts.add(one.lower())

    def read(self, url: str) -> Callee:
        """Return where a URL leads. Raises `TargetRefused` for what is none that may be called.

        Over the internet it is HTTPS; to one's own servers HTTP will do.
        """
        if len(url) > LONGEST_URL or not url.isprintable() or " " in url or "\\" in url:
            raise TargetRefused(f"a URL of at most {LONGEST_URL:,} printable characters, without spaces")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise TargetRefused("a URL such as https://example.com/hook") from None
        if parts.scheme not in USUAL_PORTS or not host or "%" in host or port == 0:
            raise TargetRefused("a URL such as https://example.com/hook")
        if "@" in parts.netloc:
            raise TargetRefused("a URL without a name and a password: what calls is known by its signature")
        if parts.fragment:
            raise TargetRefused("a URL without a fragment: nobody would get it")
        path = parts.path or "/"
        target = Callee(
            parts.scheme == "https",
            in_ascii(host),
            USUAL_PORTS[parts.scheme] if port is None else port,
            f"{path}?{parts.query}" if parts.query else path,
        )
        if not target.secure and not self.may_be_plain(target.host):
            raise TargetRefused("https, unless WEBHOOK_ALLOW names the server")
        return target

    def may_be_plain(self, host: str) -> bool:
        """Tell whether HTTP will do: the host is named, or is an address of a network that is."""
        if host in self.hosts:
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self.networks)

    def addresses(self, target: Callee) -> list[str]:
        """Return the addresses that a request may be sent to, looked up now.

        Raises `TargetRefused` where one of them is not open to be called: a name that has both is one that tries, and
        `OSError` where the name is not known.
        """
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if target.host not in self.hosts:
            for text in addresses:
                if not self.is_open(text):
                    raise TargetRefused("its address is not one of the open internet")
        return addresses

    def is_open(self, text: str) -> bool:
        """Tell whether an address may be called."""
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False  # with a zone, as `fe80::1%eth0`: of this link
        return any(address in network for network in self.networks) or is_global(address)


def is_global(address: IpAddress) -> bool:
    """Tell whether an address is one host of the open internet.

    Not the loopback, private, link-local, shared, reserved, multicast and documentation ones (IANA's registries of
    special-purpose addresses), in any form in which IPv6 can name one of IPv4.
    """
    if any(address.version == network.version and address in network for network in CLOSED_NETWORKS):
        return False
    if isinstance(address, IPv4Address):
        return address.is_global and not address.is_multicast
    if any(address in network for network in TRANSLATED):
        return is_global(IPv4Address(int(address) & 0xFFFFFFFF))
    return address in GLOBAL_UNICAST and address.is_global


def in_ascii(host: str) -> str:
    """Return a name as DNS has it. Raises `TargetRefused`."""
    try:
        return host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise TargetRefused("the name of a host") from None
