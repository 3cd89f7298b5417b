"""Tickets for live connections: good once, in whatever process, and for a short time."""

import secrets
from datetime import timedelta
from typing import Any

from service.core.clock import now
from service.core.errors import NotAuthenticated
from service.documents import Ticket
from service.identity.sessions import SECRET_BYTES, hashed
from service.mongo import transactions
from service.policy import Identity

TICKET_SECONDS = 30
"""How long a ticket is good: it stands in an address, which more than one program may keep."""
LONGEST_TICKET = 100


class Tickets:
    """Those of all sessions."""

    def issue(self, identity: Identity) -> str:
        """Return a new ticket for the session of an identity.

        It is stored outside of a transaction that may be under way: whoever gets it spends it elsewhere, at once.
        """
        ticket = secrets.token_urlsafe(SECRET_BYTES)
        document = {
            "_id": hashed(ticket.encode()),
            "account": identity.account,
            "session": identity.session,
            "auth_time": identity.auth_time,
            "expires_at": now() + timedelta(seconds=TICKET_SECONDS),
        }
        transactions.outside(Ticket._get_collection().insert_one, document)
        return ticket

    def spend(self, ticket: str) -> dict[str, Any]:
        """Return the claims that a ticket stands for, as those of an access token, and make it void.

        Raises `NotAuthenticated` for one that never was, that is spent, or that is too old.
        """
        if len(ticket) <= LONGEST_TICKET:
            good = {"_id": hashed(ticket.encode()), "expires_at": {"$gt": now()}}
            found = Ticket._get_collection().find_one_and_delete(good)
            if found is not None:
                return {"sub": found["account"], "sid": found["session"], "auth_time": found["auth_time"]}
        raise NotAuthenticated("the ticket is spent, or older than 30 seconds; get a new one")
