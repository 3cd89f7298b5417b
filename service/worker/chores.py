"""The table of what a worker does again and again, with its pause."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from service import functions
from service.changes import order
from service.changes.after_changes import AfterChanges, lease_of
from service.changes.follower import Follower
from service.changes.recorder import Recorder
from service.documents import File, Right
from service.files.stores import store_of
from service.files.uploads import Uploads
from service.identity import deletion, guests
from service.identity.provider_tokens import ProviderSender
from service.identity.security import keys_of
from service.identity.tokens import Tokens
from service.model.hooks import AFTER_CHANGE
from service.model.record_type import RecordType
from service.model.registry import Registry
from service.mongo import connection
from service.outbox import mail
from service.outbox.arrivals import ARRIVALS_EVERY, Listening, Lookout
from service.outbox.bulk_dispatch import BulkDispatcher
from service.outbox.calling import OutwardCaller
from service.outbox.composing import MailSender
from service.outbox.dispatch import AnyDispatcher, Dispatcher, Sender
from service.outbox.jobs import Job, jobs_in
from service.outbox.letters import Letters
from service.outbox.performing import JobSender
from service.outbox.schedule import Schedule
from service.push import waking
from service.push.declared import FOLLOWER, DeclaredPushes
from service.push.fan_out import FanOut
from service.push.sender import PushSender, platforms
from service.records import deletion as records_deletion
from service.records.slow_lists import SLOW_LISTS
from service.upkeep import measurements
from service.webhooks import feeding
from service.webhooks.keeping import WEBHOOKS, Webhooks
from service.webhooks.queues import Queues
from service.webhooks.sending import WebhookSender

ArrivalsOf = Callable[[str], Listening]


@dataclass(frozen=True, slots=True)
class Chore:
    """A piece of work that one process at a time does, every `pause` seconds, or that all do."""

    name: str
    """Of its lease too: another name would be another lease."""
    pause: float
    work: Callable[[Right], Any]
    """Does what there is to do, for as long as its right is held."""
    shared: bool = False
    """Whether all workers do it at once: what they share has leases of its own."""
    trouble: Callable[[], str | None] = lambda: None
    """Says why it cannot be done now, for whoever asks how the worker is."""


def chores(settings: Mapping[str, Any], registry: Registry) -> list[Chore]:
    """Return all chores, for the settings of the service and its record types."""
    age = deletion.last_writes(settings["MONGODB_TIMEOUT"])
    keep, guest_days = timedelta(days=settings["TOMBSTONE_DAYS"]), settings["GUEST_DAYS"]
    found = [
        Chore("sweep", 5.0, lambda right: deletion.sweep(registry, age, lambda: right.held)),
        Chore("release", 5.0, lambda right: records_deletion.release_again(registry, age, lambda: right.held)),
        Chore("merge", 1.0, lambda right: guests.go_on_merging(registry, age, keep, lambda: right.held)),
        measuring(settings),
        Chore("guests", 600.0, lambda right: guests.let_go(registry, guest_days, lambda: right.held)),
    ]
    if File in registry.by_document:
        uploads = Uploads(registry, store_of(settings), settings["FILES_ACCOUNT_BYTES"])
        found.append(Chore("bytes", 5.0, lambda right: uploads.sweep(lambda: right.held)))
        if not uploads.blobs.in_mongodb:
            found.append(Chore("strays", 21_600.0, lambda right: uploads.sweep_strays(lambda: right.held)))
    lookout = Lookout()
    found += [Chore("arrivals", ARRIVALS_EVERY, lookout.look, True), *working_off(settings, lookout.of_kind)]
    if connection.is_memory(settings["MONGODB_URI"]):
        # Mongomock has no change streams.
        return found
    found += [*declared_pushing(registry), *waking_devices(registry)]
    recorder = Recorder(registry, connection.stream_client(settings), keep)
    found.append(Chore(order.RECORDER, 0.0, recorder.step))
    found += [telling(registry, type, keep) for type in registry.values() if AFTER_CHANGE in type.hooks]
    return [*found, *telling_webhooks(settings, registry, lookout)]


def working_off(settings: Mapping[str, Any], arrivals_of: ArrivalsOf) -> list[Chore]:
    """Return the chores of what the outbox holds; `arrivals_of` gives what tells of new items of a kind."""
    found = [sending(sender, arrivals_of) for sender in senders(settings)]
    return [*found, *pushing(settings, arrivals_of), *doing_jobs(jobs_in(functions.modules()), settings, arrivals_of)]


def measuring(settings: Mapping[str, Any]) -> Chore:
    """Return the chore that stores each minute what was counted, and which lists were slow: every program does it."""

    def measure(_right: Right) -> None:
        measurements.measure(settings["MONGODB_URI"])
        SLOW_LISTS.store()

    return Chore("measurements", measurements.EVERY, measure, shared=True)


def telling(registry: Registry, type: RecordType, keep: timedelta) -> Chore:
    """Return the chore of the hook of one record type that hears of changes."""
    told = AfterChanges(registry, type, keep)
    return Chore(lease_of(type.name), 0.0, told.step, trouble=lambda: told.trouble)


def senders(settings: Mapping[str, Any]) -> list[Sender]:
    """Return what sends the items of the outbox, one for each kind. Raises `ValueError` for settings that are wrong."""
    keys = keys_of(settings, Tokens(settings)).each("outbox")
    found: list[Sender] = [MailSender(settings, keys)] if mail.is_available(settings) else []
    return [*found, ProviderSender(settings, keys)] if settings["PROVIDERS"] else found


def pushing(settings: Mapping[str, Any], arrivals_of: ArrivalsOf) -> list[Chore]:
    """Return the chores of notifications: one for each platform, so that one that hangs delays no other."""
    senders = [PushSender(platform) for platform in platforms(settings)]
    each = [dispatching(BulkDispatcher(sender, arrivals_of(sender.kind))) for sender in senders]
    return [sending(FanOut(), arrivals_of), *each]


def declared_pushing(registry: Registry) -> list[Chore]:
    """Return the chore of what record types declare, where one does."""
    declared = DeclaredPushes(registry)
    if not declared.types:
        return []
    follower = Follower(FOLLOWER, declared.types, declared.tell)
    return [Chore(FOLLOWER, 0.0, follower.step)]


def waking_devices(registry: Registry) -> list[Chore]:
    """Return the chores that wake devices: one notes for which there is something new, the other sends to them."""
    follower = Follower(waking.WAKING, waking.waking_types(registry), waking.note_news, False, waking.has_sleepers)
    return [Chore(waking.WAKING, 0.0, follower.step), Chore("wakes", 1.0, waking.wake_due)]


def doing_jobs(jobs: Mapping[str, Job], settings: Mapping[str, Any], arrivals_of: ArrivalsOf) -> list[Chore]:
    """Return the chores of jobs: one for each that this worker does at once, and one that keeps to their schedules."""
    schedule = Schedule(jobs)
    kept = Chore("schedule", 2.0, lambda right: schedule.keep(), trouble=lambda: schedule.trouble)
    return [kept, *(sending(JobSender(jobs), arrivals_of, not number) for number in range(settings["JOB_THREADS"]))]


def telling_webhooks(settings: Mapping[str, Any], registry: Registry, lookout: Lookout) -> list[Chore]:
    """Return the chores of webhooks: one feeds them from the order of changes, the other calls them."""
    keys = keys_of(settings, Tokens(settings))
    webhooks = Webhooks(settings, registry, keys.each("webhooks"))
    letters, caller = Letters(settings, keys.each("outbox")), OutwardCaller(webhooks.targets)
    follower: Follower = Follower(
        WEBHOOKS,
        [*registry],
        lambda _right, passage: feeding.feed(registry, passage.changes, follower.since),
        is_awaited=feeding.has_listeners,
    )
    queues = Queues(partial(WebhookSender, webhooks, letters, caller), lookout)
    return [Chore(WEBHOOKS, 0.0, follower.step), Chore("calls", 0.0, queues.work, True)]


def sending(sender: Sender, arrivals_of: ArrivalsOf, counts: bool = True) -> Chore:
    """Return the chore of one sender: any number of workers, and of threads, share its items; one `counts` them."""
    return dispatching(Dispatcher(sender, arrivals_of(sender.kind), counts))


def dispatching(dispatcher: AnyDispatcher) -> Chore:
    """Return the chore of a dispatcher."""
    return Chore(dispatcher.kind, 0.0, dispatcher.step, True, lambda: dispatcher.trouble)
