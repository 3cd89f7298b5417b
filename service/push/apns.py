"""APNs: Apple's service for notifications, over HTTP/2 with a token that we sign.

*Sending notification requests to APNs*, *Establishing a token-based connection to APNs*, *Handling notification
responses from APNs* (developer.apple.com).
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from service.core.base64url import encode_base64url
from service.core.json_text import encode
from service.core.one_line import one_line
from service.outbox.bulk_dispatch import SendOutcome
from service.outbox.calling import wait_asked
from service.outbox.dispatch import CannotSend, Postponed, Refused
from service.push.channel import Channel
from service.push.http2 import LONGEST_SAID, Http2Answer, Http2Request, Unanswered
from service.push.notification import Notification
from service.push.platform import Dead, Push, key_file, seen_together

TOKEN_SECONDS = 40 * 60
"""How long a token of ours is used: APNs wants a new one not before 20 minutes, and takes none of over 60."""
LEAST_TOKEN_SECONDS = 20 * 60
DEAD = frozenset({"BadDeviceToken", "Unregistered", "ExpiredToken"})
"""Reasons for which a device token goes."""
OUR_TOKEN = frozenset({"InvalidProviderToken", "MissingProviderToken", "BadCertificate", "BadCertificateEnvironment"})
"""Reasons for which APNs takes nothing from us: APNS_KEY_FILE, APNS_KEY_ID and APNS_TEAM_ID do not belong together."""
APNS_NEEDED = ("APNS_KEY_FILE", "APNS_KEY_ID", "APNS_TEAM_ID", "APNS_TOPIC")


class ProviderToken:
    """The JWT by which APNs knows us.

    Its time is that of the last full 40 minutes, and its signature the one that key and time have (RFC 6979). So all
    workers have the same one, also after a restart, and APNs sees no more new ones than it likes.
    """

    def __init__(self, key: EllipticCurvePrivateKey, key_id: str, team_id: str) -> None:
        self.key, self.key_id, self.team_id = key, key_id, team_id
        self.issued_at, self.text = 0, ""
        self.renewed_at = 0

    def current(self) -> str:
        """Return the one of this moment."""
        moment = int(time.time())
        issued_at = moment - moment % TOKEN_SECONDS
        if moment - self.renewed_at < TOKEN_SECONDS:
            issued_at = self.renewed_at
        if issued_at != self.issued_at:
            self.issued_at, self.text = issued_at, self.signed(issued_at)
        return self.text

    def renew(self) -> bool:
        """Make one of this very moment; False where the one in use is too new for that."""
        moment = int(time.time())
        if moment - self.issued_at < LEAST_TOKEN_SECONDS:
            return False
        self.renewed_at = moment
        return True

    def signed(self, issued_at: int) -> str:
        """Return the token of a time: a JWT of ES256 (RFC 7518, section 3.4)."""
        parts = ({"alg": "ES256", "kid": self.key_id}, {"iss": self.team_id, "iat": issued_at})
        text = ".".join(encode_base64url(orjson.dumps(part)) for part in parts)
        r, s = decode_dss_signature(self.key.sign(text.encode(), ECDSA(SHA256(), deterministic_signing=True)))
        return f"{text}.{encode_base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


class Apns:
    """Hands notifications to APNs."""

    kind = "apns"
    most = 500
    seconds = 180.0

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Take the settings, which have what is `APNS_NEEDED`. Raises `ValueError`."""
        key = key_file("APNS_KEY_FILE", config["APNS_KEY_FILE"])
        self.token = ProviderToken(key, config["APNS_KEY_ID"], config["APNS_TEAM_ID"])
        self.topic: str = config["APNS_TOPIC"]
        self.channel = Channel(config["APNS_URL"])

    def rest(self) -> None:
        """Answer what APNs asks meanwhile: it wants its connections kept."""
        self.channel.rest()

    def deliver(self, pushes: Sequence[Push], until: float) -> list[SendOutcome]:
        """Hand notifications over; return what has come of each. Raises `CannotSend` where none was taken."""
        token = self.token.current()
        replies = self.channel.exchange([self.request(push, token) for push in pushes], until)
        return seen_together([self.outcome(reply) for reply in replies])

    def request(self, push: Push, token: str) -> Http2Request:
        """Return the request that hands a notification over."""
        headers = {"authorization": f"bearer {token}", "apns-topic": self.topic, **kind_headers(push.notification)}
        own = {"apns-id": apns_id(push.id), **own_headers(push)}
        return Http2Request(f"/3/device/{push.device.token}", headers, encode(payload(push)), own)

    def outcome(self, reply: Http2Answer | Unanswered) -> SendOutcome:
        """Return what an answer means (*Handling notification responses from APNs*)."""
        if isinstance(reply, Unanswered):
            return Postponed(str(reply))
        if reply.status == 200:
            return None
        reason, told_at = read_reason(reply.body)
        said = f"{reply.status} {reason}".strip()
        wait = wait_asked(reply.headers.get("retry-after"))
        if reason in DEAD or reply.status == 410:
            return Dead(said, told_at)
        if reply.status == 403:
            return self.unknown(reason, said)
        if reason == "TooManyProviderTokenUpdates":
            return CannotSend(f"{said}: APNs has seen too many tokens of ours", wait or 60.0)
        if reply.status == 503:
            return CannotSend(f"APNs: {said}", wait)
        return Postponed(f"APNs: {said}", wait) if reply.status in (429, 500) else Refused(said)

    def unknown(self, reason: str, said: str) -> Exception:
        """Return what it means that APNs does not take our token."""
        if reason == "ExpiredProviderToken":
            # It was made by our clock, which may be behind.
            told = "" if self.token.renew() else "; is the clock of this machine right?"
            return CannotSend(f"{said}{told}")
        if reason in OUR_TOKEN:
            return CannotSend(f"{said}: look at APNS_KEY_FILE, APNS_KEY_ID and APNS_TEAM_ID")
        return Refused(said)


