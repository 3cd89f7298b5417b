"""Uploads with an idempotency key: sent again, each is one file, and its first answer comes again."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
from pymongo.errors import DuplicateKeyError

from service.core.errors import IdempotencyMismatch, Problem, TooManyRequests
from service.documents import KeptAnswer
from service.identity.keys import Keys
from service.mongo.raw import Raw
from service.records import kept_answers
from service.streams.exchange import Request, Response, response_to


class UploadRetry(NamedTuple):
    """A request with a key: the id of its kept answer, whose it is, and what tells it from other requests."""

    id: str
    account: str
    request: bytes


class UploadRetries:
    """Keeps the first answers of uploads, beside those that the API keeps: a key is an account's, for all routes."""

    def __init__(self, settings: Mapping[str, Any], keys: Keys) -> None:
        """Take the settings of kept answers and the keys from which their ids come."""
        self.settings, self.secret = settings, keys.derived("idempotency")
        self.most: int = settings["KEPT_ANSWERS_ACCOUNT_BYTES"]

    def of(self, request: Request, account: str, content: Mapping[str, Any], sha256: str) -> UploadRetry | None:
        """Return the retry that an upload of this content may be; None for one without a key."""
        key = request.headers.get("idempotency-key")
        if key is None:
            return None
        kept_answers.check_idempotency_key(key)
        said = orjson.dumps(content, default=str, option=orjson.OPT_SORT_KEYS)
        told = kept_answers.keyed_digest(self.secret, request.method, request.path.rstrip("/"), said, sha256)
        return UploadRetry(kept_answers.keyed_digest(self.secret, account, key).hex(), account, told)

    def kept(self, retry: UploadRetry) -> Response | None:
        """Return the kept answer, None where there is none. Raises `IdempotencyMismatch` and `TooManyRequests`."""
        found = kept_answers.find_kept(retry.id, self.settings)
        if found is None:
            if kept_answers.bytes_of(retry.account) >= self.most:
                raise TooManyRequests(kept_answers.NO_ROOM_FOR_ANOTHER, kept_answers.ROOM_AFTER)
            kept_answers.forget_expired(retry.id)
            return None
        if found["request"] != retry.request:
            raise IdempotencyMismatch("this key came with another request before")
        headers = tuple((name, text) for name, text in found["headers"])
        return Response(found["status"], found["body"], (*headers, ("Idempotent-Replayed", "true")))

    def keep(self, retry: UploadRetry, answer: Response) -> None:
        """Keep an answer, as a part of the transaction that makes its file. Raises `DuplicateKeyError`."""
        KeptAnswer._get_collection().insert_one(self.stored(retry, answer))

    def keep_problem(self, retry: UploadRetry, problem: Problem, request: Request) -> None:
        """Keep an answer that a request has changed nothing, where it is one about the request; the first one stays."""
        if problem.keepable:
            stored = self.stored(retry, response_to(problem, request))
            try:
                KeptAnswer._get_collection().update_one({"_id": retry.id}, {"$setOnInsert": stored}, upsert=True)
            except DuplicateKeyError:
                return  # another one has kept its own at the same moment

    def stored(self, retry: UploadRetry, answer: Response) -> Raw:
        """Return what is stored of an answer."""
        assert isinstance(answer.body, bytes)  # noqa: S101  an answer in pieces is none of an upload
        told = {"status": answer.status, "headers": [list(pair) for pair in answer.headers], "body": answer.body}
        size = len(answer.body) + kept_answers.OVERHEAD
        return {"_id": retry.id, **kept_answers.kept_form(retry.account, retry.request), **told, "size": size}
