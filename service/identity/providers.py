"""Providers: which OpenID issuers people may sign in with, as the setting `PROVIDERS` names them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.core.errors import NotFound
from service.core.pem import elliptic_key
from service.identity.client_secrets import ClientSecret, SharedSecret, SignedSecret
from service.identity.fetching import Limited
from service.identity.issuers import Issuer

GOOGLE, APPLE = "google", "apple"
KNOWN_ISSUERS = {GOOGLE: "https://accounts.google.com", APPLE: "https://appleid.apple.com"}
OTHER_SPELLINGS = {"https://accounts.google.com": "accounts.google.com"}
"""What an issuer calls itself in tokens beside its URL."""
PROVIDER_NAME = re.compile("(?!exchange$)[a-z0-9][a-z0-9-]{0,39}")
"""What a provider may be called; `exchange` is a path of its own."""
WEB = "web"
"""The platform whose client is that of sign-in in a browser."""
WITHOUT_HTTPS = ("local", "test")
"""The environments in which an issuer may be asked without TLS."""


class ProviderSettings(BaseModel):
    """What `PROVIDERS` says of one provider."""

    model_config = ConfigDict(extra="forbid", strict=True)

    issuer: str | None = None
    client_ids: dict[str, Annotated[str, Field(min_length=1, max_length=500)]] = Field(min_length=1)
    client_secret: Annotated[str, Field(min_length=1, max_length=2000)] | None = None
    team_id: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    key_id: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    private_key: Annotated[str, Field(max_length=10_000)] | None = None


@dataclass(frozen=True, slots=True)
class Provider:
    """An issuer, what we are called there, and how apps hand it a nonce."""

    name: str
    issuer: Issuer
    client_ids: frozenset[str]
    hashes_nonce: bool
    """Whether the token holds the SHA-256 of the app's nonce in hexadecimal digits, as Apple's do."""
    web_client: str | None = None
    """What we are called there in a browser, None where the settings do not say it."""
    secret: ClientSecret | None = None
    """What shows there that it is us, None where the settings have none."""
    asking: Limited = field(default_factory=Limited, compare=False)

    @property
    def answers_by_form(self) -> bool:
        """Tell whether it sends the browser back by a form, as Apple does where it is asked for an address."""
        return self.name == APPLE

    @property
    def issuer_names(self) -> list[str]:
        """Return what `iss` may be."""
        url = self.issuer.url
        return [url, OTHER_SPELLINGS[url]] if url in OTHER_SPELLINGS else [url]


class Providers:
    """Those of one program."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Read the settings once. Raises `ValueError` with a sentence for one that is wrong."""
        https_only = config["ENVIRONMENT"] not in WITHOUT_HTTPS
        self.by_name = {name: provider(name, about, https_only) for name, about in config["PROVIDERS"].items()}

    def named(self, name: str) -> Provider:
        """Return the provider of a name. Raises `NotFound`."""
        if name not in self.by_name:
            raise NotFound("there is no such provider")
        return self.by_name[name]


def provider(name: str, about: Any, https_only: bool) -> Provider:
    """Return a provider as `PROVIDERS` describes it. Raises `ValueError`."""
    place = f"PROVIDERS.{name}"
    if not PROVIDER_NAME.fullmatch(name):
        raise ValueError(f"{place}: a provider is named with a to z, 0 to 9 and -, at most 40")
    try:
        settings = ProviderSettings.model_validate(about)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join((place, *map(str, first['loc'])))}: {first['msg']}") from None
    url = settings.issuer or KNOWN_ISSUERS.get(name)
    if url is None:
        raise ValueError(f"{place}.issuer has to be set: the URL that the provider calls its issuer")
    check_issuer(f"{place}.issuer", url, https_only)
    return Provider(
        name,
        Issuer(url, https_only),
        frozenset(settings.client_ids.values()),
        hashes_nonce=name == APPLE,
        web_client=settings.client_ids.get(WEB),
        secret=secret_of(place, settings, name == APPLE, url),
    )


def secret_of(place: str, settings: ProviderSettings, is_signed: bool, audience: str) -> ClientSecret | None:
    """Return the secret that the settings have, None for none. Raises `ValueError`, which repeats none."""
    parts = {"team_id": settings.team_id, "key_id": settings.key_id, "private_key": settings.private_key}
    if not is_signed:
        if any(value is not None for value in parts.values()):
            raise ValueError(f"{place}: team_id, key_id and private_key are Apple's; this takes a client_secret")
        return None if settings.client_secret is None else SharedSecret(settings.client_secret)
    if settings.client_secret is not None:
        raise ValueError(f"{place}.client_secret is made here: give team_id, key_id and private_key in its place")
    if settings.team_id is None or settings.key_id is None or settings.private_key is None:
        if lacking := [name for name, value in parts.items() if value is None] if any(parts.values()) else []:
            raise ValueError(f"{place}.{lacking[0]} has to be set too: team_id, key_id and private_key go together")
        return None
    try:
        key = elliptic_key(settings.private_key)
    except ValueError as error:
        raise ValueError(f"{place}.private_key: {error}") from None
    return SignedSecret(settings.team_id, settings.key_id, audience, key)


def check_issuer(place: str, url: str, https_only: bool) -> None:
    """Raise `ValueError` for what is no URL of an issuer (OpenID Connect Core 1.0, section 2)."""
    parts = urlsplit(url)
    if parts.scheme != "https" and (https_only or parts.scheme != "http"):
        raise ValueError(f"{place} has to begin with https://")
    if not parts.hostname or parts.username is not None or "?" in url or "#" in url or not url.isprintable():
        raise ValueError(f"{place} has to be a URL with a host, without user, query and fragment")
