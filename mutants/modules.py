"""The modules that mutants are made of, each with the tests that have to find them."""

from collections.abc import Iterable

TESTS: dict[str, tuple[str, ...]] = {
    "service/identity/security.py": (
        *("tokens", "sessions", "accounts", "passwords", "events", "key_rotation"),
        *("second_factors", "second_factor", "passkeys_changes", "security"),
    ),
    "service/security.py": ("tokens", "sessions", "accounts", "passwords", "events"),
    "service/policy.py": ("policy", "sharing", "owner_only", "attacks_data", "groups"),
    "service/identity/tokens.py": ("tokens", "key_rotation"),
    "service/identity/sessions.py": (
        *("sessions", "session_renewal", "key_rotation", "tokens", "attacks_identity", "events"),
        "second_factor",
    ),
    "service/identity/keys.py": ("key_rotation", "sessions", "tokens"),
    "service/identity/passwords.py": ("passwords", "accounts"),
    "service/identity/throttle.py": ("throttle", "attacks_identity"),
    "service/identity/challenges.py": ("challenges", "second_factor", "passkeys_changes"),
    "service/identity/second_factors.py": ("second_factors", "second_factor"),
    "service/identity/passkeys.py": ("passkeys_changes", "passkeys"),
    "service/identity/provider_tokens.py": ("provider_tokens",),
    "service/http/idempotency.py": ("idempotency", "kept_answers", "batch", "functions", "beforehand"),
    "service/http/conditional.py": ("conditional", "records"),
    "service/records/precondition.py": ("conditional", "records"),
    "service/query/near.py": ("query", "near"),
    "service/query/paging.py": ("paging", "query"),
    "service/query/parse.py": ("parameters", "query", "where", "collation"),
    "service/query/where.py": ("where", "query", "query_properties"),
    "service/model/patch.py": ("patch_direct", "patch_places", "operands", "patch", "parts", "patch_properties"),
    "service/model/operands.py": ("operands", "patch_direct", "patch_places", "patch", "parts", "patch_properties"),
    "service/model/updates.py": ("updates", "patch", "parts", "patch_properties"),
    "service/model/parts.py": ("part_paths", "parts", "patch"),
    "service/model/load.py": ("load",),
}
"""By module, the names of the test files. None of them may start a process: a trial ends without a word to it."""

REAL = frozenset(
    {
        *("service/identity/throttle.py", "service/http/idempotency.py", "service/query/near.py"),
        *("service/identity/second_factors.py", "service/identity/passkeys.py"),
    }
)
"""Those that do more on a real MongoDB, such as transactions: what lives on mongomock is tried there too."""

LEFT_OUT = frozenset({"tests/test_passwords.py::test_a_name_that_exists_takes_as_long_as_one_that_does_not"})
"""Tests that measure time: a busy machine would have them kill anything."""


def files(modules: Iterable[str]) -> list[str]:
    """Return the files of tests of these modules, each once."""
    return [f"tests/test_{name}.py" for name in dict.fromkeys(name for module in modules for name in TESTS[module])]
