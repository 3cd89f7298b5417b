"""The first admin of an installation: made by a link that is printed at a start, and good once."""

from datetime import timedelta
from typing import Any

from service.core.base64url import decode_base64url, encode_base64url
from service.core.errors import ValidationFailed
from service.documents import Account, Event
from service.documents.account import ALIVE
from service.identity.accounts import account_by_name, store_account, taken_username
from service.identity.challenges import OpenChallenges
from service.identity.keys import Keys
from service.identity.passwords import Hashing, new_password
from service.identity.schemas import ACCOUNT
from service.model import operands
from service.mongo.raw import Raw
from service.policy import ADMIN

FIRST_LIFE = timedelta(hours=1)
"""How long the link is good: somebody has just typed the command that prints it."""
FIRST_PATH = "/admin/first"
LONGEST_FIRST = 200


def is_without_admin() -> bool:
    """Tell whether no account may enter the console."""
    return Account._get_collection().find_one({"roles": ADMIN, **ALIVE}, {"_id": 1}) is None


class FirstAdmin:
    """Makes the link, and the account of whoever follows it, as long as there is no admin."""

    def __init__(self, keys: Keys) -> None:
        self.links = OpenChallenges(keys.each("first admin"), FIRST_LIFE)

    def token(self) -> str:
        """Return the token of a new link; nothing is stored."""
        return encode_base64url(self.links.make())

    def make(self, token: str, username: str, password: str, hashing: Hashing, address: str) -> Raw | None:
        """Return a new account with the role of admins; None where the token is spent, too old or none of ours.

        Raises `ValidationFailed` or `AlreadyExists` for what the account cannot be called or guarded with: then the
        token is still good.
        """
        if not self.is_ours(token):
            return None
        content, checked = checked_account(username, password)
        if account_by_name(username) is not None:
            raise taken_username()
        password_hash = hashing.hash(checked)
        if not is_without_admin() or not self.links.spend(decode_base64url(token)):
            return None
        account = store_account({**content, "roles": [ADMIN]}, password_hash)
        Event.record(account["_id"], "sign_up", address)
        return account

    def is_ours(self, token: str) -> bool:
        """Tell whether we made a token, within the hour: MongoDB is not asked, for anybody may send one."""
        try:
            return len(token) <= LONGEST_FIRST and self.links.end_of(decode_base64url(token)) is not None
        except ValueError:
            return False


def checked_account(username: str, password: str) -> tuple[dict[str, Any], str]:
    """Return the content of a new account, and its password. Raises `ValidationFailed` with all that is wrong."""
    found: list[Any] = []
    body = {"username": username, "password": password}
    content = operands.collected(found, lambda: ACCOUNT.load({"username": username}))
    checked = operands.collected(found, lambda: new_password(body, "password", username))
    if found:
        raise ValidationFailed(found)
    return content, checked