def kind_headers(told: Notification) -> dict[str, str]:
    """Return the headers that many notifications have in common."""
    return {"apns-push-type": "background" if told.is_silent else "alert", "apns-priority": "10" if told.wakes else "5"}


def own_headers(push: Push) -> dict[str, str]:
    """Return the headers that each notification has of its own."""
    collapse = push.notification.collapse
    own = {"apns-expiration": str(push.expires_at)}
    return own if collapse is None else {**own, "apns-collapse-id": ascii_id(collapse)}


def apns_id(item: str) -> str:
    """Return the UUID of an item, whose id has 24 hexadecimal digits, or 40 where it has a deduplication key."""
    return str(uuid.UUID(item[:32].zfill(32)))


def payload(push: Push) -> dict[str, Any]:
    """Return the JSON of a notification (*Generating a remote notification*)."""
    told = push.notification
    return {**{name: value for name, value in told.data.items() if name != "aps"}, "aps": aps_of(push)}


def aps_of(push: Push) -> dict[str, Any]:
    """Return what Apple's system itself looks at."""
    told = push.notification
    aps: dict[str, Any] = {} if told.badge is None else {"badge": told.badge}
    if told.is_silent:
        return {**aps, "content-available": 1}
    return {**aps, "alert": push.texts, **({} if told.sound is None else {"sound": told.sound})}


def ascii_id(collapse: str) -> str:
    """Return a collapse id as a header takes it: one of other letters by what it has in common with itself alone."""
    is_plain = collapse.isascii() and collapse.isprintable() and collapse == collapse.strip()
    return collapse if is_plain else uuid.uuid5(uuid.NAMESPACE_OID, collapse).hex


def read_reason(body: bytes) -> tuple[str, datetime | None]:
    """Return why APNs has not taken something, and until when it has seen that a token is dead."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "", None
    if not isinstance(found, dict):
        return "", None
    moment, told_at = found.get("timestamp"), None
    if isinstance(moment, int) and 0 < moment < 10**13:
        told_at = datetime.fromtimestamp(moment / 1000, UTC).replace(tzinfo=None)
    return one_line(str(found.get("reason", "")), LONGEST_SAID), told_at
