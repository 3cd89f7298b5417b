"""Settings: one class per environment, and every one of them overridden by an environment variable."""

import ast
import json
import re
from datetime import timedelta
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

import limits
import pytest

import settings
from service.mongo import connection
from settings import SettingsError
from settings.base import Base
from settings.limits import Between
from settings.test import Test
from tests.client import Person
from tests.conftest import ROOT

pytestmark = pytest.mark.once

HINTS = get_type_hints(Base)
LIMITS: dict[str, Any] = {
    name: hint.__metadata__[0]
    for name, hint in get_type_hints(Base, include_extras=True).items()
    if hasattr(hint, "__metadata__")
}
LISTS = {
    **{key: ["a:1", "[::1]:2"] for key in ("DOOR_API", "DOOR_STREAMS", "DOOR_WORKER")},
    "WEBHOOK_ALLOW": ["hooks.internal", "10.0.0.0/8"],
    "PROVIDER_REDIRECTS": ["com.example.notes:/signed-in", "https://app.example.com/signed-in"],
}
"""What lists with a limit may hold."""
NUMBERS = {name: limit for name, limit in LIMITS.items() if isinstance(limit, Between)}
KEY = "k" * 32
PRODUCTION = {"SERVICE_ENV": "production", "SERVICE_MONGODB_URI": "mongodb://db/app", "SERVICE_JWT_SECRET_KEY": KEY}
SAMPLES: dict[Any, list[tuple[str, Any]]] = {
    str: [("plain text", "plain text"), ("123", "123"), ("true", "true"), ("", "")],
    bool: [("true", True), ("false", False)],
    int: [("7", 7), ("0", 0), ("-1", -1)],
    float: [("0.5", 0.5), ("7", 7.0)],
    list[str]: [('["a", "b"]', ["a", "b"]), ("[]", [])],
    dict[str, Any]: [('{"a": {"b": ["c"]}}', {"a": {"b": ["c"]}}), ("{}", {})],
}
WRONG: dict[Any, list[str]] = {
    bool: ["True", "yes", "1", '"true"', ""],
    int: ["seven", "1.5", "true", '"7"', "[7]", "null", "", "7 "[:1] + "x"],
    float: ["much", "true", '"0.5"', "[]", ""],
    list[str]: ["a,b", '"a"', "[1]", "{}", "[", ""],
    dict[str, Any]: ["a", '"a"', "[]", "null", "{", "{1: 2}", ""],
}


def kinds(name: str) -> tuple[Any, ...]:
    """The types that a setting may have."""
    hint = HINTS[name]
    return tuple(get_args(hint)) if isinstance(hint, UnionType) else (hint,)


def load(**variables: str) -> dict[str, Any]:
    return settings.load({f"SERVICE_{name}": text for name, text in variables.items()})


def refused(environ: dict[str, str]) -> str:
    """What the person who starts the service is told."""
    with pytest.raises(SettingsError) as error:
        settings.load(environ)
    return str(error.value)


# The environments


@pytest.mark.parametrize(
    ("environ", "name"), [({}, "local"), ({"SERVICE_ENV": "test"}, "test"), (PRODUCTION, "production")]
)
def test_service_env_picks_the_class(environ: dict[str, str], name: str) -> None:
    assert settings.load(environ)["ENVIRONMENT"] == name


@pytest.mark.parametrize("name", ["", "Production", "prod", "base"])
def test_an_unknown_environment_is_refused_and_those_that_exist_are_named(name: str) -> None:
    message = refused({"SERVICE_ENV": name})
    assert all(word in message for word in ("SERVICE_ENV", repr(name), "local", "test", "production"))


def test_any_origin_may_call_in_development_and_none_in_production() -> None:
    assert settings.load({})["CORS_ORIGINS"] == "*"
    assert settings.load(PRODUCTION)["CORS_ORIGINS"] == []


# Overrides


