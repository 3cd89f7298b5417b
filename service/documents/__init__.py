"""The nouns of the service. A record type that stands in `RECORDS` has its resources under `/v1`."""

from mongoengine import Document

from service.documents.account import Account
from service.documents.admin_action import AdminAction
from service.documents.authorization_code import AuthorizationCode
from service.documents.awaited_reference import AwaitedReference
from service.documents.blob import Blob, BlobChunk
from service.documents.challenge import Challenge
from service.documents.change import Change
from service.documents.correction import Correction
from service.documents.deleted_content import DeletedContent
from service.documents.event import Event
from service.documents.file import File
from service.documents.group import Group
from service.documents.invitation import Invitation
from service.documents.kept_answer import KeptAnswer
from service.documents.lease import Lease, LeaseLost, Right
from service.documents.linked_identity import LinkedIdentity
from service.documents.measurement import Measurement
from service.documents.migration_run import MigrationRun
from service.documents.note import Note
from service.documents.notebook import Notebook
from service.documents.one_time_code import OneTimeCode
from service.documents.outbox_item import OutboxItem
from service.documents.passkey import Passkey
from service.documents.push_receipt import PushReceipt
from service.documents.push_registration import PushRegistration
from service.documents.record import Record
from service.documents.second_factor import SecondFactor
from service.documents.session import Session
from service.documents.set_aside import SetAside
from service.documents.slow_list import SlowList
from service.documents.spent_token import SpentToken
from service.documents.ticket import Ticket
from service.documents.webhook import Webhook, WebhookMatch

RECORDS: list[type[Record]] = [Notebook, Note, Group, File]
SYSTEM: tuple[type[Document], ...] = (
    *(Account, Session, Event, KeptAnswer, Lease, MigrationRun),
    *(Change, Correction, PushReceipt, AwaitedReference, Ticket, OneTimeCode, OutboxItem, SpentToken, Invitation),
    *(Blob, BlobChunk, SetAside),
    AuthorizationCode,
    Challenge,
    AdminAction,
    *(Webhook, WebhookMatch),
    *(DeletedContent, Measurement, SlowList),
)
"""The document classes with a collection that are no record types."""

__all__ = [
    "RECORDS",
    "SYSTEM",
    "Account",
    "AdminAction",
    "AuthorizationCode",
    "AwaitedReference",
    "Blob",
    "BlobChunk",
    "Challenge",
    "Change",
    "Correction",
    "DeletedContent",
    "Event",
    "File",
    "Group",
    "Invitation",
    "KeptAnswer",
    "Lease",
    "LeaseLost",
    "LinkedIdentity",
    "Measurement",
    "MigrationRun",
    "Note",
    "Notebook",
    "OneTimeCode",
    "OutboxItem",
    "Passkey",
    "PushReceipt",
    "PushRegistration",
    "Record",
    "Right",
    "SecondFactor",
    "Session",
    "SetAside",
    "SlowList",
    "SpentToken",
    "Ticket",
    "Webhook",
    "WebhookMatch",
]
