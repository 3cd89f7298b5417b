"""What is made once for a whole run, though each app would make it: hashes of passwords, and what builds URLs."""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from werkzeug.routing import Rule

from service.identity import passwords


class Remembering(PasswordHasher):
    """Hashes each password once, as the service does, and knows without hashing whether one has such a hash."""

    def __init__(self, like: PasswordHasher) -> None:
        super().__init__(time_cost=like.time_cost, memory_cost=like.memory_cost, parallelism=like.parallelism)
        self.passwords: dict[str | bytes, str | bytes] = {}
        """By their hashes."""
        self.hashes: dict[str | bytes, str] = {}

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        if salt is not None:
            return super().hash(password, salt=salt)
        if password not in self.hashes:
            self.hashes[password] = super().hash(password)
            self.passwords[self.hashes[password]] = password
        return self.hashes[password]

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:
        if hash not in self.passwords:
            return super().verify(hash, password)
        if self.passwords[hash] != password:
            raise VerifyMismatchError("The password does not match the supplied hash")
        return True


HASHER = Remembering(passwords.HASHER)

Build = Callable[..., tuple[str, str]]
compile_builder: Callable[[Rule, bool], Build] = Rule._compile_builder


def builder_at_need(rule: Rule, append_unknown: bool = True) -> Build:
    """What builds the URLs of a rule, compiled when the first is built: most tests build none of the hundred routes."""
    compiled = cache(lambda: compile_builder(rule, append_unknown))

    def build(self: Rule, **values: Any) -> tuple[str, str]:
        return compiled()(self, **values)

    return build