@pytest.mark.parametrize("name", [name for name in HINTS if name != "REQUIRED"])
def test_every_setting_is_overridden_by_its_variable(name: str) -> None:
    tried = [(text, value) for kind in kinds(name) for text, value in SAMPLES.get(kind, [])]
    if str in kinds(name):
        tried = [(text, value) for text, value in tried if isinstance(value, str | list)]
    if name in NUMBERS:
        tried = [(str(value), value) for value in NUMBERS[name]]
    elif name == "FILES_SIZES":
        tried = [("[]", []), ('["big 3999 contain", "s-1_x 20x10 cover"]', ["big 3999 contain", "s-1_x 20x10 cover"])]
    elif name in LIMITS:
        default = getattr(Base, name)
        tried = (
            [(default, default)] if isinstance(default, str) else [("[]", []), (json.dumps(LISTS[name]), LISTS[name])]
        )
    assert tried
    for text, value in tried:
        found = load(**{name: text})[name]
        if name == "VAR":
            found = str(Path(found).relative_to(ROOT))
        assert found == (value or None if name == "JWT_SECRET_KEY" else value)
        assert isinstance(found, bool) == isinstance(value, bool)


def test_what_is_required_may_be_more() -> None:
    assert "SERVICE_LOG_FILE is required in local" in refused({"SERVICE_REQUIRED": '["LOG_FILE"]'})


def test_what_is_required_has_to_be_a_setting() -> None:
    assert "NOPE" in refused({"SERVICE_REQUIRED": '["NOPE"]'})


@pytest.mark.parametrize("name", [name for name in HINTS if str not in kinds(name)])
def test_a_value_of_another_type_is_refused_with_its_name(name: str) -> None:
    (kind,) = set(kinds(name)) & set(WRONG)
    for text in WRONG[kind]:
        message = refused({f"SERVICE_{name}": text})
        assert f"SERVICE_{name}" in message


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("WEBHOOK_ALLOW", "127.0.0.1", '\'127.0.0.1\'; it has to be JSON: a list such as ["one", "two"]'),
        ("TRUSTED_PROXIES", "many", "'many'; it has to be JSON: a whole number"),
        ("RATELIMIT_ENABLED", "on", "'on'; it has to be JSON: true or false"),
        ("JWT_LEEWAY", "1s", "'1s'; it has to be JSON: a number"),
    ],
)
def test_what_would_be_right_is_told(name: str, text: str, told: str) -> None:
    assert f"SERVICE_{name} is {told}" in refused({f"SERVICE_{name}": text})


@pytest.mark.parametrize(
    "name", ["JWT_EXPIRATIN_DELTA", "MONGO_URI", "mongodb_uri", "load", "__class__", "REQUIRED_", ""]
)
def test_an_unknown_setting_is_refused_with_its_name(name: str) -> None:
    assert f"SERVICE_{name} is no setting" in refused({f"SERVICE_{name}": "x"})


def test_what_is_not_ours_is_not_looked_at() -> None:
    assert (
        settings.load({"MONGODB_URI": "x", "MY_SERVICE_X": "y", "PATH": "z", "SERVICEABLE": "1"})["MONGODB_URI"] is None
    )


def test_all_that_is_wrong_is_told_at_once() -> None:
    message = refused({"SERVICE_ENV": "production", "SERVICE_NOPE": "1", "SERVICE_TRUSTED_PROXIES": "x"})
    assert all(word in message for word in ("SERVICE_NOPE", "TRUSTED_PROXIES", "MONGODB_URI", "JWT_SECRET_KEY"))


def test_a_key_or_several() -> None:
    assert load(JWT_SECRET_KEY=KEY)["JWT_SECRET_KEY"] == KEY
    assert load(JWT_SECRET_KEY=f'["{KEY}", "old"]')["JWT_SECRET_KEY"] == [KEY, "old"]


def test_the_secret_key_signs_where_there_is_no_other() -> None:
    assert load(SECRET_KEY="one")["JWT_SECRET_KEY"] == "one"
    assert load(SECRET_KEY="one", JWT_SECRET_KEY="two")["JWT_SECRET_KEY"] == "two"


def test_a_secret_that_cannot_be_read_is_not_repeated() -> None:
    assert KEY not in refused({"SERVICE_JWT_SECRET_KEY": f'["{KEY}", '})


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-1"])
def test_a_duration_is_a_number_that_can_be_one(text: str) -> None:
    assert "JWT_EXPIRATION_DELTA" in refused({"SERVICE_JWT_EXPIRATION_DELTA": text})


def test_to_load_the_settings_changes_nothing() -> None:
    first = settings.load({})
    first["JWT_VERIFY_CLAIMS"] = []
    assert settings.load({})["JWT_VERIFY_CLAIMS"] == ["signature", "exp", "nbf", "iat"]


