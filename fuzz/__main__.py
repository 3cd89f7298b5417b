"""`python -m fuzz` tries everything and prints a table; with `api`, `properties` or `parsers` it tries a part."""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fuzz import api, parsers, properties
from fuzz.outcome import Outcome, markdown
from service.serve import mongod

PARTS: dict[str, Callable[[argparse.Namespace], Iterator[Outcome]]] = {
    "api": lambda options: over_http(options.examples, options.seed),
    "properties": lambda options: properties.run(options.times),
    "parsers": lambda options: parsers.run(options.seconds, options.seed),
}


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("part", nargs="?", default="all", choices=["all", *PARTS])
    parser.add_argument("--examples", type=int, default=100, help="generated requests per operation (%(default)s)")
    parser.add_argument("--times", type=int, default=10, help="the examples of the tests, so often (%(default)s)")
    parser.add_argument("--seconds", type=int, default=30, help="time for each parser (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the same one tries the same (%(default)s)")
    return parser.parse_args(argv)


def over_http(examples: int, seed: int) -> Iterator[Outcome]:
    """Yield what came of the API: as an account, as nobody, and as two accounts whose records are their own."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        database = mongod.LocalServer.start(folder / "mongodb")
        server = api.server(folder / "server", database.uri)
        try:
            api.start(server)
            yield api.run(server.base, folder, "account", examples, seed)
            yield api.run(server.base, folder, "nobody", examples, seed)
            yield api.run(server.base, folder, "peers", examples, seed, "--phases=fuzzing,stateful")
        finally:
            server.stop()
            database.stop()


def main() -> int:
    """Try what the command line asks for; return 1 where something was found."""
    options = arguments()
    chosen = PARTS if options.part == "all" else {options.part: PARTS[options.part]}
    outcomes = [outcome for run in chosen.values() for outcome in run(options)]
    print(markdown(outcomes))
    found = [outcome for outcome in outcomes if outcome.failures]
    print("\n\n".join(f"{outcome.name}:\n{outcome.said}" for outcome in found), file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
