"""Another source tree of Madang, another commit's say, beside this one in one run: `tree:<folder>`.

How its notes lie, its tokens and its paths are what its own `bench` says of `madang`; the load and the clock are ours.
"""

import hashlib
import json
import os
import secrets
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench.contenders import MADANG, Contender
from bench.data import Dataset

PREFIX = "tree"
known_facts: dict[Any, dict[str, Any]] = {}
"""What the load draws from, by tree: to ask a tree takes a second."""
# They run in the other tree: what they name has to be there in the commits that are worth comparing with.
OWN = "from dataclasses import replace; from bench import contenders; from bench.data import Dataset;"
OWN += "own = replace(contenders.MADANG, database=facts['database'])"
DESCRIBE = "print(json.dumps({name: getattr(own, name) for name in facts['names']} | {'environ': dict(own.environ)}))"
SEED = "contenders.seed(own, facts['uri'], Dataset(*facts['dataset']))"
TOKENS = "from bench import data; print(json.dumps([data.token(account) for account in range(data.ACCOUNTS)]))"
FACTS = "print(json.dumps(own.facts(facts['uri'], facts['workload'], Dataset(*facts['dataset']))))"


@dataclass(frozen=True)
class Tree(Contender):
    """Madang as it is in `folder`."""

    def token(self, account: int) -> str:
        """Return an access token of an account."""
        return tokens(self.folder, self.python)[account]

    def facts(self, uri: str, workload: str, dataset: Dataset) -> dict[str, Any]:
        """Return what the wrk script draws from."""
        if workload == "session":
            # Its refresh tokens are good once.
            return dict(json.loads(self.own(FACTS, uri=uri, workload=workload, dataset=sized(dataset))))
        key = (self.folder, uri, sized(dataset))
        if key not in known_facts:
            known_facts[key] = json.loads(self.own(FACTS, uri=uri, workload=workload, dataset=sized(dataset)))
        return {**known_facts[key], "seed": secrets.randbits(30)}

    def fill(self, uri: str, dataset: Dataset) -> None:
        """Store all notes as this tree stores them."""
        self.own(SEED, uri=uri, dataset=sized(dataset))

    def own(self, work: str, **facts: Any) -> str:
        """Return what the tree's own `bench` prints when it does some `work`."""
        return output(self.folder, self.python, work, database=self.database, **facts)


@cache
def tokens(folder: Path, python: str) -> list[str]:
    """Return the access tokens that a tree's `bench` makes for its accounts."""
    found: list[str] = json.loads(output(folder, python, TOKENS, database=""))
    return found


def sized(dataset: Dataset) -> tuple[int, int]:
    """Return what makes the same data set in another process."""
    return dataset.notes, dataset.accounts


def contender(name: str, folder: str) -> Contender:
    """Return the contender of a folder. Raises `ValueError` where no Madang is."""
    path = Path(folder).resolve()
    if not (path / "bench" / "contenders.py").is_file():
        raise ValueError(f"{name}: there is no Madang with a bench in {path}")
    own_python = path / ".venv" / "bin" / "python"
    python = str(own_python) if own_python.exists() else sys.executable
    database = f"{PREFIX}_{hashlib.sha1(str(path).encode()).hexdigest()[:12]}"
    names = ("command", "item", "collection", "list_path", "refresh_path")
    found: dict[str, Any] = json.loads(output(path, python, DESCRIBE, database=database, names=names))
    return Tree(
        name=name,
        title=f"Madang in {path.name}",
        packages=MADANG.packages,
        command=tuple(found.pop("command")),
        stored=MADANG.stored,
        database=database,
        python=python,
        folder=path,
        **found,
    )


def output(folder: Path, python: str, work: str, **facts: Any) -> str:
    """Return what a piece of Python prints that runs in a tree with some `facts`; it leaves no bytecode there."""
    code = f"import json, sys; facts = json.loads(sys.stdin.read()); {OWN}; {work}"
    done = subprocess.run(
        [python, "-B", "-c", code],
        input=json.dumps(facts),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=3600,
    )
    return done.stdout.splitlines()[-1] if done.stdout else ""
