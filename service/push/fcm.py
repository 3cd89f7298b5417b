"""FCM: Google's service for notifications, by its HTTP v1 API, as a service account (RFC 7523)."""

import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from service.core.json_text import encode
from service.core.one_line import one_line
from service.outbox.bulk_dispatch import SendOutcome
from service.outbox.calling import wait_asked
from service.outbox.dispatch import CannotSend, Postponed, Refused
from service.push import apns
from service.push.channel import Channel
from service.push.http2 import LONGEST_SAID, Http2Answer, Http2Request, Unanswered
from service.push.platform import Dead, Push, read_file, seen_together

FCM_SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ASSERTION_SECONDS = 3600
EARLY_SECONDS = 300
"""So long before its end an access token is renewed."""
QUOTA_SECONDS = 60.0
"""How long FCM wants us to wait where it does not say it (*Error codes*, QUOTA_EXCEEDED)."""
ACCOUNT_MEMBERS = ("project_id", "client_email", "private_key", "token_uri")


class ServiceAccount:
    """What Google's file says of who we are, and the access token that we get for it."""

    def __init__(self, path: str) -> None:
        """Take the file. Raises `ValueError`, which does not repeat what is in it."""
        wanted = f"FCM_CREDENTIALS_FILE: {path} has to be a service account, with {', '.join(ACCOUNT_MEMBERS)}"
        content = read_file("FCM_CREDENTIALS_FILE", path)
        try:
            found = orjson.loads(content)
            self.project, self.email, text, self.token_uri = (str(found[name]) for name in ACCOUNT_MEMBERS)
            key: Any = load_pem_private_key(text.encode(), None)
        except (ValueError, KeyError, TypeError):
            raise ValueError(wanted) from None
        if not isinstance(key, RSAPrivateKey):
            raise ValueError(wanted)
        self.key = key
        self.channel = Channel(self.token_uri)
        self.token, self.good_until = "", 0.0

    def access_token(self, until: float) -> str:
        """Return the token of this moment, which is waited for until a time. Raises `CannotSend`."""
        if time.monotonic() >= self.good_until:
            asked = time.monotonic()
            (reply,) = self.channel.exchange([self.asking()], until)
            # It is asked once in an hour: nothing is gained by a connection in between.
            self.channel.leave()
            self.token, seconds = read_token(reply)
            self.good_until = asked + max(seconds - EARLY_SECONDS, seconds / 2)
        return self.token

    def asking(self) -> Http2Request:
        """Return the request for a token."""
        moment = int(time.time())
        times = {"iat": moment, "exp": moment + ASSERTION_SECONDS}
        claims = {"iss": self.email, "scope": FCM_SCOPE, "aud": self.token_uri, **times}
        form = {"grant_type": GRANT, "assertion": jwt.encode(claims, self.key, "RS256")}
        body, headers = urlencode(form).encode(), {"content-type": "application/x-www-form-urlencoded"}
        return Http2Request(urlsplit(self.token_uri).path or "/", headers, body)

    def forget(self) -> None:
        """Have the next one asked for: this one is not taken."""
        self.good_until = 0.0


