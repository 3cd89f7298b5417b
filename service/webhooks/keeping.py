"""Webhooks as they are kept: made, changed, given another secret, switched off and removed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal
from urllib.parse import urlsplit

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from service.changes.follower import begin_following
from service.core import metrics
from service.core.clock import now
from service.core.errors import BadQuery, Cause, LimitReached, NotFound, ValidationFailed
from service.core.ids import new_id
from service.core.json_text import decode, encode
from service.core.log import log
from service.documents import Account, OutboxItem, Webhook, WebhookMatch
from service.documents.account import ALIVE
from service.model.registry import Registry
from service.mongo import transactions
from service.mongo.raw import Filter, Raw
from service.outbox.letters import Letter, Letters
from service.outbox.sealing import Seal, Unsealable
from service.outbox.targets import TargetRefused, Targets
from service.policy import ADMIN
from service.query.matching import record_matcher
from service.query.where import listing
from service.webhooks.signing import new_secret

MOST_WEBHOOKS = 50
"""Most webhooks of an installation: each has a thread of its own in every worker."""
LONGEST_WHERE = 4000
"""Most characters of the conditions of a webhook, as JSON."""
MOST_TOLD_ADMINS = 10
"""Most accounts that are told of a webhook that has no owner any more."""
WEBHOOKS = "webhooks"
"""The name of the lease under which they are fed."""
OffReason = Literal["gone", "failing"]


@dataclass(frozen=True, slots=True)
class WebhookPlan:
    """What a webhook is to be: whom it calls, and what about; None is all types, and all of their records."""

    url: str
    types: Sequence[str] | None = None
    where: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, webhook: Raw) -> "WebhookPlan":
        """Return what a stored webhook is."""
        where = webhook.get("where")
        return cls(webhook["url"], webhook.get("types"), None if where is None else decode(where.encode()))

    def stored_form(self) -> tuple[Raw, Raw]:
        """Return what is set and what is unset of it."""
        where = None if self.where is None else encode(self.where).decode()
        form: Raw = {"url": self.url, "types": self.types and [*self.types], "where": where}
        is_set = {name: value for name, value in form.items() if value is not None}
        return is_set, {name: "" for name in form if name not in is_set}


class Webhooks:
    """The webhooks of one installation."""

    def __init__(self, config: Mapping[str, Any], registry: Registry, keys: Sequence[bytes]) -> None:
        """Take the settings, the record types, and the keys for secrets. Raises `ValueError` for a wrong setting."""
        self.registry, self.seal = registry, Seal(keys)
        self.targets = Targets(config["WEBHOOK_ALLOW"])

    # --- What may be asked for ---------------------------------------------------------------------------------------

    def check_url(self, url: str) -> None:
        """Raise `ValidationFailed` for a URL that may not be called, as far as that can be said now.

        Its name is looked up, which may take seconds: do it before a transaction. One that nobody knows yet is good.
        """
        try:
            self.targets.addresses(self.targets.read(url))
        except TargetRefused as error:
            raise ValidationFailed([Cause("not_allowed", str(error), pointer="/url")]) from None
        except OSError:
            return

    def check(self, plan: WebhookPlan) -> None:
        """Raise `ValidationFailed` for types that there are not, or conditions that these do not have."""
        if plan.types is not None:
            self.check_types(plan.types)
        if plan.where is None:
            return
        if len(encode(plan.where)) > LONGEST_WHERE:
            raise ValidationFailed([Cause("too_long", f"at most {LONGEST_WHERE} characters", pointer="/where")])
        for name in self.registry if plan.types is None else plan.types:
            try:
                record_matcher(self.registry[name], plan.where)
            except BadQuery as error:
                raise ValidationFailed([Cause("not_valid", f"{name}: {error.detail}", pointer="/where")]) from None

    def check_types(self, types: Sequence[str]) -> None:
        """Raise `ValidationFailed` for types that there are not."""
        if not types or len(set(types)) != len(types) or not set(types) <= self.registry.keys():
            expected = f"one or several of {listing(tuple(self.registry))}, each once"
            raise ValidationFailed([Cause("not_valid", expected, pointer="/types")])

    # --- What is kept ------------------------------------------------------------------------------------------------

    def make(self, plan: WebhookPlan, owner: str | None) -> Raw:
        """Keep a new webhook, and return it; its URL was checked. Raises `ValidationFailed` and `LimitReached`."""
        self.check(plan)
        # Where no worker has begun yet, it begins with now; what is written from the answer on is told.
        transactions.outside(begin_following, [WEBHOOKS])
        id, moment = new_id(), now()
        content = {
            "_id": id,
            **plan.stored_form()[0],
            "active": True,
            "sealed": self.seal.close({"secrets": [new_secret()]}, id),
            "created_at": moment,
            "updated_at": moment,
        }
        return store_in_place(Webhook.new(content if owner is None else {**content, "owner": owner}))

    def change(self, id: str, asked: Mapping[str, Any]) -> Raw:
        """Change what is `asked` of a webhook, and return it as it is then; a new URL was checked.

        That is `active`, and members of its plan. Switched on, it has a week again. Raises `NotFound` and
        `ValidationFailed`.
        """
        return transactions.run(partial(self.change_at_once, id, asked))

    def change_at_once(self, id: str, asked: Mapping[str, Any]) -> Raw:
        """Do that as a part of a transaction: where another one changes it too, MongoDB has one look again."""
        before = find_webhook(id)
        plan = replace(WebhookPlan.of(before), **{name: asked[name] for name in asked.keys() - {"active"}})
        self.check(plan)
        is_set, unset = plan.stored_form()
        active = asked.get("active", before["active"])
        if active and not before["active"]:
            unset |= {"off_reason": "", "off_at": "", "failing_since": "", "rests_until": ""}
        found = changed_one({"_id": id}, {**is_set, "active": active}, unset)
        if found is None:
            raise not_there()
        return found

    def rotate(self, id: str, keep: timedelta) -> Raw:
        """Give a webhook a new secret, and have the one that it had sign too for a while; return it. Raises `NotFound`.

        What was older signs no more.
        """
        while True:
            row = find_webhook(id)
            sealed = self.seal.close({"secrets": [new_secret(), *self.newest(row)]}, id)
            same = {"_id": id, "sealed": row["sealed"]}
            found = changed_one(same, {"sealed": sealed, "old_secret_until": now() + keep}, {})
            if found is not None:
                return found

    def newest(self, webhook: Raw) -> list[str]:
        """Return the newest secret; none where it was encrypted with a secret of another time."""
        try:
            return self.secrets(webhook)[:1]
        except Unsealable:
            return []

    def secrets(self, webhook: Raw) -> list[str]:
        """Return the secrets that sign now, the newest first. Raises `Unsealable`."""
        found: list[str] = self.seal.open(webhook["sealed"], webhook["_id"])["secrets"]
        return found if webhook.get("old_secret_until", datetime.min) > now() else found[:1]


def store_in_place(webhook: Raw) -> Raw:
    """Store a new webhook in a place that is free, and return it. Raises `LimitReached`."""
    taken = {row["slot"] for row in Webhook._get_collection().find({}, {"slot": 1})}
    for slot in range(MOST_WEBHOOKS):
        if slot in taken:
            continue
        try:
            # An insert of what is there would end the transaction around it; this one changes nothing then.
            stored = Webhook._get_collection().update_one({"slot": slot}, {"$setOnInsert": webhook}, upsert=True)
        except DuplicateKeyError as error:
            # Another one has taken it at the same moment.
            if transactions.is_active():
                transactions.try_again(error)
            continue
        if stored.upserted_id is not None:
            return {**webhook, "slot": slot}
    raise LimitReached(f"there are {MOST_WEBHOOKS} webhooks, and no more may be")


def changed_one(condition: Filter, is_set: Raw, unset: Raw) -> Raw | None:
    """Change a webhook that fulfils a condition, and return it; None where none does."""
    update: dict[str, Any] = {"$set": {**is_set, "updated_at": now()}}
    if unset:
        update["$unset"] = unset
    found: Raw | None = Webhook._get_collection().find_one_and_update(
        condition, Webhook.written(update), return_document=ReturnDocument.AFTER
    )
    return found


def listed_webhooks() -> list[Raw]:
    """Return all webhooks, the oldest first."""
    return list(Webhook._get_collection().find({}, sort=[("created_at", 1), ("_id", 1)]))


def find_webhook(id: str) -> Raw:
    """Return a webhook. Raises `NotFound`."""
    found: Raw | None = Webhook._get_collection().find_one({"_id": id})
    if found is None:
        raise not_there()
    return found


def not_there() -> NotFound:
    """Return what is said of a webhook that there is not."""
    return NotFound("there is no such webhook")


def webhook_kind(id: str) -> str:
    """Return the kind of the items of the outbox that are for a webhook."""
    return f"{KIND_PREFIX}{id}"


def id_in(kind: str) -> str:
    """Return the webhook that items of a kind are for."""
    return kind.removeprefix(KIND_PREFIX)


KIND_PREFIX = "webhook:"


def remove_webhook(id: str) -> Raw:
    """Remove a webhook with all that was, or was to be, sent to it, and return what it was. Raises `NotFound`.

    What is fed to it at this moment is removed by the worker, which looks for items that are for nobody.
    """
    found: Raw | None = Webhook._get_collection().find_one_and_delete({"_id": id})
    if found is None:
        raise not_there()
    # Not a part of a transaction: there may be more of them than one takes.
    transactions.afterwards(lambda: remove_traces(id))
    return found


def remove_traces(id: str) -> None:
    """Remove what is kept for a webhook beside itself."""
    OutboxItem._get_collection().delete_many({"kind": webhook_kind(id)})
    WebhookMatch._get_collection().delete_many({"webhook": id})


# --- How it goes -----------------------------------------------------------------------------------------------------


def note_taken(webhook: Raw) -> None:
    """Note that a call was taken."""
    if "failing_since" in webhook:
        Webhook._get_collection().update_one({"_id": webhook["_id"]}, {"$unset": {"failing_since": ""}})


def note_failure(webhook: Raw) -> datetime:
    """Note that a call was not taken, and return since when none has been."""
    if "failing_since" not in webhook:
        first = {"_id": webhook["_id"], "failing_since": {"$exists": False}}
        Webhook._get_collection().update_one(first, {"$set": {"failing_since": now()}})
        return now()
    since: datetime = webhook["failing_since"]
    return since


def note_rest(webhook: Raw, seconds: float) -> None:
    """Note that a server has asked not to be called for so many seconds, which all workers keep to."""
    rest = {"$max": {"rests_until": now() + timedelta(seconds=seconds)}}
    Webhook._get_collection().update_one({"_id": webhook["_id"], "url": webhook["url"]}, rest)


def seconds_of_rest(webhook: Raw) -> float:
    """Return for how many seconds from now a server has asked not to be called; 0 where it has not."""
    until: datetime = webhook.get("rests_until", datetime.min)
    return max(0.0, (until - now()).total_seconds())


def switch_off(webhook: Raw, reason: OffReason, letters: Letters) -> None:
    """Call a webhook no more, and tell its owner by mail; once, whoever finds it out at the same time."""

    def switch() -> bool:
        as_seen = {"_id": webhook["_id"], "active": True, "url": webhook["url"]}
        if reason == "failing":
            # Not where it was switched on anew, or a call was taken, while this one failed.
            as_seen["failing_since"] = webhook["failing_since"]
        off = {"active": False, "off_reason": reason, "off_at": now()}
        if changed_one(as_seen, off, {}) is None:
            return False
        for account in told_accounts(webhook):
            values = {"host": host_of(webhook["url"]), "webhook": webhook["_id"], "reason": reason, "when": now()}
            language = account.get("locale") or "en"
            letters.post(Letter(account["email"], "webhook_off", language, values, account["_id"]))
        return True

    if transactions.run_where_there_are(switch):
        metrics.WEBHOOKS_OFF.labels(reason).inc()
        log.error("webhook_off", webhook=webhook["_id"], host=host_of(webhook["url"]), reason=reason)


def told_accounts(webhook: Raw) -> list[Raw]:
    """Return who is told of a webhook: its owner, or where that has gone or has no address those who may change it."""
    reached = {"email_key": {"$exists": True}, **ALIVE}
    accounts = Account._get_collection()
    owner = accounts.find_one({"_id": webhook.get("owner"), **reached}) if "owner" in webhook else None
    return [owner] if owner is not None else list(accounts.find({"roles": ADMIN, **reached}, limit=MOST_TOLD_ADMINS))


def host_of(url: str) -> str:
    """Return what logs and mails name of a URL: what stands behind it is often a secret."""
    return urlsplit(url).hostname or ""
