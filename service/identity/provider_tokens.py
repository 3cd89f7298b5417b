"""What a provider gives us for somebody, and how it is given back: when the account, or the identity, goes.

App stores ask that of apps (RFC 7009; Apple's *Revoke tokens*). Nothing else is done with it: it is encrypted where it
is stored, and only a worker opens it.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import jwt

from service.core.clock import now
from service.core.errors import BadCredentials, ProviderUnavailable
from service.core.ids import new_id
from service.documents import Account
from service.identity import client_secrets, fetching
from service.identity.fetching import RefusedByProvider
from service.identity.id_tokens import Asserted
from service.identity.issuers import Endpoints
from service.identity.providers import GOOGLE, Provider, Providers
from service.mongo.raw import Raw
from service.outbox import items
from service.outbox.dispatch import FOR_A_DAY, Postponed, Refused, Retries, Turn
from service.outbox.items import NewItem
from service.outbox.sealing import Seal, Unsealable

PROVIDER_KIND = "provider"
"""The kind of items that are for a provider."""
REDEEM, REVOKE = "redeem", "revoke"
"""What is to be done: with a code that an app has brought, or with a refresh token."""
CODE_LIFE = timedelta(minutes=5)
"""How long Apple's codes are good; Google's are for longer."""
LONGEST_REFRESH_TOKEN = 4000
VOID_ALREADY = frozenset({"invalid_token", "invalid_grant"})
"""What a provider says of a token that is good for nothing any more."""


def token_answer(provider: Provider, endpoints: Endpoints, client_id: str, sent: Mapping[str, str]) -> dict[str, Any]:
    """Return what the token endpoint of a provider gives for a grant.

    Raises `BadCredentials` where it refuses, `OSError`, `HTTPException` or `ValueError` where it does not work.
    """
    if endpoints.token is None or provider.secret is None:
        raise ValueError(f"{provider.name} has no token endpoint, or we no secret")
    form, headers = client_secrets.proof(endpoints, client_id, provider.secret)
    try:
        text = fetching.post(endpoints.token, provider.issuer.https_only, {**sent, **form}, headers)
    except RefusedByProvider as refusal:
        raise BadCredentials(f"the provider does not take the code: {str(refusal)[:60]!r}") from None
    return fetching.json_in(text, endpoints.token)


def kept_token(seal: Seal, endpoints: Endpoints, client_id: str, found: Mapping[str, Any]) -> Raw | None:
    """Return what an identity keeps of an answer of the token endpoint; None where nothing can be given back."""
    token = found.get("refresh_token")
    if endpoints.revocation is None or not isinstance(token, str) or not 0 < len(token) <= LONGEST_REFRESH_TOKEN:
        return None
    # Encrypted for the item that will revoke it, whose id is made now: it goes there as it is.
    id = new_id()
    return {"token_item": id, "token_sealed": seal.close({"token": token, "client": client_id}, id)}


def revoke_later(identity: Mapping[str, Any]) -> None:
    """Have what a provider gave with an identity revoked, by the transaction of this thread if there is one."""
    if "token_sealed" in identity:
        item = NewItem(PROVIDER_KIND, {"provider": identity["provider"], "to": REVOKE})
        items.add_item(item, identity["token_item"], identity["token_sealed"])


def redeem_later(seal: Seal, provider: Provider, account: str, who: Asserted, code: str | None) -> None:
    """Have a code exchanged that came beside an ID token, where what it gives can be given back one day."""
    known = provider.issuer.known
    if code is None or provider.secret is None or known is None or known.endpoints.revocation is None:
        return
    item = NewItem(PROVIDER_KIND, {"provider": provider.name, "to": REDEEM}, account=account, until=now() + CODE_LIFE)
    id = item.id()
    values = {"code": code, "client": who.client, "key": who.key, "subject": who.subject}
    items.add_item(item, id, seal.close(values, id))


class ProviderSender:
    """Does what there is to do at providers."""

    kind = PROVIDER_KIND
    seconds = 30.0

    def __init__(self, config: Mapping[str, Any], keys: Sequence[bytes]) -> None:
        """Take the settings, and the keys of what is encrypted. Raises `ValueError`."""
        self.providers = Providers(config)
        self.seal = Seal(keys)

    def retries(self, item: Raw) -> Retries:
        """Return how often and how long an item is tried."""
        return FOR_A_DAY

    def send(self, item: Raw, turn: Turn) -> None:
        """Redeem a code, or revoke a token. Raises `Refused`, or `Postponed` where the provider is away."""
        provider = self.providers.by_name.get(item["content"]["provider"])
        if provider is None or provider.secret is None:
            raise Refused("the settings have no such provider, or no secret of it")
        try:
            values = self.seal.open(item["sealed"], item["_id"])
        except Unsealable:
            raise Refused("it was encrypted with a secret that this service does not have") from None
        try:
            endpoints = provider.issuer.current().endpoints
            if item["content"]["to"] == REVOKE:
                self.revoke(provider, endpoints, values["client"], values["token"])
            else:
                self.redeem(provider, endpoints, item["account"], values)
        except ProviderUnavailable:
            # Not `CannotSend`: others may be there.
            raise Postponed("the provider did not answer as it should") from None

    def rest(self) -> None:
        """Do nothing."""

    def revoke(self, provider: Provider, endpoints: Endpoints, client_id: str, token: str) -> None:
        """Revoke a refresh token, with all that the provider gave for it (RFC 7009, section 2)."""
        place, secret = endpoints.revocation, provider.secret
        if place is None or secret is None:
            raise Refused("the provider has no revocation endpoint any more")
        form, headers = client_secrets.proof(endpoints, client_id, secret)
        sent = {"token": token, "token_type_hint": "refresh_token", **form}
        try:
            provider.asking.wait(lambda: fetching.post(place, provider.issuer.https_only, sent, headers))
        except RefusedByProvider as refusal:
            if str(refusal) not in VOID_ALREADY:
                raise Refused(f"the provider refuses: {str(refusal)[:60]!r}") from None

    def redeem(self, provider: Provider, endpoints: Endpoints, account: str, values: Raw) -> None:
        """Keep what a provider gives for a code with the identity that it came for; with none of it, revoke it."""
        # Google asks for one also where there was none, Apple for none then.
        place = {"redirect_uri": ""} if provider.name == GOOGLE else {}
        sent = {"grant_type": "authorization_code", "code": values["code"], **place}
        try:
            found = provider.asking.wait(lambda: token_answer(provider, endpoints, values["client"], sent))
        except BadCredentials as problem:
            raise Refused(problem.detail) from None
        if not is_about(provider, found, values["subject"]):
            raise Refused("the code was given for somebody else")
        kept = kept_token(self.seal, endpoints, values["client"], found)
        if kept is not None and not keep_token(account, values["key"], kept):
            self.revoke(provider, endpoints, values["client"], found["refresh_token"])


def is_about(provider: Provider, found: Mapping[str, Any], subject: str) -> bool:
    """Tell whether an answer of the token endpoint is about somebody.

    It came from there over TLS, so nobody else has written it (OpenID Connect Core 1.0, section 3.1.3.7, item 6).
    """
    try:
        claims = jwt.decode(str(found.get("id_token")), options={"verify_signature": False})
    except jwt.PyJWTError:
        return False
    return claims.get("iss") in provider.issuer_names and claims.get("sub") == subject


def keep_token(account: str, key: str, kept: Mapping[str, Any]) -> bool:
    """Store with an identity what its provider gave last; False where it is not linked any more."""
    here = {"_id": account, "identities.key": key}
    change = Account.written({"$set": {f"identities.$.{name}": value for name, value in kept.items()}})
    return bool(Account._get_collection().update_one(here, change).matched_count)
