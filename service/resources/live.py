"""Live events, which the streams answer, and the tickets for them."""

from service.context import current_service, g
from service.core.errors import NotSupported
from service.http.openapi import operation
from service.http.web import Answer, json_answer, not_kept
from service.identity.tickets import TICKET_SECONDS
from service.mongo import connection
from service.resources.resource import Resource
from service.security import security

STREAMS_ANSWER = "the streams answer this; ask the door, or them at their own port"
TICKET = {
    "title": "Ticket",
    "type": "object",
    "properties": {"ticket": {"type": "string"}, "expires_in": {"type": "integer"}},
    "required": ["ticket", "expires_in"],
}


class LiveEventStream(Resource):
    """Live events. The streams answer; here they are described, as all else that the service answers."""

    @operation(
        "Follow what changes, as it happens",
        name="followChanges",
        parameters=frozenset({"subscribe", "cursor", "ticket"}),
        answer={200: {"type": "string"}},
        media_type="text/event-stream",
        problems=["bad_query", "too_many_requests", "feed_unavailable", "not_supported"],
    )
    def get(self) -> None:
        """Say that the streams answer: a door hands over to them what comes here."""
        raise NotSupported(STREAMS_ANSWER)


class TicketList(Resource):
    """Tickets of the session that asks."""

    @operation(
        "Get a ticket for one live connection",
        name="createTicket",
        answer={201: TICKET},
        problems=["not_supported"],
        bounded=lambda: False,
    )
    def post(self) -> Answer:
        """Return a ticket, for a browser whose `EventSource` sends no header."""
        if connection.is_memory(current_service().config["MONGODB_URI"]):
            raise NotSupported("live events need a real MongoDB")
        told = {"ticket": security().tickets.issue(g.identity), "expires_in": TICKET_SECONDS}
        return not_kept(json_answer(told, 201))  # it is good once, and of what is secret only hashes are stored
