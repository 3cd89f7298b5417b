"""One-time codes: made to be sent to an address, tried, and spent once, for whatever purpose."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from service.core.clock import now
from service.documents import Challenge, OneTimeCode
from service.identity.keys import Keys
from service.identity.sessions import SECRET_BYTES, hashed
from service.mongo import transactions
from service.mongo.raw import Raw

CODE_CHARACTERS = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"
"""What codes are made of: nothing that looks like something else (0 and O; 1, I and L)."""
CODE_LENGTH = 8
DASHED = 4
"""So many of their characters stand together, for people who type them."""
CODE_MINUTES = 15
MOST_TRIES = 5
LONGEST_SENT = 100
"""Most characters of a code or a token that is looked at."""


@dataclass(frozen=True, slots=True)
class Issued:
    """What is sent, and nowhere stored: a code, the token of a link, and when both end, in UTC without zone."""

    code: str
    token: str
    until: datetime


class Codes:
    """Those of all purposes. A code is bound to its purpose and its subject: an account, or the key of an address."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys

    def issue(self, purpose: str, subject: str, address: str, address_key: str, account: Raw | None) -> Issued:
        """Return a new code, in place of the one that was issued before for the same purpose and subject.

        `account` is the one that it concerns, if there is one; a change of its password or its address makes it void.
        """
        id, token = id_of(purpose, subject), secrets.token_urlsafe(SECRET_BYTES)
        code = random_code(CODE_LENGTH)
        until = now() + timedelta(minutes=CODE_MINUTES)
        document = {
            "_id": id,
            "purpose": purpose,
            "account": None if account is None else account["_id"],
            "address": address,
            "address_key": address_key,
            "stamp": stamp_of(account),
            "code_hash": self.mac(id, code, self.keys.secrets[0]),
            "token_hash": hashed(token.encode()),
            "tries": 0,
            "expires_at": until,
        }
        OneTimeCode._get_collection().replace_one({"_id": id}, document, upsert=True)
        return Issued(code, token, until)

    def tried(self, purpose: str, subject: str, code: str) -> Raw | None:
        """Return what was stored with a code, None for a wrong one. Each try counts: see `counted_try`."""
        id = id_of(purpose, subject)
        found, given = counted_try(OneTimeCode, id), undashed(code[:LONGEST_SENT])
        stored = "" if found is None else found["code_hash"]
        macs = (self.mac(id, given, secret) for secret in self.keys.secrets)
        return found if any(hmac.compare_digest(stored, mac) for mac in macs) else None

    def of_token(self, purpose: str, token: str) -> Raw | None:
        """Return what was stored with the token of a link, None for a wrong one; nothing is spent by that."""
        if len(token) > LONGEST_SENT:
            return None
        good = {"token_hash": hashed(token.encode()), "purpose": purpose, "expires_at": {"$gt": now()}}
        found: Raw | None = OneTimeCode._get_collection().find_one(good)
        return found

    def spend(self, found: Raw) -> bool:
        """Make a code void together with its link; False where another request did it, or a newer one took its place.

        It is a part of the transaction under way, for what the code was good for happens with it or not at all.
        """
        same = {"_id": found["_id"], "token_hash": found["token_hash"]}
        return bool(OneTimeCode._get_collection().delete_one(same).deleted_count)

    def mac(self, id: str, code: str, secret: str) -> str:
        """Return what is stored of a code; a plain hash of so few characters could be guessed."""
        return hmac.digest(self.keys.derived("one-time code", secret), f"{id}\0{code}".encode(), "sha256").hex()


def id_of(purpose: str, subject: str) -> str:
    """Return the id of the one code for a purpose and a subject."""
    return hashlib.sha256(f"{purpose}\0{subject}".encode()).hexdigest()


def counted_try(document: type[OneTimeCode | Challenge], id: str) -> Raw | None:
    """Count one try of what is stored under an id, and return it; None where it has none left, or has ended.

    It counts whatever becomes of the request, and comes first: of many tries at once no more than `MOST_TRIES` are
    looked at.
    """
    alive = {"_id": id, "tries": {"$lt": MOST_TRIES}, "expires_at": {"$gt": now()}}
    found: Raw | None = transactions.outside(
        document._get_collection().find_one_and_update, alive, {"$inc": {"tries": 1}}
    )
    return found


def undashed(code: str) -> str:
    """Return a code as it was made, however somebody has typed it."""
    return code.upper().replace("-", "").replace(" ", "")


def random_code(length: int) -> str:
    """Return so many characters that nobody can guess."""
    return "".join(secrets.choice(CODE_CHARACTERS) for _ in range(length))


def dashed(code: str) -> str:
    """Return a code as people read it."""
    return "-".join(code[start : start + DASHED] for start in range(0, len(code), DASHED))


def stamp_of(account: Raw | None) -> str | None:
    """Return a hash of what an account can be entered with; None where there is no account."""
    if account is None:
        return None
    ways = f"{account.get('password_hash', '')}\0{account.get('email_key', '')}"
    return hashlib.sha256(ways.encode()).hexdigest()
