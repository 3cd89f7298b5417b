"""The nouns of the service. A record type that stands in `RECORDS` has its resources under `/v1`."""

from mongoengine import Document

from service.documents.account import Account
from service.documents.awaited_reference import AwaitedReference
from service.documents.change import Change
from service.documents.correction import Correction
from service.documents.event import Event
from service.documents.kept_answer import KeptAnswer
from service.documents.lease import Lease, LeaseLost, Right
from service.documents.migration_run import MigrationRun
from service.documents.note import Note
from service.documents.notebook import Notebook
from service.documents.push_receipt import PushReceipt
from service.documents.record import Record
from service.documents.session import Session
from service.documents.ticket import Ticket

RECORDS: list[type[Record]] = [Notebook, Note]
SYSTEM: tuple[type[Document], ...] = (
    *(Account, Session, Event, KeptAnswer, Lease, MigrationRun),
    *(Change, Correction, PushReceipt, AwaitedReference, Ticket),
)
"""The document classes with a collection that are no record types."""

__all__ = [
    "RECORDS",
    "SYSTEM",
    "Account",
    "AwaitedReference",
    "Change",
    "Correction",
    "Event",
    "KeptAnswer",
    "Lease",
    "LeaseLost",
    "MigrationRun",
    "Note",
    "Notebook",
    "PushReceipt",
    "Record",
    "Right",
    "Session",
    "Ticket",
]
