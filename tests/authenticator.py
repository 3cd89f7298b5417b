"""An authenticator in software: makes passkeys and signs with them, rightly or as a test wants it wrong."""

import hashlib
import json
import secrets
import struct
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from service.core.base64url import encode_base64url

PRESENT, VERIFIED, ATTESTED = 0x01, 0x04, 0x40
"""Flags of authenticator data (WebAuthn level 3, section 6.1)."""


class SoftAuthenticator:
    """One key for one account of one relying party."""

    def __init__(self, origin: str) -> None:
        self.origin, self.rp_id = origin, ""
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.id = secrets.token_bytes(32)
        self.user = ""
        self.count = 0
        self.flags = PRESENT | VERIFIED
        self.attestation: dict[str, Any] = {"fmt": "none", "attStmt": {}}

    def client_data(self, kind: str, challenge: str) -> bytes:
        about = {"type": f"webauthn.{kind}", "challenge": challenge, "origin": self.origin, "crossOrigin": False}
        return json.dumps(about).encode()

    def data(self, flags: int, attested: bytes = b"") -> bytes:
        party = hashlib.sha256(self.rp_id.encode()).digest()
        return party + struct.pack(">BI", flags, self.count) + attested

    @property
    def public(self) -> dict[int, Any]:
        """The public key in the form of COSE."""
        numbers = self.key.public_key().public_numbers()
        return {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}

    def create(self, options: dict[str, Any], public: Any = None) -> dict[str, Any]:
        """What `navigator.credentials.create` gives, as JSON; with another public key if a test wants it."""
        self.rp_id, self.user = self.rp_id or options["rp"]["id"], options["user"]["id"]
        key = cbor2.dumps(self.public if public is None else public)
        attested = bytes(16) + struct.pack(">H", len(self.id)) + self.id + key
        data = self.data(self.flags | ATTESTED, attested)
        return self.credential(
            clientDataJSON=self.client_data("create", options["challenge"]),
            attestationObject=cbor2.dumps({**self.attestation, "authData": data}),
        )

    def get(self, options: dict[str, Any]) -> dict[str, Any]:
        """What `navigator.credentials.get` gives, as JSON."""
        self.count += 1
        client, data = self.client_data("get", options["challenge"]), self.data(self.flags)
        signature = self.key.sign(data + hashlib.sha256(client).digest(), ec.ECDSA(hashes.SHA256()))
        made = self.credential(clientDataJSON=client, authenticatorData=data, signature=signature)
        made["response"]["userHandle"] = self.user
        return made

    def credential(self, **parts: bytes) -> dict[str, Any]:
        id = encode_base64url(self.id)
        response = {name: encode_base64url(part) for name, part in parts.items()}
        return {"id": id, "rawId": id, "type": "public-key", "response": response}
