"""Devices that notifications reach: what a token has to look like, and who is told of a new one."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any

from service.core.errors import Cause, NotAuthenticated, ValidationFailed
from service.documents import Event
from service.identity.sessions import SESSION_ENDED, device_of
from service.identity.throttle import Throttle
from service.mongo.raw import Raw
from service.outbox.targets import TargetRefused, Targets
from service.policy import Identity
from service.push import registrations
from service.push.sender import platforms
from service.push.subscription import PushSubscription

APNS_TOKEN = re.compile(r"([0-9A-Fa-f]{2}){8,100}")
"""Apple says that its length may change; it has been 32 bytes."""
FCM_TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")


class PushDevices:
    """Registers the devices that notifications reach."""

    def __init__(self, config: Mapping[str, Any], throttle: Throttle) -> None:
        """Take the settings. Raises `ValueError` for credentials that are not right."""
        # For what it raises: a key that is no good stops the start, and not the first notification.
        platforms(config)
        self.targets, self.throttle = Targets(config["WEBHOOK_ALLOW"]), throttle

    def register(
        self, who: Identity, platform: str, token: str, topics: Sequence[str], language: str | None, address: str
    ) -> Raw:
        """Have the session of an identity reached by a token; return what is stored.

        Raises `ValidationFailed` for what is no token of the platform, `TooManyRequests`, and `NotAuthenticated` where
        the session has ended.
        """
        self.throttle.push_registration(who.account)
        checked = self.checked_token(platform, token)
        before = registrations.registered(who.session)
        push, other = registrations.register(who.session, who.account, platform, checked, topics, language)
        if push is None:
            raise NotAuthenticated(SESSION_ENDED)
        if before is None or before["key"] != push["key"]:
            Event.record(who.account, "push_registered", address, device_of(who.session))
        if other is not None and other != who.account:
            Event.record(other, "push_moved")
        return push

    def end(self, who: Identity, address: str) -> bool:
        """End what was registered for the session of an identity; False where nothing was."""
        ended = registrations.end_registration(who.session)
        if ended:
            Event.record(who.account, "push_ended", address, device_of(who.session))
        return ended

    def checked_token(self, platform: str, token: str) -> str:
        """Return a token in the one spelling that it has. Raises `ValidationFailed`."""
        if platform == "apns" and APNS_TOKEN.fullmatch(token) is None:
            raise wrong_token("the device token in hexadecimal, as its bytes are written with %02x")
        if platform == "fcm" and FCM_TOKEN.fullmatch(token) is None:
            raise wrong_token("the registration token, without spaces")
        if platform == "webpush":
            self.check_subscription(token)
        return token.lower() if platform == "apns" else token

    def check_subscription(self, token: str) -> None:
        """Raise `ValidationFailed` for what is no subscription, or leads where nothing may be sent.

        A name is looked up when something is sent; an address that stands there is looked at now.
        """
        try:
            host = self.targets.read(PushSubscription.read(token).endpoint).host
        except (ValueError, TargetRefused) as error:
            raise wrong_token(str(error)) from None
        if is_address(host) and not self.targets.is_open(host):
            raise wrong_token("an endpoint on the open internet")


def wrong_token(detail: str) -> ValidationFailed:
    """Return the problem of a token that is none."""
    return ValidationFailed([Cause("not_valid", detail, pointer="/token")])


def is_address(host: str) -> bool:
    """Tell whether a host is an address and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
