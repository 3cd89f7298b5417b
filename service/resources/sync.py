"""Sync: the two protocols of the libraries that apps keep their records with, WatermelonDB and RxDB."""

from collections.abc import Callable, Iterable

from service.changes.order import Order
from service.changes.rxdb_documents import problems_text
from service.changes.rxdb_pull import check_version, parse_rxdb_pull
from service.changes.rxdb_push import RxdbPush, parse_documents
from service.changes.watermelon_pull import parse_number, parse_watermelon_pull
from service.changes.watermelon_push import WatermelonPush, parse_rows
from service.context import current_globals, current_registry, g
from service.core.errors import NotSupported
from service.http.arguments import json_text, parameters
from service.http.openapi import operation
from service.http.usage import account_usage
from service.http.web import Answer, json_answer, not_kept
from service.model.record_type import RecordType
from service.mongo import deadline
from service.policy import Identity
from service.resources.changes import current_barrier
from service.resources.live import STREAMS_ANSWER
from service.resources.resource import Resource, tombstones_kept
from service.security import security

PULL_PROBLEMS = ["cursor_expired", "feed_unavailable", "not_supported", "too_many_requests"]
PUSH_PROBLEMS = ["feed_unavailable", "not_supported"]
MOST_TOLD = 4096
"""Most bytes of the header in which a push of RxDB is told what was wrong."""


class WatermelonSync(Resource):
    """What the two functions of WatermelonDB's `synchronize` call."""

    @operation(
        "Pull what has changed, as WatermelonDB has it",
        name="pullWatermelon",
        parameters=frozenset({"last_pulled_at", "schema_version", "migration", "turbo", "tables"}),
        answer={200: "watermelon pull"},
        problems=PULL_PROBLEMS,
    )
    def get(self) -> Answer:
        """Stream all that has changed for this account, up to now."""
        asked = parse_watermelon_pull(current_registry(), parameters(), g.identity.account)
        return streamed(asked.pieces)

    @operation(
        "Push what was changed, as WatermelonDB has it",
        name="pushWatermelon",
        parameters=frozenset({"last_pulled_at"}),
        body="watermelon push",
        answer={200: "watermelon problems"},
        problems=[*PUSH_PROBLEMS, "sync_conflict", "cursor_expired"],
        bounded=lambda: False,
        is_push=True,
    )
    def post(self) -> Answer:
        """Store all that is right, in one transaction, and tell what is not."""
        current_barrier()
        since = parse_number(parameters().get("last_pulled_at"))
        rows = parse_rows(current_registry(), json_text())
        push = WatermelonPush(current_registry(), pusher(), since, rows, tombstones_kept())
        problems = [
            {"table": row.type.name, "id": row.id, "problem": problem.as_dict(g.request_id)}
            for row, problem in deadline.apart(push.done)
        ]
        return not_kept(json_answer({"problems": problems} if problems else {}))


class RxdbSync(Resource):
    """What a replication of RxDB calls, for one record type."""

    def __init__(self, type: RecordType) -> None:
        self.type = type


class RxdbPuller(RxdbSync):
    """Where documents come from."""

    @operation(
        "Pull the next documents, as RxDB has them",
        name="pull{types}",
        parameters=frozenset({"lwt", "id", "limit"}),
        answer={200: "rxdb pull"},
        problems=[*PULL_PROBLEMS, "upgrade_required"],
    )
    def get(self, version: str) -> Answer:
        """Stream the documents that have changed for this account since its checkpoint, as many as it asks for."""
        check_version(self.type, version)
        asked = parse_rxdb_pull(self.type, parameters(), g.identity, security().cursor_key)
        return streamed(asked.pieces)


class RxdbStreamer(RxdbSync):
    """Where documents come from as they change. The streams answer; here it is described."""

    @operation(
        "Follow the documents that change, as RxDB has them",
        name="stream{types}",
        answer={200: {"type": "string"}},
        media_type="text/event-stream",
        problems=["feed_unavailable", "not_supported", "too_many_requests", "upgrade_required"],
    )
    def get(self, version: str) -> None:
        """Say that the streams answer: a door hands over to them what comes here."""
        check_version(self.type, version)
        raise NotSupported(STREAMS_ANSWER)


class RxdbPusher(RxdbSync):
    """Where documents go to."""

    @operation(
        "Push documents, as RxDB has them",
        name="push{types}",
        body="rxdb push",
        answer={200: "rxdb conflicts"},
        headers={200: ["Sync-Problems"]},
        problems=[*PUSH_PROBLEMS, "upgrade_required", "reference_pending"],
        bounded=lambda: False,
        is_push=True,
    )
    def post(self, version: str) -> Answer:
        """Store all that is right, in one transaction, and answer what the client has otherwise than the service."""
        check_version(self.type, version)
        current_barrier()
        rows = parse_documents(json_text())
        push = RxdbPush(current_registry(), pusher(), self.type, rows, tombstones_kept())
        done = deadline.apart(push.done)
        answer = json_answer(done.conflicts)
        if done.problems:
            told = [{"id": id, "problem": problem.as_dict(g.request_id)} for id, problem in done.problems]
            answer.headers["Sync-Problems"] = problems_text(told, MOST_TOLD)
        return not_kept(answer)


def streamed(pieces: Callable[[Order], Iterable[bytes]]) -> Answer:
    """Return the answer of a pull, from the order when that has come to this moment; its making is counted.

    Raises `FeedUnavailable`, `CursorExpired` and `TooManyRequests`.
    """
    account, usage = g.identity.account, account_usage()
    usage.check(account)
    made = pieces(current_barrier().passed())
    return Answer(usage.each(account, made), mimetype="application/json")


def pusher() -> Identity:
    """Return whom a push acts for, with the roles of now; raises `NotAuthenticated` where the session has ended.

    The pull before it went by these. With those that this process remembers, what a role has just brought would be
    taken for gone, and a device that has deleted it is never told of it again.
    """
    return security().renewed_identity(current_globals().identity)
