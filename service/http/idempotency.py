"""A write that is sent again is done once: its first answer is kept and sent again.

The claim of the key, the write and the kept answer are one MongoDB transaction. A process that dies at any point leaves
either all of them, and the retry gets the answer, or none, and the retry does the write.
"""

import hmac
import re
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any, cast

from flask import current_app, request
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern

from service.context import g
from service.core.clock import now
from service.core.errors import BadRequest, IdempotencyMismatch, RequestInProgress
from service.documents import KeptAnswer
from service.http.web import Answer, current_request
from service.mongo import connection, transactions
from service.mongo.raw import Raw
from service.security import security

WRITE_METHODS = frozenset({"POST", "PATCH", "PUT", "DELETE"})
KEY_PATTERN = re.compile(r"[\x20-\x7e]{1,255}")
KEPT_FOR = timedelta(hours=24)
KEPT_HEADERS = ("Content-Type", "ETag", "Link", "Location", "WWW-Authenticate", "Allow")
DERIVED_KEY = "madang.idempotency-key"
"""Where a batch puts the key of one of its requests, made from its own key and the place of the request."""

ATOMIC = "madang.atomic"
"""Where a batch says that its requests are one transaction, which undoes all that they did."""

ViewFunction = Callable[..., Answer]


class Undone(Exception):
    """Carries an answer out of a transaction whose writes must not stay."""

    def __init__(self, response: Answer) -> None:
        super().__init__()
        self.response = response


def idempotent(view: ViewFunction, is_bounded: Callable[[], bool]) -> ViewFunction:
    """Wrap a view so that a request with an `Idempotency-Key` has its effect once, however often it comes.

    `is_bounded` tells whether the work of the request at hand is small enough for one transaction.
    """

    @wraps(view)
    def answer(*args: Any, **kwargs: Any) -> Answer:
        sent = current_request().environ
        key = sent.get(DERIVED_KEY) or sent.get("HTTP_IDEMPOTENCY_KEY")
        if key is None or sent["REQUEST_METHOD"] not in WRITE_METHODS:
            return view(*args, **kwargs)
        if DERIVED_KEY not in sent and not KEY_PATTERN.fullmatch(key):
            raise BadRequest("Idempotency-Key takes 1 to 255 printable ASCII characters")
        transactional = is_bounded() and not connection.is_memory(current_app.config["MONGODB_URI"])
        return Attempt(key, transactional, lambda: safely(view, *args, **kwargs)).answer()

    return answer


def safely(view: ViewFunction, *args: Any, **kwargs: Any) -> Answer:
    """Return the answer of a view, also where that is a problem; what a transaction has to see comes through."""
    try:
        return view(*args, **kwargs)
    except Undone:
        raise
    except Exception as error:
        return cast(Answer, current_app.make_response(current_app.handle_user_exception(error)))


class Attempt:
    """One request with an idempotency key."""

    def __init__(self, key: str, transactional: bool, work: Callable[[], Answer]) -> None:
        self.transactional = transactional
        self.work = work
        self.account = str(g.identity) if "identity" in g else ""
        conditions = (request.headers.get("If-Match", ""), request.headers.get("If-None-Match", ""))
        self.request = digest(request.method, request.full_path, *conditions, current_request().body)
        # Somebody who is not signed in has no keys of their own: only the very same request gets their answer.
        self.id = digest(self.account or self.request.hex(), key).hex()

    def answer(self) -> Answer:
        """Return the kept answer if there is one, else do the work and keep its answer with it."""
        try:
            if not self.transactional:
                return self.replay() or self.keep(self.work())
            return transactions.run(self.first)
        except Undone as undone:
            return self.keep(undone.response)
        except DuplicateKeyError:
            return self.replay() or self.after_expiry()

    def after_expiry(self) -> Answer:
        """Answer when the key was used so long ago that its answer is no longer kept.

        Or so shortly ago that only one member of the replica set knows it yet: deleting, even nothing, waits for a
        majority, and then the answer is found, or there is no majority in time.
        """
        KeptAnswer._get_collection().delete_one({"_id": self.id, "expires_at": {"$lte": now()}})
        return self.answer()

    def first(self) -> Answer:
        """Claim the key, do the work and keep its answer: inside a transaction, all or nothing."""
        try:
            KeptAnswer._get_collection().insert_one(self.claim())
        except DuplicateKeyError:
            raise
        except Exception as error:
            if transactions.is_conflict(error):
                raise RequestInProgress("an earlier request with this key is still running") from None
            raise
        response = self.work()
        if response.status_code >= 400:
            raise Undone(response)
        KeptAnswer._get_collection().update_one({"_id": self.id}, {"$set": self.kept_form(response)})
        return response

    def claim(self) -> Raw:
        """Return the document that says that this request has come."""
        return {"_id": self.id, "account": self.account, "request": self.request, "expires_at": now() + KEPT_FOR}

    def keep(self, response: Answer) -> Answer:
        """Keep an answer whose request changed nothing, or cannot be undone; the first one kept stays."""
        if response.keepable:
            document = {**self.claim(), **self.kept_form(response)}
            KeptAnswer._get_collection().update_one({"_id": self.id}, {"$setOnInsert": document}, upsert=True)
        return response

    def kept_form(self, response: Answer) -> Raw:
        """Return what is kept of an answer; that of a sign-up is kept for the account that it made."""
        headers = [[name, response.headers[name]] for name in KEPT_HEADERS if name in response.headers]
        made = response.get_json() if response.status_code == 201 and not self.account else {}
        account = self.account or made.get("id", "")
        return {"account": account, "status": response.status_code, "headers": headers, "body": response.get_data()}

    def replay(self) -> Answer | None:
        """Return the kept answer, None if there is none. Raises `IdempotencyMismatch` when it is another request's."""
        kept = known_to_majority().find_one({"_id": self.id, "expires_at": {"$gt": now()}})
        if kept is None:
            return None
        if kept["request"] != self.request:
            raise IdempotencyMismatch("this key came with another request before")
        response = Answer(kept["body"], kept["status"], kept["headers"])
        response.headers["Idempotent-Replayed"] = "true"
        return response


def known_to_majority() -> Collection[Raw]:
    """Return the kept answers that outlive the primary.

    One that only the primary has was acknowledged to nobody, and is lost with it; sent again, it would be a promise.
    """
    kept: Collection[Raw] = KeptAnswer._get_collection()
    if connection.is_memory(current_app.config["MONGODB_URI"]):
        return kept
    return kept.with_options(read_concern=ReadConcern("majority"))


def digest(*parts: str | bytes) -> bytes:
    """Return a keyed hash of `parts`: a body may hold a password, for which a plain hash would not do."""
    packed = [part.encode() if isinstance(part, str) else part for part in parts]
    text = b"".join(len(part).to_bytes(8, "big") + part for part in packed)
    return hmac.digest(security().keys.derived("idempotency"), text, "sha256")