def test_durations_may_be_timedeltas_in_a_settings_class() -> None:
    assert [name for name in HINTS if timedelta in kinds(name)] == [
        *("JWT_LEEWAY", "JWT_EXPIRATION_DELTA", "JWT_NOT_BEFORE_DELTA", "JWT_REFRESH_EXPIRATION_DELTA"),
        "JWT_REFRESH_GRACE",
    ]


# Limits


def test_every_number_has_its_limits() -> None:
    numbers = {name for name in HINTS if set(kinds(name)) & {int, float}}
    assert numbers == set(NUMBERS)


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_out_of_its_limits_is_refused_with_its_name(name: str) -> None:
    least, most = NUMBERS[name]
    for text in (least - 1, most + 1, 10**300):
        assert refused({f"SERVICE_{name}": str(text)}).startswith(f"SERVICE_{name} is ")
        assert f"it has to be from {least} to {most}" in refused({f"SERVICE_{name}": str(text)})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("VAR", ""), ("JWT_AUTH_URL_RULE", "auth"), ("JWT_AUTH_URL_RULE", "/auth/"), ("JWT_AUTH_USERNAME_KEY", "")),
        *(("JWT_AUTH_HEADER_PREFIX", "J W"), ("RATELIMIT_SIGN_UPS", "often"), ("RATELIMIT_SIGN_UPS", "10 per 0 hours")),
        *(("FILES_SIZES", '["thumb"]'), ("FILES_SIZES", '["t 10 fill"]'), ("FILES_SIZES", '["t 4000 cover"]')),
        *(("FILES_SIZES", '["t 0x9 cover"]'), ("FILES_SIZES", '["t 1 cover", "t 2 cover"]'), ("FILES_SIZES", '[""]')),
        *(("LOG_LEVEL", "LOUD"), ("DOOR_API", '["10.0.0.2"]'), ("DOOR_API", '["10.0.0.2:8000", ":"]')),
    ],
)
def test_a_text_of_another_form_is_refused_with_its_name(name: str, text: str) -> None:
    assert re.fullmatch(rf"SERVICE_{name} is .+; it has to be {LIMITS[name]}", refused({f"SERVICE_{name}": text}))


@pytest.mark.parametrize("text", ["1 per second", "10/minute", "0 per day", "10 per 5 minutes", "7 per 2 month"])
def test_what_the_service_takes_for_a_rate_is_one(text: str) -> None:
    assert limits.parse(load(RATELIMIT_SIGN_UPS=text)["RATELIMIT_SIGN_UPS"])


def test_the_limits_hold_for_a_settings_class_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Test, "TOMBSTONE_DAYS", -1)
    monkeypatch.setattr(Test, "JWT_LEEWAY", timedelta(days=1))
    message = refused({"SERVICE_ENV": "test"})
    assert "SERVICE_TOMBSTONE_DAYS is -1; it has to be from 0.1 to 36500" in message
    assert "SERVICE_JWT_LEEWAY is datetime.timedelta(days=1); it has to be from 0 to 3600" in message


BESIDE = {
    *("MAX_CONTENT_LENGTH", "MINIMAL_KEY_BYTES"),
    *("JWT_NOT_BEFORE_DELTA", "JWT_EXPIRATION_DELTA", "JWT_REFRESH_EXPIRATION_DELTA"),
}
"""At an end of these no body is short enough, no key long enough, a token not good yet, or no more."""


def at_end(end: int) -> dict[str, float]:
    return {name: limit[end] for name, limit in NUMBERS.items() if name not in BESIDE}


@pytest.mark.parametrize("end", [0, 1], ids=["least", "most"])
def test_at_both_ends_of_all_limits_the_service_works(make_app: Any, end: int) -> None:
    # One process has one connection to MongoDB, that of the tests.
    ends = {name: value for name, value in at_end(end).items() if not name.startswith("MONGODB_")}
    ada = Person.sign_up(make_app(**ends).test_client(), "ada")
    note = ada.make_note()
    assert ada.post("/auth/refresh", {"refresh_token": ada.tokens["refresh_token"]}).status_code == 200
    assert ada.find().status_code == 200
    assert ada.delete(f"/v1/notes/{note['id']}").status_code == 204


