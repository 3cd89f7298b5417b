"""Client secrets: by which a provider knows that it is us who asks (RFC 6749, section 2.3)."""

import base64
import time
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from service.identity.issuers import Endpoints

SIGNED_SECONDS = 300
"""How long a secret is good that we sign ourselves; Apple takes half a year at most."""


class ClientSecret(Protocol):
    """Makes what is shown with the name of a client."""

    def text(self, client_id: str) -> str:
        """Return the secret of one of our clients, as it is at this moment."""
        ...


@dataclass(frozen=True, slots=True)
class SharedSecret:
    """A text that the provider has given us."""

    secret: str = field(repr=False)

    def text(self, client_id: str) -> str:
        """Return it."""
        return self.secret


@dataclass(frozen=True, slots=True)
class SignedSecret:
    """A JWT that we sign with a key of ours, as Apple wants it (*Creating a client secret*)."""

    team_id: str
    key_id: str
    audience: str
    key: EllipticCurvePrivateKey = field(repr=False)

    def text(self, client_id: str) -> str:
        """Return a new one."""
        moment = int(time.time())
        times = {"iat": moment, "exp": moment + SIGNED_SECONDS}
        claims = {"iss": self.team_id, "sub": client_id, "aud": self.audience, **times}
        return jwt.encode(claims, self.key, "ES256", {"kid": self.key_id})


def proof(endpoints: Endpoints, client_id: str, secret: ClientSecret) -> tuple[dict[str, str], dict[str, str]]:
    """Return members of the form and headers that show who asks: in the way that the issuer takes."""
    text = secret.text(client_id)
    if endpoints.by_form:
        return {"client_id": client_id, "client_secret": text}, {}
    pair = f"{quote(client_id, safe='')}:{quote(text, safe='')}"
    return {}, {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
