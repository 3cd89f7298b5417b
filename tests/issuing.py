"""Issuers of ID tokens that do what a test wants: sign as Google and Apple do, change keys, keep silent."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

Json = dict[str, Any]
RSA_KEYS = [rsa.generate_private_key(65537, 2048) for _ in range(2)]
"""To make one takes a tenth of a second."""
IOS, WEB = "com.example.notes", "com.example.notes.web"


class SigningKey:
    """A key of an issuer, of RS256 or ES256, with its name."""

    def __init__(self, kid: str, algorithm: str = "RS256", number: int = 0) -> None:
        self.kid, self.algorithm = kid, algorithm
        self.private: Any = RSA_KEYS[number] if algorithm == "RS256" else ec.generate_private_key(ec.SECP256R1())

    @property
    def jwk(self) -> Json:
        public = self.private.public_key()
        kind = RSAAlgorithm if self.algorithm == "RS256" else ECAlgorithm
        return {**kind.to_jwk(public, as_dict=True), "kid": self.kid, "alg": self.algorithm, "use": "sig"}


class Issuer:
    """An OpenID provider as far as a native app meets it: its document, its keys, and tokens."""

    def __init__(self) -> None:
        self.keys = [SigningKey("first")]
        self.asked: list[str] = []
        self.document: Json = {}
        self.posted: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self.bodies: list[str] = []
        self.granted: Json = {}
        self.endless, self.sent = False, 0
        self.silent = threading.Event()
        self.broken: tuple[int, dict[str, str], bytes] | None = None
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                if issuer.silent.is_set():
                    issuer.released.wait(20)
                status, headers, body = issuer.broken or (200, {}, json.dumps(issuer.page(self.path)).encode())
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
                while issuer.endless:
                    try:
                        self.wfile.write(bytes(65_536))
                    except OSError:
                        return
                    issuer.sent += 65_536

            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["Content-Length"]))
                issuer.bodies.append(sent.decode())
                issuer.posted.append((self.path, dict(parse_qsl(sent.decode())), dict(self.headers)))
                self.do_GET()

            def log_message(self, *_: Any) -> None:
                pass

        self.released = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def __enter__(self) -> Issuer:
        return self

    def __exit__(self, *_error: object) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def page(self, path: str) -> Json:
        if path == "/keys":
            return {"keys": [key.jwk for key in self.keys]}
        if path == "/token":
            return {"access_token": "an access token", "token_type": "Bearer", "expires_in": 60, **self.granted}
        places = {f"{name}_endpoint": f"{self.url}/{name}" for name in ("authorization", "token", "revocation")}
        return {"issuer": self.url, "jwks_uri": f"{self.url}/keys", **places, **self.document}

    def claims(self, subject: str = "1001", **others: Any) -> Json:
        """What a token says, with what is not None of the others."""
        moment = int(time.time())
        usual = {"iss": self.url, "aud": IOS, "sub": subject, "iat": moment, "exp": moment + 3600}
        # Something that makes each token another one, as the time of a real one does.
        unlike = {"jti": f"{time.monotonic_ns()}"}
        return {name: value for name, value in {**usual, **unlike, **others}.items() if value is not None}

    def token(self, subject: str = "1001", **claims: Any) -> str:
        """A token signed with the newest key."""
        key = self.keys[-1]
        return jwt.encode(self.claims(subject, **claims), key.private, key.algorithm, {"kid": key.kid})

    def apple_token(self, subject: str, nonce: str | None = None, **claims: Any) -> str:
        """A token as Apple makes them: the nonce hashed, truth as text, an address that hides the person's."""
        hashed = None if nonce is None else hashlib.sha256(nonce.encode()).hexdigest()
        relay = {"email": "x7k2m@privaterelay.example.com", "email_verified": "true", "is_private_email": "true"}
        return self.token(subject, **{**relay, "nonce": hashed, "nonce_supported": True, **claims})


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer() as found:
        yield found


@pytest.fixture
def apple() -> Iterator[Issuer]:
    """One that, as Apple does, takes the secret of a client in the body of a request."""
    with Issuer() as found:
        found.document["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
        yield found
