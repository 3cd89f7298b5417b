"""What a test of notifications needs: credentials, a server that speaks APNs and FCM, and who sends what waits."""

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from service.documents import OutboxItem, Session
from service.mongo.raw import Raw
from service.outbox import items
from service.outbox.bulk_dispatch import BulkDispatcher
from service.push.sender import PushSender, platforms
from tests.dispatching import Deaf, look
from tests.http2_server import Asked, Said

APNS_KEY = ec.generate_private_key(ec.SECP256R1())
VAPID_KEY = ec.generate_private_key(ec.SECP256R1())
GOOGLE_KEY = rsa.generate_private_key(65537, 2048)
TOKEN = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0"
ACCESS_TOKEN = "ya29.made-by-a-test"


def pem(key: Any) -> bytes:
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def credentials(folder: Path, url: str) -> dict[str, Any]:
    """The settings of all three platforms, with a server in the place of Apple's and Google's."""
    (folder / "AuthKey.p8").write_bytes(pem(APNS_KEY))
    (folder / "vapid.pem").write_bytes(pem(VAPID_KEY))
    account = {
        "type": "service_account",
        "project_id": "notes-1",
        "client_email": "sender@notes-1.iam.gserviceaccount.example",
        "private_key": pem(GOOGLE_KEY).decode(),
        "token_uri": f"{url}/token",
    }
    (folder / "google.json").write_text(json.dumps(account))
    return {
        "APNS_KEY_FILE": str(folder / "AuthKey.p8"),
        "APNS_KEY_ID": "ABC123DEFG",
        "APNS_TEAM_ID": "DEF123GHIJ",
        "APNS_TOPIC": "com.example.notes",
        "APNS_URL": url,
        "FCM_CREDENTIALS_FILE": str(folder / "google.json"),
        "FCM_URL": url,
        "VAPID_KEY_FILE": str(folder / "vapid.pem"),
        "VAPID_SUBJECT": "mailto:push@example.com",
    }


class Platforms:
    """Answers as APNs, FCM and Google's token endpoint do, unless a test has said otherwise for a device."""

    def __init__(self) -> None:
        self.said: dict[str, list[Said]] = {}
        """What is answered next, by device token; `*` is for any, and `token` for Google's tokens."""
        self.tokens = 0

    def say(self, device: str, *said: Said) -> None:
        self.said.setdefault(device, []).extend(said)

    def next_said(self, device: str) -> Said | None:
        for name in (device, "*"):
            if self.said.get(name):
                return self.said[name].pop(0)
        return None

    def __call__(self, asked: Asked) -> Said:
        if asked.path == "/token":
            return self.token(asked)
        if asked.path.startswith("/3/device/"):
            return self.next_said(asked.path.removeprefix("/3/device/")) or Said(self.apns_status(asked))
        if asked.path == "/v1/projects/notes-1/messages:send":
            assert asked.headers["authorization"] == f"Bearer {ACCESS_TOKEN}"
            return self.next_said(asked.json["message"]["token"]) or Said(200, {"name": "projects/notes-1/messages/1"})
        return Said(404)

    def apns_status(self, asked: Asked) -> int:
        scheme, _, token = asked.headers["authorization"].partition(" ")
        claims = jwt.decode(token, APNS_KEY.public_key(), ["ES256"], options={"require": ["iss", "iat"]})
        known = jwt.get_unverified_header(token) == {"alg": "ES256", "kid": "ABC123DEFG"}
        fresh = time.time() - 3600 < claims["iat"] <= time.time()
        is_ours = scheme == "bearer" and known and fresh and claims["iss"] == "DEF123GHIJ"
        whole = len(asked.body) <= 4096 and asked.headers["apns-topic"] == "com.example.notes"
        return 200 if is_ours and whole else 403

    def token(self, asked: Asked) -> Said:
        self.tokens += 1
        found = re.fullmatch(
            r"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=(.+)", asked.body.decode()
        )
        assert found is not None
        audience = f"https://{asked.headers[':authority']}/token"
        claims = jwt.decode(found[1], GOOGLE_KEY.public_key(), ["RS256"], audience=audience)
        assert claims["scope"] == "https://www.googleapis.com/auth/firebase.messaging"
        said = Said(200, {"access_token": ACCESS_TOKEN, "expires_in": 3599, "token_type": "Bearer"})
        return self.next_said("token") or said


class Sending:
    """The senders of all platforms, as a worker has them."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.dispatchers = {
            platform.kind: BulkDispatcher(PushSender(platform), Deaf()) for platform in platforms(config)
        }

    def step(self, kind: str = "apns", at_once: bool = False) -> None:
        """Send what is due; `at_once` also what waits for its next try."""
        dispatcher = self.dispatchers[kind]
        if at_once:
            OutboxItem._get_collection().update_many({"state": "waiting"}, {"$set": {"due_at": items.DUE_AT_ONCE}})
            dispatcher.paused_until = 0.0
        look(dispatcher)

    def leave(self) -> None:
        for dispatcher in self.dispatchers.values():
            platform: Any = dispatcher.sender.platform  # type: ignore[attr-defined]
            for one in (platform, getattr(platform, "account", None)):
                if hasattr(one, "channel"):
                    one.channel.leave()


def states(kind: str = "apns") -> dict[str, int]:
    """How many items there are of a kind, by state."""
    found: dict[str, int] = {}
    for item in OutboxItem._get_collection().find({"kind": kind}):
        found[item["state"]] = found.get(item["state"], 0) + 1
    return found


def reason() -> str:
    found: Raw | None = OutboxItem._get_collection().find_one({}, sort=[("_id", -1)])
    assert found is not None
    return str(found.get("reason", ""))


def is_registered(token: str) -> bool:
    return Session._get_collection().find_one({"push.token": token}) is not None
