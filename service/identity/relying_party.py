"""The relying party of WebAuthn, level 3: what it asks of authenticators, and whether what they sign is good."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cbor2
import orjson
import webauthn
from cbor2 import CBORError
from webauthn.helpers import (
    base64url_to_bytes,
    bytes_to_base64url,
    decode_credential_public_key,
    decoded_public_key_to_cryptography,
    options_to_json_dict,
    parse_client_data_json,
)
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)
from webauthn.registration.verify_registration_response import VerifiedRegistration

from service.core.errors import BadCredentials
from service.identity.accounts import known_as
from service.identity.challenges import NOT_GOOD
from service.mongo.raw import Raw

LONGEST_CREDENTIAL = 64 * 1024
"""Most bytes of a credential that is looked at: one has 2 KB, and some more where its maker vouches for it."""


class RelyingParty:
    """This service, to authenticators: `rp_id` is the domain that passkeys are for, `origins` where they are used."""

    def __init__(self, rp_id: str, name: str, origins: list[str]) -> None:
        self.rp_id, self.name, self.origins = rp_id, name, origins

    def creation_options(self, account: Raw) -> tuple[bytes, Raw]:
        """Return a new challenge, and what `navigator.credentials.create` takes as `publicKey`."""
        name = known_as(account)
        options = webauthn.generate_registration_options(
            rp_id=self.rp_id,
            rp_name=self.name,
            user_name=name,
            user_id=account["_id"].encode(),
            user_display_name=account.get("display_name") or name,
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
            ),
            exclude_credentials=[
                PublicKeyCredentialDescriptor(id=base64url_to_bytes(passkey["key"]))
                for passkey in account.get("passkeys", [])
            ],
        )
        return options.challenge, options_to_json_dict(options)

    def request_options(self, challenge: bytes) -> Raw:
        """Return what `navigator.credentials.get` takes as `publicKey`; it names nobody, so it tells of nobody."""
        options = webauthn.generate_authentication_options(
            rp_id=self.rp_id, challenge=challenge, user_verification=UserVerificationRequirement.REQUIRED
        )
        return options_to_json_dict(options)

    def challenge_in(self, credential: Raw) -> bytes:
        """Return the challenge that a credential says to have signed. Raises `BadCredentials`."""
        with refusing():
            if len(orjson.dumps(credential)) > LONGEST_CREDENTIAL:
                raise BadCredentials(NOT_GOOD)
            text = credential["response"]["clientDataJSON"]
            return parse_client_data_json(base64url_to_bytes(text)).challenge

    def verify_registration(self, credential: Raw, challenge: bytes) -> VerifiedRegistration:
        """Return the key that a credential brings. Raises `BadCredentials`."""
        with refusing():
            verified = webauthn.verify_registration_response(
                credential=unattested(credential),
                expected_challenge=challenge,
                expected_rp_id=self.rp_id,
                expected_origin=self.origins,
                require_user_verification=True,
            )
            # One with numbers that are no key would be found out at its first sign-in.
            decoded_public_key_to_cryptography(decode_credential_public_key(verified.credential_public_key))
        return verified

    def verify_sign_in(self, credential: Raw, challenge: bytes, passkey: Raw) -> int:
        """Return the new count of a stored passkey by which a credential has signed. Raises `BadCredentials`."""
        with refusing():
            verified = webauthn.verify_authentication_response(
                credential=credential,
                expected_challenge=challenge,
                expected_rp_id=self.rp_id,
                expected_origin=self.origins,
                credential_public_key=passkey["public_key"],
                credential_current_sign_count=passkey["sign_count"],
                require_user_verification=True,
            )
        return verified.new_sign_count


def unattested(credential: Raw) -> dict[str, Any]:
    """Return a credential without what its maker says of itself: we ask for no attestation, and trust none."""
    response = credential["response"]
    known = cbor2.loads(base64url_to_bytes(response["attestationObject"]))
    bare = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": known["authData"]})
    return {**credential, "response": {**response, "attestationObject": bytes_to_base64url(bare)}}


@contextmanager
def refusing() -> Iterator[None]:
    """Raise `BadCredentials` for what is no credential, or none of ours.

    Anybody may send anything, and the parsers of `webauthn` and `cbor2` pass on what Python raises at it.
    """
    try:
        yield
    except (WebAuthnException, CBORError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise BadCredentials(NOT_GOOD) from error