@pytest.mark.parametrize("end", [0, 1], ids=["least", "most"])
def test_at_both_ends_of_its_limits_a_client_of_mongodb_can_be_made(end: int) -> None:
    given = connection.options({**at_end(end), "MONGODB_URI": "mongodb://127.0.0.1:9/app"})
    made = {name: value for name, value in given.items() if name not in ("db", "mongo_client_class")}
    with connection.Client(**made) as client:
        assert client.options.pool_options.max_pool_size == given["maxPoolSize"]


# The folder


def test_the_folder_is_the_projects_wherever_it_is_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert load()["VAR"] == str(ROOT / "var")
    assert load(VAR="data/var")["VAR"] == str(ROOT / "data" / "var")
    assert load(VAR=str(tmp_path))["VAR"] == str(tmp_path)


# Production


@pytest.mark.parametrize("name", ["MONGODB_URI", "JWT_SECRET_KEY"])
@pytest.mark.parametrize("text", [None, ""])
def test_production_refuses_to_start_without(name: str, text: str | None) -> None:
    environ = {key: value for key, value in PRODUCTION.items() if key != f"SERVICE_{name}"}
    message = refused(environ if text is None else {**environ, f"SERVICE_{name}": text})
    assert f"SERVICE_{name} is required in production" in message


@pytest.mark.parametrize("keys", ["k" * 31, "é" * 15, f'["{KEY}", "short"]'])
def test_production_refuses_a_short_key(keys: str) -> None:
    message = refused({**PRODUCTION, "SERVICE_JWT_SECRET_KEY": keys})
    assert "at least 32" in message
    assert KEY not in message


def test_production_starts_with_a_secret_key_alone() -> None:
    environ = {**PRODUCTION, "SERVICE_SECRET_KEY": KEY}
    del environ["SERVICE_JWT_SECRET_KEY"]
    assert settings.load(environ)["JWT_SECRET_KEY"] == KEY


@pytest.mark.parametrize(("algorithm", "least"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_a_signing_key_is_as_long_as_the_hash(algorithm: str, least: int) -> None:
    short = {**PRODUCTION, "SERVICE_JWT_ALGORITHM": algorithm, "SERVICE_JWT_SECRET_KEY": "k" * (least - 1)}
    assert f"at least {least}" in refused(short)
    assert settings.load({**short, "SERVICE_JWT_SECRET_KEY": "k" * least})


@pytest.mark.parametrize(("algorithm", "least"), [("HS384", 48), ("HS512", 64)])
def test_a_key_that_is_too_short_for_the_hash_signs_nowhere(algorithm: str, least: int) -> None:
    short = {"SERVICE_ENV": "local", "SERVICE_JWT_ALGORITHM": algorithm, "SERVICE_SECRET_KEY": "k" * (least - 1)}
    assert f"SERVICE_JWT_SECRET_KEY has {least - 1} bytes" in refused(short)


def test_bytes_are_counted_and_not_characters() -> None:
    assert settings.load({**PRODUCTION, "SERVICE_JWT_SECRET_KEY": "é" * 16})


# Documentation


def members() -> dict[str, str | None]:
    """Each setting of the source with the text under it."""
    (base,) = (
        node for node in ast.parse((ROOT / "settings" / "base.py").read_text()).body if isinstance(node, ast.ClassDef)
    )
    found: dict[str, str | None] = {}
    for node, following in zip(base.body, [*base.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            text = following.value if isinstance(following, ast.Expr) else None
            found[node.target.id] = (
                text.value if isinstance(text, ast.Constant) and isinstance(text.value, str) else None
            )
    return found


def test_every_setting_says_what_it_is_for() -> None:
    assert members().keys() == HINTS.keys()
    assert [name for name, text in members().items() if not text or not text.strip().endswith(".")] == []


@pytest.mark.parametrize("name", HINTS)
def test_every_setting_stands_in_the_documentation(name: str) -> None:
    assert f"`{name}`" in Path(ROOT / "docs" / "settings.md").read_text()


@pytest.mark.parametrize("chosen", settings.ENVIRONMENTS.values())
def test_an_environment_sets_only_what_base_declares(chosen: type[Base]) -> None:
    assert {name for name in vars(chosen) if name.isupper()} <= HINTS.keys()
