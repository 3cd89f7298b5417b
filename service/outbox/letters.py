"""Letters: mails that the service sends, stored in the transaction of the write that causes them."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import limits
from email_validator import EmailNotValidError, ValidatedEmail, validate_email
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

from service.core import metrics
from service.core.errors import TooManyRequests
from service.core.log import log
from service.documents import Account
from service.documents.account import address_key
from service.mongo import transactions
from service.mongo.rates import rate_storage
from service.outbox import items, mail
from service.outbox.items import NewItem
from service.outbox.rendering import TEMPLATES, Needs, Renderer
from service.outbox.sealing import Seal

Value = str | int | datetime
Obstacle = Literal["unavailable", "bounced", "mailbox", "all"]
VERIFICATION = "verify_address"
"""What is sent to an address that mails have come back from too: its owner may ask for another try."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail that has to be sent.

    `values` are those that the template asks for: `rendering.TEMPLATES`. With the deletion of `account` it goes while
    it waits. Of two with one `dedupe_key` the first is stored. After `until`, in UTC, it is of no use: give it for all
    that holds a code or a link. Raises `ValueError` for what cannot be sent.
    """

    to: str
    template: str
    language: str = "en"
    values: Mapping[str, Value] = field(default_factory=dict)
    account: str | None = None
    dedupe_key: str | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        if self.template not in TEMPLATES:
            raise ValueError(f"there is no template {self.template!r}")
        asked, given = self.needs.values, self.values.keys()
        if not asked <= given <= asked | self.needs.optional:
            raise ValueError(f"{self.template} is handed {sorted(given)}, and asks for {sorted(asked)}")
        # Frozen for all others: the address is kept as it is sent.
        object.__setattr__(self, "to", address(self.to).normalized)

    @property
    def needs(self) -> Needs:
        """What its template asks for."""
        return TEMPLATES[self.template]


def address(text: str) -> ValidatedEmail:
    """Return an address taken apart, in Unicode and in ASCII. Raises `ValueError` for what is none."""
    try:
        return validate_email(text, check_deliverability=False)
    except EmailNotValidError as error:
        raise ValueError(f"not an address that mail can be sent to: {error}") from None


class Letters:
    """Stores letters, at most so many for one mailbox and in all as the settings allow."""

    def __init__(self, config: Mapping[str, Any], keys: Sequence[bytes]) -> None:
        """Take the settings, and the keys for what nobody may read: the first encrypts, all decrypt.

        Raises `ValueError` for settings that are not right.
        """
        self.available = mail.is_available(config)
        self.limited: bool = config["RATELIMIT_ENABLED"]
        # For what it raises: a template that is no good stops the start, and not the first mail.
        Renderer(config["APP_NAME"], config["MAIL_TEMPLATES"])
        self.seal = Seal(keys)
        storage = rate_storage(config)
        self.windows, self.counters = MovingWindowRateLimiter(storage), FixedWindowRateLimiter(storage)
        self.to_one = limits.parse(config["RATELIMIT_MAILS_ADDRESS"])
        self.in_all = limits.parse(config["RATELIMIT_MAILS"])

    def post(self, letter: Letter) -> bool:
        """Store a letter, in the transaction of this thread if there is one; return whether it will be sent."""
        return self.withheld(letter) is None

    def post_asked_for(self, letter: Letter) -> None:
        """Store a letter that somebody has asked for. Raises `TooManyRequests` where it is one too many.

        Where mails came back it is answered as elsewhere: nobody learns so that an account has the address.
        """
        if self.withheld(letter) not in (None, "bounced"):
            raise TooManyRequests("too many mails were sent; wait before the next", retry_after=60)

    def withheld(self, letter: Letter) -> Obstacle | None:
        """Store a letter as `post` does, and return None; or return why it will not be sent.

        It will not where too many were sent to its mailbox or in all, where mails to it came back, or where the
        settings name no way to send mail.
        """
        item = NewItem(
            mail.KIND,
            {"to": letter.to, "template": letter.template, "language": letter.language},
            letter.account,
            letter.dedupe_key,
            letter.until,
        )
        id = item.id()
        if letter.dedupe_key is not None and items.has_item(id):
            return None
        if (reason := self.obstacle(letter)) is not None:
            log.warning("mail_withheld", template=letter.template, reason=reason)
            metrics.MAILS_WITHHELD.labels(reason).inc()
            return reason
        items.add_item(item, id, self.seal.close(dict(letter.values), id) if letter.values else None)
        return None

    def obstacle(self, letter: Letter) -> Obstacle | None:
        """Return why a letter must not be sent; unless it is one too many, it is counted.

        Outside of the transaction: it counts whatever becomes of that, and what is tried again counts again. One to an
        address that mails come back from counts too, for who causes letters must not learn of which addresses that is.
        """
        if not self.available:
            return "unavailable"
        if (too_many := self.too_many(letter)) is not None:
            return too_many
        return "bounced" if letter.template != VERIFICATION and has_bounced(letter.to) else None

    def too_many(self, letter: Letter) -> Obstacle | None:
        """Count a letter, and return where there were too many to send it: to its mailbox, or in all."""
        if not self.limited:
            return None
        counted = letter.needs.counted
        # First by mailbox: a storm on one must not take the room of all others.
        if not transactions.outside(self.windows.hit, self.to_one, "mail", counted, mailbox(letter.to)):
            return "mailbox"
        return None if transactions.outside(self.counters.hit, self.in_all, "mails", counted) else "all"


def has_bounced(address: str) -> bool:
    """Tell whether somebody has said that mails to this address of an account come back."""
    key = address_key(address)
    return Account._get_collection().find_one({"email_key": key, "email_bounced": key}, {"_id": 1}) is not None


def mailbox(address: str) -> str:
    """Return what the addresses of one mailbox have in common, and hardly any others, hashed.

    Many providers deliver `a.b+c@…` to `ab@…`, so one mailbox has any number of addresses.
    """
    local, _, domain = address.rpartition("@")
    owner = re.sub(r"\+.*|\.", "", local, flags=re.DOTALL)
    return hashlib.sha256(f"{owner}@{domain}".casefold().encode()).hexdigest()
