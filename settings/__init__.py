"""Pick the settings class by `SERVICE_ENV` and let `SERVICE_<NAME>` override any of its settings."""

import json
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter

from settings.base import Base
from settings.local import Local
from settings.production import Production
from settings.test import Test

ENVIRONMENTS: dict[str, type[Base]] = {"local": Local, "test": Test, "production": Production}
PREFIX = "SERVICE_"
PROJECT = Path(__file__).parent.parent


class SettingsError(ValueError):
    """A setting is missing, unknown or of the wrong type; the message is for the person who starts the service."""


def load(environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return every setting by name, as `SERVICE_ENV` and the other `SERVICE_*` variables of `environ` say.

    `VAR` is a folder of the project's, whatever the working directory is.

    Raises `SettingsError` with all that is wrong at once.
    """
    name = environ.get("SERVICE_ENV", "local")
    if name not in ENVIRONMENTS:
        raise SettingsError(f"SERVICE_ENV is {name!r}; it has to be one of {', '.join(ENVIRONMENTS)}")
    chosen = ENVIRONMENTS[name]
    settings = {key: getattr(chosen, key) for key in dir(chosen) if key.isupper()}
    wrong = []
    for variable, text in environ.items():
        key = variable.removeprefix(PREFIX)
        if variable.startswith(PREFIX) and key != "ENV":
            try:
                settings[key] = parse(chosen, key, text)
            except SettingsError as error:
                wrong.append(str(error))
    settings["JWT_SECRET_KEY"] = settings["JWT_SECRET_KEY"] or settings["SECRET_KEY"]
    wrong += out_of_limits(chosen, settings)
    wrong += [f"{PREFIX}{key} is required in {name}" for key in settings["REQUIRED"] if not settings.get(key)]
    wrong += short_keys(settings)
    if wrong:
        raise SettingsError("\n".join(wrong))
    settings["VAR"] = str(PROJECT / settings["VAR"])
    return settings


def parse(chosen: type[Base], key: str, text: str) -> Any:
    """Return the value of setting `key` that the environment variable's `text` stands for.

    A setting that is a string takes the text as it is; any other takes JSON. Raises `SettingsError`.
    """
    hints = get_type_hints(chosen)
    if key not in hints:
        raise SettingsError(f"{PREFIX}{key} is no setting of this service")
    kinds = get_args(hints[key]) if isinstance(hints[key], UnionType) else (hints[key],)
    if str in kinds and (len(kinds) == 1 or not text.startswith("[")):
        return text
    try:
        value = TypeAdapter(hints[key], config=ConfigDict(strict=True)).validate_python(json.loads(text))
    except ValueError:
        wanted = " or ".join(dict.fromkeys(AS_JSON[get_origin(kind) or kind] for kind in kinds))
        # What a key looks like is nobody's business, so its text is not repeated; among providers there are secrets.
        found = "not right" if "KEY" in key or key == "PROVIDERS" else repr(text)
        raise SettingsError(f"{PREFIX}{key} is {found}; it has to be JSON: {wanted}") from None
    return value


AS_JSON: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    timedelta: "a number",
    str: "a text",
    list: 'a list such as ["one", "two"]',
    dict: 'an object such as {"name": {}}',
    type(None): "null",
}
"""What is written for a setting of each type."""


def out_of_limits(chosen: type[Base], settings: Mapping[str, Any]) -> list[str]:
    """Return a complaint for every setting that is not what `settings.limits` says beside its type."""
    hints = get_type_hints(chosen, include_extras=True)
    return [
        f"{PREFIX}{key} is {settings[key]!r}; it has to be {limit}"
        for key, hint in hints.items()
        for limit in getattr(hint, "__metadata__", ())
        if not limit.takes(settings[key])
    ]


HASH_BYTES = {"HS384": 48, "HS512": 64}


def short_keys(settings: Mapping[str, Any]) -> list[str]:
    """Return a complaint for every key that is shorter than the environment or the algorithm allows.

    A key of HMAC has to be as long as the hash (RFC 7518, section 3.2); for HS256 the environment says whether.
    """
    least = settings["MINIMAL_KEY_BYTES"]
    signing = max(least, HASH_BYTES.get(settings["JWT_ALGORITHM"], 0))
    return [
        f"{PREFIX}{name} has {len(key.encode())} bytes; it has to have at least {length}"
        for name, length in (("JWT_SECRET_KEY", signing), ("SECRET_KEY", least))
        for key in ([settings[name]] if isinstance(settings[name], str) else settings[name] or [])
        if len(key.encode()) < length
    ]
