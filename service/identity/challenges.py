"""Challenges: made between two requests, for an account or for whoever comes, and spent once."""

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from service.core.clock import now
from service.documents import Challenge, SpentToken
from service.identity.codes import counted_try, id_of, stamp_of
from service.identity.sessions import MAC_BYTES, SECRET_BYTES, hashed
from service.mongo import transactions
from service.mongo.raw import Raw

LONGEST_CHALLENGED = 300
"""Most characters of a subject that is looked at."""
NOT_GOOD = "the passkey is not good here, or the challenge was used or is older than 5 minutes; ask for new options"
"""What somebody is told whose passkey is refused, whatever the reason."""


# --- For an account: stored, and answered a few times at most --------------------------------------------------------


def make_challenge(purpose: str, subject: str, account: Raw, life: timedelta, about: Raw) -> None:
    """Store a challenge for an account, in place of the one of the same purpose and subject.

    The subject is a token that nobody can guess, or whom it is for. It is stored outside of a transaction that may be
    under way: who asks for a second factor undoes what that has done.
    """
    id = id_of(purpose, subject)
    document = {
        "account": account["_id"],
        "stamp": entered_by(account),
        "tries": 0,
        "expires_at": now() + life,
        **about,
    }
    transactions.outside(Challenge._get_collection().replace_one, {"_id": id}, document, True)


def tried_challenge(purpose: str, subject: str) -> Raw | None:
    """Return a challenge that is alive, None for any other. Each try counts: see `counted_try`."""
    return None if len(subject) > LONGEST_CHALLENGED else counted_try(Challenge, id_of(purpose, subject))


def spend_challenge(found: Raw) -> bool:
    """Make a challenge void; False where another request did it."""
    return bool(Challenge._get_collection().delete_one({"_id": found["_id"]}).deleted_count)


def void_challenges(account: str) -> None:
    """Forget the challenges of an account."""
    Challenge._get_collection().delete_many({"account": account})


def set_up_by(account: Raw, session: str, token: str = "") -> str:
    """Return the subject of a set-up: what one session has begun, another cannot end."""
    return f"{account['_id']} {session} {token}"


def entered_by(account: Raw) -> str:
    """Return a hash of what an account can be entered with, and which second factor it has."""
    return f"{stamp_of(account)} {account.get('second_factor', {}).get('id')}"


# --- For whoever comes: nothing is stored until it is answered -------------------------------------------------------

TIME_BYTES = 8


@dataclass(frozen=True, slots=True)
class OpenChallenges:
    """Those that anybody may ask for, so that nobody fills the database by asking: a MAC says that we made them.

    The first of the keys is in use, what the others made is still taken.
    """

    keys: Sequence[bytes]
    life: timedelta

    def make(self) -> bytes:
        """Return a new one, which says itself when it ends."""
        until = int((now() + self.life).replace(tzinfo=UTC).timestamp())
        content = secrets.token_bytes(SECRET_BYTES) + until.to_bytes(TIME_BYTES, "big")
        return content + mac(self.keys[0], content)

    def end_of(self, challenge: bytes) -> datetime | None:
        """Return when one of ours ends, be it spent; None for one that is not ours, or has ended."""
        content, given = challenge[:-MAC_BYTES], challenge[-MAC_BYTES:]
        if not any(hmac.compare_digest(given, mac(key, content)) for key in self.keys):
            return None
        until = datetime.fromtimestamp(int.from_bytes(content[SECRET_BYTES:], "big"), UTC).replace(tzinfo=None)
        return until if until > now() else None

    def spend(self, challenge: bytes) -> bool:
        """Make one void; False for one that is not ours, has ended, or was spent: of requests at once, one has it."""
        until = self.end_of(challenge)
        return until is not None and SpentToken.spend(hashed(challenge), until)


def mac(key: bytes, content: bytes) -> bytes:
    """Return what only we can make of the content of a challenge."""
    return hmac.digest(key, content, "sha256")[:MAC_BYTES]
