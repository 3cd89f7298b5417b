"""`python -m chaos` plays everything and prints a table; `python -m chaos failover`, `death` or `overload` a part."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.page import machine
from chaos import death, failover, overload, page
from chaos.stage import Outcome

RESULTS = Path(__file__).with_name("results")
Run = Callable[[Path, int], Sequence[Outcome | overload.Figures]]
PARTS: dict[str, tuple[Run, page.Columns]] = {
    "failover": (failover.run, page.LEDGER),
    "death": (death.run, page.LEDGER),
    "overload": (overload.run, page.LOAD),
}


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("part", nargs="?", default="all", choices=["all", *PARTS])
    parser.add_argument("--times", type=int, default=10, help="how often a primary is killed, and seconds of each load")
    parser.add_argument("--dry", action="store_true", help="only print: keep no results")
    return parser.parse_args(argv)


def main() -> int:
    """Play what the command line asks for; return 1 where a promise was broken."""
    options = arguments()
    complaints: list[str] = []
    for part in PARTS if options.part == "all" else [options.part]:
        run, columns = PARTS[part]
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            outcomes = run(Path(folder), options.times)
        rows = [outcome.as_row() for outcome in outcomes]
        print(f"\n## {part}\n\n{page.markdown(rows, columns)}", flush=True)
        complaints += [f"{outcome.name}: {text}" for outcome in outcomes for text in outcome.complaints()]
        if not options.dry:
            RESULTS.mkdir(exist_ok=True)
            (RESULTS / f"{part}.json").write_text(json.dumps({"rows": rows, "machine": machine()}, indent=1) + "\n")
    print("\n".join(["", *complaints]), file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
