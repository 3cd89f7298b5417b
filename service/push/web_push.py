"""Web Push: a POST to the push service that a browser has named, known by our key (RFC 8030, RFC 8292)."""

import hashlib
import re
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from service.core.base64url import encode_base64url
from service.core.clock import elapsed
from service.core.json_text import encode
from service.outbox.bulk_dispatch import SendOutcome
from service.outbox.calling import WHOLE_CALL_SECONDS, Called, OutwardCaller
from service.outbox.dispatch import Postponed, Refused
from service.outbox.targets import TargetRefused, Targets
from service.push.platform import Dead, Push, key_file
from service.push.subscription import PushSubscription

CALLS_AT_ONCE = 16
TOKEN_HOURS = 12
"""How long a token for a push service is good: at most a day (RFC 8292, section 2)."""
MOST_ORIGINS = 1000
"""Push services of which a token or a silence is remembered."""
SILENT_SECONDS = 60.0
"""For how long nothing is sent to a server that did not answer in time: it holds up no other one again."""
SLOW_SECONDS = 4.0
"""An answer that has not come by then was not refused: somebody keeps us waiting."""
LONGEST_TOPIC = 32
TOPIC_OF_WEB = re.compile(f"[A-Za-z0-9_-]{{1,{LONGEST_TOPIC}}}")
VAPID_NEEDED = ("VAPID_KEY_FILE", "VAPID_SUBJECT")
"""The settings without which nothing is sent."""


class Lately:
    """What is known for a while of push services, by their origin; of the oldest it is forgotten. For many threads."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[float, str]] = {}
        self.lock = threading.Lock()

    def get(self, origin: str) -> str | None:
        """Return what is known, None where it is not, or not any more."""
        until, value = self.found.get(origin, (0.0, ""))
        return value if time.monotonic() < until else None

    def put(self, origin: str, value: str, seconds: float) -> None:
        """Know something for so long."""
        with self.lock:
            self.found.pop(origin, None)
            self.found[origin] = (time.monotonic() + seconds, value)
            while len(self.found) > MOST_ORIGINS:
                self.found.pop(next(iter(self.found)))


class WebPush:
    """Hands notifications to the push services of browsers.

    They are many, each named by a client: what one of them asks for is heeded for what goes to it, and for no other.
    """

    kind = "webpush"
    most = 4 * CALLS_AT_ONCE
    seconds = 240.0

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Take the settings, which have what is `VAPID_NEEDED`. Raises `ValueError`."""
        self.key = key_file("VAPID_KEY_FILE", config["VAPID_KEY_FILE"])
        point = self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self.public, self.subject = encode_base64url(point), config["VAPID_SUBJECT"]
        self.targets = Targets(config["WEBHOOK_ALLOW"])
        self.caller = OutwardCaller(self.targets)
        self.tokens, self.silent = Lately(), Lately()

    def rest(self) -> None:
        """Do nothing: each call has a connection of its own."""

    def deliver(self, pushes: Sequence[Push], until: float) -> list[SendOutcome]:
        """Hand notifications over; return what has come of each."""
        with ThreadPoolExecutor(CALLS_AT_ONCE) as threads:
            return list(threads.map(lambda push: self.outcome_of(push, until), pushes))

    def outcome_of(self, push: Push, until: float) -> SendOutcome:
        """Hand one over; return what has come of it, a mistake of ours too: the others are not sent again for it."""
        try:
            return self.deliver_one(push, until)
        except Exception as error:
            return error

    def deliver_one(self, push: Push, until: float) -> SendOutcome:
        """Hand one over; return what has come of it. None is begun that could not come to its end before a time."""
        if elapsed() + WHOLE_CALL_SECONDS > until:
            return Postponed("other push services have taken too long")
        try:
            subscription = PushSubscription.read(push.device.token)
            target = self.targets.read(subscription.endpoint)
        except (ValueError, TargetRefused) as error:
            return Dead(f"no endpoint that may be called: {error}")
        origin = f"{'https' if target.secure else 'http'}://{target.authority}"
        if self.silent.get(origin) is not None:
            return Postponed("its push service did not answer in time a moment ago")
        body = subscription.encrypted(encode(web_payload(push)))
        began = time.monotonic()
        called = self.caller.call(
            subscription.endpoint, body, {**message_headers(push), **self.authorization(origin)}, until
        )
        if called.status is None and time.monotonic() - began > SLOW_SECONDS:
            self.silent.put(origin, "silent", SILENT_SECONDS)
        return outcome(called)

    def authorization(self, origin: str) -> dict[str, str]:
        """Return what a push service knows us by (RFC 8292, section 3)."""
        token = self.tokens.get(origin)
        if token is None:
            claims = {"aud": origin, "exp": int(time.time()) + TOKEN_HOURS * 3600, "sub": self.subject}
            token = jwt.encode(claims, self.key, "ES256")
            self.tokens.put(origin, token, TOKEN_HOURS * 1800)
        return {"Authorization": f"vapid t={token}, k={self.public}"}


def message_headers(push: Push) -> dict[str, str]:
    """Return what a push service is told of a message (RFC 8030, section 5)."""
    told = push.notification
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Encoding": "aes128gcm",
        "TTL": str(push.seconds_left),
        "Urgency": "high" if told.wakes else "normal",
    }
    # Of a message with the same topic that waits this one takes the place.
    return headers | ({} if told.collapse is None else {"Topic": topic_of(told.collapse)})


def topic_of(collapse: str) -> str:
    """Return a collapse id as a topic of Web Push: 32 characters of base64url at most (RFC 8030, section 5.4)."""
    if TOPIC_OF_WEB.fullmatch(collapse) is not None:
        return collapse
    return encode_base64url(hashlib.sha256(collapse.encode()).digest())[:LONGEST_TOPIC]


def web_payload(push: Push) -> dict[str, Any]:
    """Return what the service worker of the page is given as JSON."""
    told = push.notification
    more = {"tag": told.collapse, "badge": told.badge}
    return {**push.texts, **{name: value for name, value in more.items() if value is not None}, "data": dict(told.data)}


def outcome(called: Called) -> SendOutcome:
    """Return what an answer of a push service means (RFC 8030, sections 5 and 7.3)."""
    if called.is_taken:
        return None
    if called.status in (404, 410):
        return Dead(called.reason)
    if called.status is None or called.status == 429 or called.status >= 500:
        return Postponed(called.reason, called.retry_after)
    return Refused(called.reason)
