"""How often somebody may try: counted in MongoDB, so that all processes count together."""

import ipaddress
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import limits
from limits.strategies import MovingWindowRateLimiter

from service.core.errors import BadCredentials, Problem, TooManyRequests
from service.mongo import transactions
from service.mongo.rates import rate_storage


class Throttle:
    """Counts failed logins, sign-ups, password changes and look-ups of names, and refuses the one too many.

    An attacker who hammers an account is stopped by address. Where the attack comes from many addresses, each gets one
    failure, so that its owner, at an address without a failure, still gets in.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.enabled: bool = config["RATELIMIT_ENABLED"]
        self.windows = MovingWindowRateLimiter(rate_storage(config))
        self.by_pair = limits.parse(config["RATELIMIT_FAILED_LOGINS"])
        self.by_address = limits.parse(config["RATELIMIT_FAILED_LOGINS_ADDRESS"])
        self.by_account = limits.parse(config["RATELIMIT_FAILED_LOGINS_ACCOUNT"])
        self.sign_ups = limits.parse(config["RATELIMIT_SIGN_UPS"])
        self.codes = limits.parse(config["RATELIMIT_CODES"])
        self.codes_of_address = limits.parse(config["RATELIMIT_CODES_ADDRESS"])
        self.password_changes = limits.parse(config["RATELIMIT_PASSWORD_CHANGES"])
        self.second_factors = limits.parse(config["RATELIMIT_SECOND_FACTOR"])
        self.look_ups = limits.parse(config["RATELIMIT_ACCOUNT_LOOKUPS"])
        self.invitations = limits.parse(config["RATELIMIT_INVITATIONS"])
        self.push_registrations = limits.parse(config["RATELIMIT_PUSH_REGISTRATIONS"])
        self.admin_pushes = limits.parse(config["RATELIMIT_ADMIN_PUSHES"])
        self.once = limits.RateLimitItemPerHour(1)

    def check_login(self, username: str, address: str) -> None:
        """Raise `TooManyRequests` when there were too many failed logins to try another, or to answer the last one."""
        if not self.enabled:
            return
        network = network_of(address)
        self.test(self.by_address, "login", network)
        self.test(self.by_pair, "login", username, network)
        if not self.has_room(self.by_account, "login-account", username):
            self.test(self.once, "login-once", username, network)

    def failed_login(self, username: str, address: str) -> None:
        """Count a failed login; raises `TooManyRequests` when others took the last tries while it was looked at."""
        if not self.enabled:
            return
        network = network_of(address)
        self.hit(self.by_pair, "login", username, network)
        self.hit(self.by_address, "login", network)
        room = self.count(self.by_account, "login-account", username)
        first = self.count(self.once, "login-once", username, network)
        if not room and not first:
            raise self.problem(self.once, "login-once", username, network)

    @contextmanager
    def counting(self, name: str, address: str, failure: type[Problem] = BadCredentials) -> Iterator[None]:
        """Count a `failure` within as a failed login of `name`; raises `TooManyRequests` for one too many."""
        self.check_login(name, address)
        try:
            yield
        except failure:
            self.failed_login(name, address)
            raise

    def second_factor(self, account: str) -> None:
        """Count a code that is given as the second factor of an account, right or wrong; raises `TooManyRequests`.

        Who has got so far knows the password, so nobody else can use up the tries of the owner.
        """
        self.hit(self.second_factors, "second-factor", account)

    def sign_up(self, address: str) -> None:
        """Count a sign-up; raises `TooManyRequests`."""
        self.hit(self.sign_ups, "sign-up", network_of(address))

    def code_request(self, address_key: str, address: str) -> None:
        """Count a code that `address` asks to have sent to a mail address; raises `TooManyRequests`."""
        self.hit(self.codes, "codes", network_of(address))
        self.hit(self.codes_of_address, "codes-address", address_key)

    def password_change(self, account: str) -> None:
        """Count a try to change the password; raises `TooManyRequests`."""
        self.hit(self.password_changes, "password", account)

    def look_up(self, account: str) -> None:
        """Count that an account asks who has a name; raises `TooManyRequests`."""
        self.hit(self.look_ups, "look-up", account)

    def invitation(self, account: str, address: str) -> None:
        """Count an invitation that an account makes; raises `TooManyRequests`."""
        self.hit(self.invitations, "invitations", account)
        self.hit(self.invitations, "invitations-address", network_of(address))

    def push_registration(self, account: str) -> None:
        """Count that an account registers a device for notifications; raises `TooManyRequests`."""
        self.hit(self.push_registrations, "push-registrations", account)

    def admin_push(self, account: str) -> None:
        """Count a notification that an admin sends; raises `TooManyRequests`."""
        self.hit(self.admin_pushes, "admin-pushes", account)

    def test(self, limit: limits.RateLimitItem, *key: str) -> None:
        """Raise `TooManyRequests` when `limit` is reached."""
        if not self.has_room(limit, *key):
            raise self.problem(limit, *key)

    def hit(self, limit: limits.RateLimitItem, *key: str) -> None:
        """Count; raises `TooManyRequests` when `limit` is reached."""
        if self.enabled and not self.count(limit, *key):
            raise self.problem(limit, *key)

    # A try counts whatever becomes of it, so the counting is never part of a transaction that may be undone.

    def has_room(self, limit: limits.RateLimitItem, *key: str) -> bool:
        """Tell whether `limit` is not reached."""
        return transactions.outside(self.windows.test, limit, *key)

    def count(self, limit: limits.RateLimitItem, *key: str) -> bool:
        """Count one more; False when `limit` was reached."""
        return transactions.outside(self.windows.hit, limit, *key)

    def problem(self, limit: limits.RateLimitItem, *key: str) -> TooManyRequests:
        """Return the refusal, with the seconds until the next try."""
        wait = transactions.outside(self.windows.get_window_stats, limit, *key).reset_time - time.time()
        return TooManyRequests("too many tries; wait before the next", max(1, int(wait) + 1))


WITH_PORT = re.compile(r"\[([^]]+)\](?::\d+)?|([\d.]+):\d+", re.ASCII)
"""An address as some proxies write it into `X-Forwarded-For`: each connection has another port."""


def network_of(address: str) -> str:
    """Return what counts as one address: an IPv4 address, or the /64 that one subscriber has in IPv6."""
    found = WITH_PORT.fullmatch(address)
    try:
        parsed = ipaddress.ip_address(found[1] or found[2] if found else address)
    except ValueError:
        return address
    if parsed.version == 6 and parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(parsed) if parsed.version == 4 else str(ipaddress.ip_network((parsed, 64), strict=False))