class Fcm:
    """Hands notifications to FCM."""

    kind = "fcm"
    most = 500
    seconds = 240.0

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Take the settings, which name a file of credentials. Raises `ValueError`."""
        self.account = ServiceAccount(config["FCM_CREDENTIALS_FILE"])
        self.channel = Channel(config["FCM_URL"])
        self.path = f"/v1/projects/{self.account.project}/messages:send"

    def rest(self) -> None:
        """Answer what FCM asks meanwhile."""
        self.channel.rest()

    def deliver(self, pushes: Sequence[Push], until: float) -> list[SendOutcome]:
        """Hand notifications over; return what has come of each. Raises `CannotSend` where none was taken."""
        token = self.account.access_token(until)
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        requests = [Http2Request(self.path, headers, encode({"message": message(push)})) for push in pushes]
        return seen_together([self.outcome(reply) for reply in self.channel.exchange(requests, until)])

    def outcome(self, reply: Http2Answer | Unanswered) -> SendOutcome:
        """Return what an answer means (*FCM error codes*)."""
        if isinstance(reply, Unanswered):
            return Postponed(str(reply))
        if reply.status == 200:
            return None
        code, is_about_token = read_error(reply.body)
        said, wait = f"{reply.status} {code}".strip(), wait_asked(reply.headers.get("retry-after"))
        if code == "UNREGISTERED" or (code == "INVALID_ARGUMENT" and is_about_token):
            return Dead(said)
        if reply.status == 429:
            return Postponed(said, wait or QUOTA_SECONDS)
        if reply.status == 401 and code != "THIRD_PARTY_AUTH_ERROR":
            self.account.forget()
            return CannotSend(f"{said}: FCM does not take our access token")
        if reply.status == 503:
            return CannotSend(f"FCM: {said}", wait)
        if reply.status >= 500:
            return Postponed(f"FCM: {said}", wait)
        if code == "PERMISSION_DENIED":
            return CannotSend(f"{said}: the service account of FCM_CREDENTIALS_FILE may not send for its project")
        return Refused(said)


def message(push: Push) -> dict[str, Any]:
    """Return a notification as FCM takes it (*REST resource: projects.messages*)."""
    told, shown = push.notification, push.texts
    found: dict[str, Any] = {
        "token": push.device.token,
        "android": for_androids(push),
        # What FCM hands on to APNs for an iPhone that is registered by its library.
        "apns": {
            "headers": {**apns.kind_headers(told), **apns.own_headers(push)},
            "payload": {"aps": apns.aps_of(push)},
        },
    }
    found |= {"notification": shown} if shown else {}
    found |= {"data": data} if (data := {name: as_text(value) for name, value in told.data.items()}) else {}
    return found


def for_androids(push: Push) -> dict[str, Any]:
    """Return what is for Android alone (`AndroidConfig`)."""
    told = push.notification
    # What a device shows is replaced by the next one with the same tag.
    shown = {"sound": told.sound, "tag": told.collapse, "notification_count": told.badge}
    shown = {name: value for name, value in shown.items() if value is not None}
    config = {"priority": "HIGH" if told.wakes else "NORMAL", "ttl": f"{push.seconds_left}s"}
    config |= {} if told.collapse is None else {"collapse_key": told.collapse}
    return {**config, "notification": shown} if shown and not told.is_silent else config


def as_text(value: Any) -> str:
    """Return a value of the data as FCM takes it: a text as it is, all else as JSON."""
    return value if isinstance(value, str) else encode(value).decode()


def read_token(reply: Http2Answer | Unanswered) -> tuple[str, float]:
    """Return the access token of an answer, and for how many seconds it is good. Raises `CannotSend`."""
    if isinstance(reply, Unanswered):
        raise CannotSend(f"Google gives no access token: {reply}")
    try:
        found = orjson.loads(reply.body)
        if reply.status == 200:
            return str(found["access_token"]), float(found.get("expires_in", ASSERTION_SECONDS))
        said = one_line(str(found.get("error")), LONGEST_SAID)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        said = "no JSON that is understood"
    wait = wait_asked(reply.headers.get("retry-after"))
    raise CannotSend(f"Google gives no access token for FCM_CREDENTIALS_FILE: {reply.status} {said}", wait)


def read_error(body: bytes) -> tuple[str, bool]:
    """Return the code of an error of FCM, and whether it is the token that it does not like."""
    try:
        error = orjson.loads(body)["error"]
        code = str(error.get("status", ""))
        is_about_token = "registration token" in str(error.get("message", "")).lower()
        for detail in error.get("details", []):
            code = str(detail.get("errorCode", code))
            violated = [violation.get("field") for violation in detail.get("fieldViolations", [])]
            is_about_token = is_about_token or "message.token" in violated
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return "", False
    return one_line(code, LONGEST_SAID), is_about_token
