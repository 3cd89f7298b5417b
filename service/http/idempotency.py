"""A write that is sent again is done once: its first answer is kept and sent again.

The claim of the key, the write and the kept answer are one MongoDB transaction. A process that dies at any point leaves
either all of them, and the retry gets the answer, or none, and the retry does the write.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

import orjson
from flask import current_app, request
from pymongo.errors import DuplicateKeyError

from service.context import current_registry, current_service, g
from service.core.errors import IdempotencyMismatch, NotFound, Problem, RequestInProgress
from service.core.json_text import canonical
from service.documents import KeptAnswer
from service.http.beforehand import BEFOREHAND, in_transaction, made_by
from service.http.kept_bytes import kept_bytes
from service.http.openapi import Operation, operation_of, record_type
from service.http.web import Answer, current_request
from service.mongo import connection, driver, transactions
from service.mongo.raw import Raw
from service.policy import scope
from service.records.acting import identity_of
from service.records.kept_answers import (
    OVERHEAD,
    check_idempotency_key,
    find_kept,
    forget_expired,
    kept_form,
    keyed_digest,
)
from service.security import security

WRITE_METHODS = frozenset({"POST", "PATCH", "PUT", "DELETE"})
KEPT_HEADERS = ("Content-Type", "ETag", "Location", "WWW-Authenticate")
DERIVED_KEY = "madang.idempotency-key"
"""Where a batch puts the key of one of its requests, made from its own key and the place of the request."""
ATOMIC = "madang.atomic"
"""Where a batch says that its requests are one transaction, which undoes all that they did."""

NO_OPERATION = Operation("")

ViewFunction = Callable[..., Answer]


class Undone(Exception):
    """Carries an answer out of a transaction whose writes must not stay."""

    def __init__(self, response: Answer) -> None:
        self.response = response


def idempotent(view: ViewFunction) -> ViewFunction:
    """Wrap a view so that a request with an `Idempotency-Key` has its effect once, however often it comes."""

    @wraps(view)
    def answer(**kwargs: Any) -> Answer:
        sent = current_request().environ
        key = sent.get(DERIVED_KEY) or sent.get("HTTP_IDEMPOTENCY_KEY")
        if key is None or sent["REQUEST_METHOD"] not in WRITE_METHODS:
            return view(**kwargs)
        if DERIVED_KEY not in sent:
            check_idempotency_key(key)
        asked = operation_of(current_service(), cast(str, request.endpoint), request.method) or NO_OPERATION
        return Attempt(key, asked, lambda: safely(view, **kwargs)).answer()

    return answer


def safely(view: ViewFunction, **kwargs: Any) -> Answer:
    """Return the answer of a view, also where that is a problem; what a transaction has to see comes through."""
    try:
        return view(**kwargs)
    except Undone:
        raise
    except Exception as error:
        return cast(Answer, current_app.make_response(current_app.handle_user_exception(error)))


class Attempt:
    """One request with an idempotency key."""

    def __init__(self, key: str, asked: Operation, work: Callable[[], Answer]) -> None:
        self.asked = asked
        self.work = work
        self.transactional = asked.bounded() and not connection.is_memory(current_app.config["MONGODB_URI"])
        self.account = str(g.identity) if "identity" in g else ""
        self.request = fingerprint()
        # Somebody who is not signed in has no keys of their own: only the very same request gets their answer.
        self.id = digest(self.account or self.request.hex(), key).hex()

    def answer(self) -> Answer:
        """Return the kept answer if there is one, else do the work and keep its answer with it."""
        if (refusal := kept_bytes().refusal(self.account)) is not None:
            if (kept := self.replay()) is None:
                raise refusal
            return kept
        try:
            if not self.transactional:
                return self.replay() or self.keep(self.work())
            if self.asked.beforehand is not None:
                if (kept := self.replay()) is not None:
                    return kept
                current_request().environ[BEFOREHAND] = made_by(self.asked.beforehand)
                return in_transaction(self.first)
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
        forget_expired(self.id)
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
        return {"_id": self.id, **kept_form(self.account, self.request)}

    def keep(self, response: Answer) -> Answer:
        """Keep an answer whose request changed nothing, or cannot be undone; the first one kept stays.

        Of those who are not signed in none is kept but that of a sign-up: anybody could fill the database.
        """
        if response.keepable and (self.account or response.status_code == 201):
            document = {**self.claim(), **self.kept_form(response)}
            KeptAnswer._get_collection().update_one({"_id": self.id}, {"$setOnInsert": document}, upsert=True)
        return response

    def kept_form(self, response: Answer) -> Raw:
        """Return what is kept of an answer; that of a sign-up is kept for the account that it made."""
        body = response.get_data() if response.kept_body is None else response.kept_body
        accounts = accounts_in(orjson.loads(body)) if response.is_json else set()
        noted = response.noted
        account = self.account or next(iter(accounts), "")
        size = len(body) + OVERHEAD
        others = accounts - {account}
        kept: Raw = {"body": body}
        if noted is not None and noted.is_too_much:
            kept, others, size = {}, set(), OVERHEAD
        elif noted is not None and noted.is_any:
            others |= noted.accounts
            records = [
                {"type": type, "reader": reader, "ids": sorted(ids)} for (type, reader), ids in noted.records.items()
            ]
            kept["noted"] = records
            size += sum(map(len, others)) + sum(len(id) for one in records for id in one["ids"])
        kept_bytes().add(account, size)
        headers = [[name, response.headers[name]] for name in KEPT_HEADERS if name in response.headers]
        return {
            "account": account,
            "status": response.status_code,
            "headers": headers,
            "size": size,
            **kept,
            **({"others": sorted(others)} if others else {}),
        }

    def replay(self) -> Answer | None:
        """Return the kept answer, None if there is none.

        It is admitted as a read is: what has another's content is sent as long as that may be read. Raises
        `IdempotencyMismatch` when it is another request's, `NotFound` when what it held is gone or out of sight.
        """
        kept = find_kept(self.id, current_app.config)
        if kept is None:
            return None
        if kept["request"] != self.request:
            raise IdempotencyMismatch("this key came with another request before")
        if "body" not in kept:
            if not self.asked.bounded():
                return None  # each request of a batch has a kept answer of its own
            raise NotFound("it was done; what its answer held is gone")
        if kept.get("others"):
            refuse_unreadable(kept["body"])
        if not all(map(may_be_told, kept.get("noted", ()))):
            raise NotFound("it was done; what its answer held is gone by now, or out of sight")
        response = Answer(kept["body"], kept["status"], kept["headers"])
        response.is_admitted_anew = "noted" in kept
        response = self.asked.replayed(response)
        response.headers["Idempotent-Replayed"] = "true"
        return response


def refuse_unreadable(answer: bytes) -> None:
    """Raise `NotFound` where the `answer` to the request at hand is a record that its identity may not read.

    One that it has made may belong to another all the same: a group belongs to itself.
    """
    type = record_type(current_service(), cast(str, request.endpoint))
    if type is not None:
        id = orjson.loads(answer)["id"]
        identity = security().renewed_identity(g.identity) if type.is_group else g.identity
        condition = {"_id": id, **scope(identity, "read", type)}
        if driver.find_one(type.collection, condition, {"_id": 1}) is None:
            raise NotFound("it was done; there is no such record by now, or none that you may read")


def may_be_told(noted: Raw) -> bool:
    """Tell whether all records of one type that one account has read, for an answer, may be read by it still."""
    type = current_registry().get(noted["type"])
    try:
        reader = identity_of(noted["reader"])
    except NotFound:
        return False
    ids = noted["ids"]
    known = {"_id": {"$in": ids}}
    return type is not None and len(ids) == type.collection.count_documents({**known, **scope(reader, "read", type)})


def accounts_in(told: Any) -> set[str]:
    """Return the accounts whose content the answer to a write is: the owner of a record, or an account itself.

    What a function tells may have members of these names that are something else.
    """
    if not isinstance(told, dict):
        return set()
    named = told["owner"] if "owner" in told else told.get("account", told.get("id")) if "username" in told else None
    if isinstance(named, str):
        return {named}
    parts = told.get("responses")
    bodies = [part.get("body") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    return {account for body in bodies for account in accounts_in(body)}


def fingerprint() -> bytes:
    """Return what tells the request at hand from others: two that mean the same have the same."""
    sent = current_request()
    try:
        body = canonical(sent.body)
    except Problem:
        body = sent.body  # it will be refused, each time that it comes
    conditions = [request.headers.get(name) for name in ("If-Match", "If-None-Match")]
    return digest(sent.method, sent.path.rstrip("/"), orjson.dumps([sent.parameters, conditions]), body)


def digest(*parts: str | bytes) -> bytes:
    """Return a keyed hash of `parts`."""
    return keyed_digest(security().keys.derived("idempotency"), *parts)
