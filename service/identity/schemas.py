"""Accounts, sessions and events as clients see them."""

from service.documents import Account, Event, Session
from service.model.schema import Schema

ACCOUNT = Schema(Account)
SESSION = Schema(Session)
EVENT = Schema(Event)
