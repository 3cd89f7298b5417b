"""The mutants that are the same program: each with the reason why no test can tell it from the original."""

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mutants.mutation import Mutant

Name = tuple[str, str, str, str]
FILE = Path(__file__).parent / "same_program.toml"


def known(path: Path = FILE) -> dict[Name, str]:
    """Return the reason for each mutant in the file. Raises `ValueError` where one has none, or stands there twice."""
    found: dict[Name, str] = {}
    for entry in tomllib.loads(path.read_text()).get("same", []):
        becomes = entry["becomes"] if isinstance(entry["becomes"], list) else [entry["becomes"]]
        for after in becomes:
            name = (entry["module"], entry["place"], entry["was"], after)
            if name in found or not entry["why"].strip():
                raise ValueError(f"{path.name}: a mutant without a reason, or twice: {name}")
            found[name] = entry["why"]
    return found


def as_toml(mutants: "Iterable[Mutant]") -> str:
    """Return entries of the file for mutants, whose reasons are still to be found."""
    by_line: dict[tuple[str, str, str], list[str]] = {}
    for mutant in mutants:
        by_line.setdefault(mutant.name[:3], []).append(mutant.becomes)
    return "\n".join(entry(*place, after) for place, after in by_line.items())


def entry(module: str, place: str, was: str, becomes: list[str]) -> str:
    """Return one entry: `was` is the line as it stands, `becomes` what each mutant made of it."""
    told: Mapping[str, object] = {"module": module, "place": place, "was": was}
    lines = [f"{key} = {literal(str(value))}" for key, value in told.items()]
    after = [f"    {literal(text)}," for text in becomes]
    return "\n".join(["[[same]]", *lines, "becomes = [", *after, "]", 'why = ""', ""])


def literal(text: str) -> str:
    """Return a text as TOML has it, as it stands where that is possible."""
    return f"'{text}'" if "'" not in text and "\n" not in text else json.dumps(text, ensure_ascii=False)
