"""Registrations: which devices are reached by notifications, each as a part of its session."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo.errors import DuplicateKeyError

from service.core import metrics
from service.core.clock import now
from service.core.log import log
from service.documents import Session
from service.mongo import transactions
from service.mongo.raw import Raw

PLATFORMS = ("apns", "fcm", "webpush")
"""The platforms, which are the kinds of their items in the outbox too."""
MOST_DEVICES = 200
"""Most devices of an account that a notification goes to, those that were used last."""


@dataclass(frozen=True, slots=True)
class Registration:
    """A device that is reached: by a session, an account, and a token of a platform."""

    session: str
    account: str
    platform: str
    token: str
    key: str
    language: str | None

    @classmethod
    def of(cls, session: Raw) -> "Registration":
        """Return that of a stored session, which has one."""
        push = session["push"]
        return cls(
            session["_id"], session["account"], push["platform"], push["token"], push["key"], push.get("language")
        )


def key_of(platform: str, token: str) -> str:
    """Return what is the same for a token wherever it is registered."""
    return hashlib.sha256(f"{platform}\0{token}".encode()).hexdigest()


def register(
    session: str, account: str, platform: str, token: str, topics: Sequence[str], language: str | None
) -> tuple[Raw | None, str | None]:
    """Have a session reached by a token; return what is stored, None where it has ended, and whose the token was.

    It is no other session's from then on: one device, one token.
    """
    push: Raw = {"platform": platform, "token": token, "key": key_of(platform, token)}
    push |= {"topics": list(dict.fromkeys(topics)), "registered_at": now()}
    push |= {} if language is None else {"language": language}
    while True:
        before = Session._get_collection().find_one_and_update(
            {"push.key": push["key"], "_id": {"$ne": session}}, {"$unset": {"push": ""}}, {"account": 1}
        )
        try:
            update = {"$set": {"push": push}}
            found = Session._get_collection().update_one({"_id": session, "account": account}, update)
        except DuplicateKeyError as error:
            # Another session has registered it at the same moment.
            if transactions.is_active():
                transactions.try_again(error)
            continue
        return push if found.matched_count else None, None if before is None else before["account"]


def registered(session: str) -> Raw | None:
    """Return the stored registration of a session, if it has one."""
    found = Session._get_collection().find_one({"_id": session}, {"push": 1}) or {}
    push: Raw | None = found.get("push")
    return push


def end_registration(session: str) -> bool:
    """End the registration of a session; False where it has none."""
    update = {"$unset": {"push": ""}}
    return bool(Session._get_collection().update_one({"_id": session, "push": {"$exists": True}}, update).matched_count)


def end_dead(registration: Registration, until: datetime | None = None) -> None:
    """End a registration of which a platform says that nobody is there, if it has not been renewed since.

    APNs says until when it has seen that: what was registered later is another installation.
    """
    same: dict[str, Any] = {"_id": registration.session, "push.key": registration.key}
    if until is not None:
        same["push.registered_at"] = {"$lte": until}
    if Session._get_collection().update_one(same, {"$unset": {"push": ""}}).matched_count:
        metrics.DEAD_TOKENS.labels(registration.platform).inc()
        log.info("push_token_dead", platform=registration.platform, session=registration.session)


def account_devices(account: str, topics: Sequence[str] = ()) -> list[Registration]:
    """Return the devices of an account, or those of them that follow one of some topics."""
    chosen = {**alive(topics), "account": account}
    rows = Session._get_collection().find(chosen, REACHED, sort=[("last_used_at", -1)], limit=MOST_DEVICES)
    return [Registration.of(row) for row in rows]


def of_sessions(sessions: Sequence[str], platform: str) -> dict[str, Registration]:
    """Return which of some sessions are reached by a platform at this moment."""
    chosen = {**alive(), "_id": {"$in": list(sessions)}, "push.platform": platform}
    return {row["_id"]: Registration.of(row) for row in Session._get_collection().find(chosen, REACHED)}


def of_topics(topics: Sequence[str], after: str, most: int) -> list[Registration]:
    """Return the next devices of anybody that follow one of some topics, those behind a session."""
    chosen = {**alive(topics), "_id": {"$gt": after}}
    rows: Iterator[Raw] = Session._get_collection().find(chosen, REACHED, sort=[("_id", 1)], limit=most)
    return [Registration.of(row) for row in rows]


REACHED = {"account": 1, "push": 1}


def alive(topics: Sequence[str] = ()) -> Raw:
    """Return the filter of sessions that have not ended and are reached, by some topics if there are any."""
    reached = {"push.topics": {"$in": list(topics)}} if topics else {"push": {"$exists": True}}
    return {"expires_at": {"$gt": now()}, **reached}
