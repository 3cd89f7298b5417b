"""`python -m fuzz.engine NAME FOLDER SECONDS SEED` feeds one parser under Atheris, which looks for new branches."""

import random
import sys
from functools import partial
from pathlib import Path
from typing import Any

import atheris
import orjson

with atheris.instrument_imports(include=["service"]):
    from fuzz import targets

LONGEST = 4096
"""Bytes of an input."""
NAMES = sorted(targets.names())
VALUES = [orjson.loads(text) for text in targets.VALUES]


def main() -> None:
    """Feed the parser until the time is up; ends with another status than 0, and the input, at the first bug."""
    name, folder, seconds, seed = sys.argv[1:]
    corpus = Path(folder, "corpus")
    corpus.mkdir()
    for number, text in enumerate(targets.TARGETS[name][1]):
        corpus.joinpath(f"seed-{number}").write_bytes(text)
    words = Path(folder, "words")
    words.write_text("".join(f"{quoted(word)}\n" for word in sorted(targets.words())))
    options = [f"-max_total_time={seconds}", f"-seed={seed}", f"-max_len={LONGEST}", "-timeout=10"]
    options += [f"-dict={words}", f"-artifact_prefix={folder}/", "-print_final_stats=1", str(corpus)]
    atheris.Setup([sys.argv[0], *options], partial(targets.feed, name), custom_mutator=mutate)
    atheris.Fuzz()


def mutate(data: bytes, size: int, seed: int) -> bytes:
    """Return another input: mostly, where it is JSON, with one of its values or names changed, else any bytes of it."""
    dice = random.Random(seed)
    try:
        value = orjson.loads(data)
        changed = orjson.dumps(changed_at(value, dice)) if dice.random() < 0.7 else b""
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        changed = b""
    return changed if 0 < len(changed) <= size else atheris.Mutate(data, size)


def changed_at(value: Any, dice: random.Random) -> Any:
    """Return a JSON value that differs from `value` in one place."""
    if not isinstance(value, dict | list) or not value or dice.random() < 0.15:
        return dice.choice([dice.choice(VALUES), [value], {dice.choice(NAMES): value}, value, [value, value]])
    if isinstance(value, list):
        place = dice.randrange(len(value))
        some = [changed_at(value[place], dice)] if dice.random() < 0.8 else []
        return [*value[:place], *some, *value[place + 1 :]]
    name = dice.choice([*value])
    others = {other: member for other, member in value.items() if other != name}
    kind = dice.random()
    if kind < 0.1:
        return others
    if kind < 0.3:
        return {**value, dice.choice(NAMES): dice.choice(VALUES)}
    return {**others, dice.choice(NAMES) if kind < 0.5 else name: changed_at(value[name], dice)}


def quoted(word: str) -> str:
    """Return an entry of a dictionary of libFuzzer."""
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


if __name__ == "__main__":
    main()
