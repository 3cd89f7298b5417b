"""Invitations: a manager makes one, and who has its code or its link joins the group by themselves.

Both are derived from its id with a key, so that a retry is told the same, and only hashes of them are stored. Whether
an invitation is good is looked at when it is accepted, in the transaction in which somebody joins: it has uses left,
and who made it still manages the group.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from service.core.base64url import encode_base64url
from service.core.clock import now
from service.core.errors import Forbidden, LimitReached, NotFound, NotSupported
from service.core.ids import new_id
from service.documents import Account, Event, Group, Invitation
from service.documents.account import ALIVE, NOT_LOCKED, address_key
from service.identity.codes import CODE_CHARACTERS, LONGEST_SENT, dashed, undashed
from service.identity.keys import Keys
from service.identity.links import Links
from service.identity.memberships import GroupRole, Memberships, claim, entry_of, join_group, member_of
from service.identity.sessions import hashed
from service.identity.throttle import Throttle
from service.mongo import transactions
from service.mongo.raw import Filter, Raw
from service.outbox.letters import Letter, Letters
from service.policy import MANAGER

INVITATION_CHARACTERS = 16
"""Characters of a code, 79 bits: it is good for days, from anywhere, so nobody may come upon one of many by trying."""
MOST_INVITATIONS = 100
"""Most invitations of a group that can still be accepted."""
MOST_USES = 100
"""Most accounts that one invitation brings in."""
VOID = (
    "there is no such invitation, or not any more, or it is for another e-mail address: verify the one it was sent to"
)


@dataclass(frozen=True, slots=True)
class Offer:
    """What somebody invites to: a role, for so many accounts, or for the one with a verified address."""

    role: GroupRole
    uses: int = 1
    email: str | None = None


@dataclass(frozen=True, slots=True)
class MadeInvitation:
    """An invitation as it is stored, and what is nowhere stored: its code and its link."""

    stored: Raw
    code: str
    link: str


class Invitations:
    """Those of all groups. `Memberships` say on whose behalf: what they may is asked of MongoDB each time."""

    def __init__(
        self, config: Mapping[str, Any], keys: Keys, links: Links, letters: Letters, throttle: Throttle
    ) -> None:
        self.keys, self.links, self.letters, self.throttle = keys, links, letters, throttle
        self.days: int = config["INVITATION_DAYS"]

    # --- Of managers ---

    def make(self, members: Memberships, group: str, offer: Offer, language: str, client: str) -> MadeInvitation:
        """Make an invitation to a group, and send it where it is for an address.

        Raises `NotFound`, `Forbidden`, `LimitReached`, `TooManyRequests`, or `NotSupported` where no mail is sent.
        """
        if offer.email is not None and not self.letters.available:
            raise NotSupported("this service sends no mail: MAIL_URL is not set")
        self.throttle.invitation(members.identity.account, client)
        work = partial(self.make_at_once, members, group, offer, language, client)
        return transactions.run_where_there_are(work)

    def make_at_once(
        self, members: Memberships, group: str, offer: Offer, language: str, client: str
    ) -> MadeInvitation:
        """Do that as a part of a transaction, which writes to the group: its maker is a manager to the end."""
        members.check_manages(group)
        claim(members.registry, group)
        if Invitation._get_collection().count_documents(still_good(group), limit=MOST_INVITATIONS) >= MOST_INVITATIONS:
            raise LimitReached(f"a group has {MOST_INVITATIONS} open invitations at most; revoke one first")
        account, id, made_at = members.identity.account, new_id(), now()
        code, token = self.derived(id, self.keys.secrets[0])
        stored = {
            "_id": id,
            "group": group,
            "role": offer.role,
            "uses": offer.uses,
            "left": offer.uses,
            "inviter": account,
            "created_at": made_at,
            "expires_at": made_at + timedelta(days=self.days),
            "code_hash": self.mac(code, self.keys.secrets[0]),
            "token_hash": hashed(token.encode()),
            "taken_by": [],
        }
        if offer.email is not None:
            stored |= {"email": offer.email, "email_key": address_key(offer.email)}
        made = MadeInvitation(stored, dashed(code), self.links.join(token))
        if offer.email is not None:
            self.send(made, language)
        Invitation._get_collection().insert_one(stored)
        Event.record(account, "invitation_made", client)
        return made

    def told_again(self, id: str) -> MadeInvitation:
        """Return an invitation with its code and its link, as it was told when it was made. Raises `NotFound`."""
        stored = Invitation._get_collection().find_one({"_id": id})
        for secret in self.keys.secrets if stored is not None else ():
            code, token = self.derived(id, secret)
            if hashed(token.encode()) == stored["token_hash"]:
                return MadeInvitation(stored, dashed(code), self.links.join(token))
        raise NotFound("it was done; the invitation is gone by now")

    def derived(self, id: str, secret: str) -> tuple[str, str]:
        """Return the code and the token of the invitation with an id; who does not have the secret cannot make them."""
        token = hmac.digest(self.keys.derived("invitation token", secret), id.encode(), "sha256")
        drawn = int.from_bytes(hmac.digest(self.keys.derived("invitation code", secret), id.encode(), "sha256"))
        characters = []
        for _ in range(INVITATION_CHARACTERS):
            drawn, place = divmod(drawn, len(CODE_CHARACTERS))
            characters.append(CODE_CHARACTERS[place])
        return "".join(characters), encode_base64url(token)

    def send(self, made: MadeInvitation, language: str) -> None:
        """Store the letter of an invitation. Raises `Forbidden` where nobody could tell from whom it is."""
        stored = made.stored
        account = Account._get_collection().find_one({"_id": stored["inviter"], **ALIVE}) or {}
        inviter = account.get("display_name") or account.get("username")
        if not inviter or "guest_seen_at" in account:
            raise Forbidden("a mail says who invites: take a username or, if you are no guest, a display name first")
        group = Group._get_collection().find_one({"_id": stored["group"]}, {"name": 1}) or {}
        values = {
            "inviter": inviter,
            "group": group.get("name", ""),
            "code": made.code,
            "link": made.link,
            "days": self.days,
        }
        spoken, until = account.get("locale") or language, stored["expires_at"]
        letter = Letter(stored["email"], "invitation", spoken, values, stored["inviter"], until=until)
        self.letters.post_asked_for(letter)

    def listed(self, members: Memberships, group: str) -> list[Raw]:
        """Return the invitations to a group that are still good, the oldest first. Raises `NotFound`, `Forbidden`."""
        members.check_manages(group)
        rows = Invitation._get_collection().find(still_good(group), sort=[("_id", 1)], limit=MOST_INVITATIONS)
        return list(rows)

    def revoke(self, members: Memberships, group: str, invitation: str, client: str) -> None:
        """Make an invitation void, whoever made it. Raises `NotFound` or `Forbidden`."""
        members.check_manages(group)
        gone = Invitation._get_collection().delete_one({"_id": invitation, "group": group})
        if not gone.deleted_count:
            raise NotFound("there is no such invitation")
        Event.record(members.identity.account, "invitation_revoked", client)

    # --- Of those who are invited ---

    def accept(self, members: Memberships, given: str, client: str) -> tuple[Raw, str, bool]:
        """Join the group to which the code or the token of a link invites.

        Returns the own account, the group, and whether it came to be a member by this: who is one stays as they are.
        Raises `NotFound` whatever is wrong with the invitation, which counts as a failed login, `LimitReached`, or
        `TooManyRequests`.
        """
        with self.throttle.counting(f"invitation {members.identity.account}", client, NotFound):
            return transactions.run_where_there_are(partial(self.accept_at_once, members, given))

    def accept_at_once(self, members: Memberships, given: str) -> tuple[Raw, str, bool]:
        """Do that as a part of a transaction."""
        me = members.identity.account
        found, account = self.known(given), Account._get_collection().find_one({"_id": me, **ALIVE})
        if found is None or account is None or not is_for(found, account):
            raise NotFound(VOID)
        group = found["group"]
        if entry_of(account, group):
            return account, group, False
        if not is_good(found, me):
            raise NotFound(VOID)
        try:
            claim(members.registry, group)
        except NotFound:
            raise NotFound(VOID) from None
        join_group(group, me, found["role"])
        if not take_one(found["_id"], me):
            raise NotFound(VOID)
        return member_of(group, me), group, True

    def known(self, given: str) -> Raw | None:
        """Return the invitation with a code, however it is typed, or with the token of a link; None for none."""
        if len(given) > LONGEST_SENT:
            return None
        code = undashed(given)
        same: Filter = {"token_hash": hashed(given.encode())}
        if len(code) == INVITATION_CHARACTERS:
            same = {"code_hash": {"$in": [self.mac(code, secret) for secret in self.keys.secrets]}}
        found: Raw | None = Invitation._get_collection().find_one({**same, "expires_at": {"$gt": now()}})
        return found

    def mac(self, code: str, secret: str) -> str:
        """Return what is stored of a code: whoever reads the database alone cannot look for it."""
        return hmac.digest(self.keys.derived("invitation", secret), code.encode(), "sha256").hex()


def still_good(group: str) -> dict[str, Any]:
    """Return the filter of the invitations to a group that can be accepted."""
    return {"group": group, "left": {"$gt": 0}, "expires_at": {"$gt": now()}}


def is_for(invitation: Raw, account: Raw) -> bool:
    """Tell whether an account may accept: anybody, or the one that has verified the address that is named."""
    return invitation.get("email_key") in (None, account.get("email_key"))


def is_good(invitation: Raw, account: str) -> bool:
    """Tell whether an invitation brings an account in: once, while uses are left, and by somebody who manages."""
    if invitation["left"] < 1 or account in invitation["taken_by"]:
        return False
    manages = {"groups": {"$elemMatch": {"group": invitation["group"], "role": MANAGER}}}
    inviter = {"_id": invitation["inviter"], **ALIVE, **NOT_LOCKED, **manages}
    return Account._get_collection().find_one(inviter, {"_id": 1}) is not None


def take_one(invitation: str, account: str) -> bool:
    """Take one use of an invitation, in one conditional write; False where none was left for this account."""
    there = {"_id": invitation, "left": {"$gt": 0}, "expires_at": {"$gt": now()}, "taken_by": {"$ne": account}}
    taken = {"$inc": {"left": -1}, "$push": {"taken_by": account}}
    return bool(Invitation._get_collection().update_one(there, taken).modified_count)
