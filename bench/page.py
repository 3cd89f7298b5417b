"""From kept results to docs/performance.md and its plot."""

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import changes, compare, contenders, growth, lineup, live, load, mongod, pulls, search, transfers
from bench import writes as write_costs
from bench.contenders import ROOT, Contender
from service.serve.mongod import find_mongod

PAGE = ROOT / "docs" / "performance.md"
PLOT = ROOT / "docs" / "performance.svg"
TARGETS = {"get": 0.80, "list": 0.90, "create": 0.80, "patch": 0.85}
WORKLOADS = {
    "get": "get by id",
    "list": "list of 20, filtered, sorted",
    "create": "create",
    "patch": "patch",
    "session": "mobile session",
}
Rows = list[dict[str, Any]]

INTRO = """\
# Performance

How fast Madang is, and what it costs, measured by the harness in `bench/`. `make bench` measures the comparison on your
machine and writes this page anew; the other tables come from the commands that stand above them. Figures of another
machine differ; the ratios should not.

## Beside what one would write without it

Each server runs as one worker on one core; `wrk` and MongoDB share the other. There are {notes:,} notes of {accounts}
accounts, the same for all. Each server has its own authentication and its own owner check, and is asked some 40
questions before it is measured: a wrong answer ends the run, and so do errors under load, over one in 500. The servers
take turns, each time in another order, so that a disturbance meets all of them, and none always finds the MongoDB that
another one has left. Shown are the median over the rounds, and the lowest and highest.

The yardstick is a **bare WSGI callable** ([bench/peers/bare.py](../bench/peers/bare.py)): PyMongo, PyJWT and orjson
under Granian, without a framework and without validation; it verifies the token on each request. Madang runs as in
production, with all that it does: session check, permission filter, validation, ETag, request id, metrics, and a log
line to a file. The others do less: see their code in [bench/peers](../bench/peers). They are written as their
documentation shows it, and have no access log.
"""

LIVE = """\
## Live events

`python -m bench live`: server-sent events of Madang and realtime events of PocketBase, each in one process on one core;
MongoDB, the API, the worker and all clients have the other. All connections are of one account and follow the notes.
{idle:,} are idle at once; {subscribers:,} are told of {changes} new notes, one after the other; then {writers} writers
write for {seconds} s, and all events are waited for. The servers take turns.

PocketBase answers a write when its subscribers have been told, Madang when it is in MongoDB's journal on disk: so both
times are there. Who was away is told by Madang what it has missed, and not by PocketBase.

"""

TRANSFERS = """\
## Files: how fast they go

`python -m bench transfers`: files of {size} MiB, the median of {rounds} rounds in turns, all clients on the same
two cores. Madang is as it is started, behind its door: it asks for the right, counts, hashes, and answers when the
bytes are in MongoDB's journal. PocketBase has an open collection and, as Starlette's `FileResponse`, a folder of
files that is not synced.

"""

WRITTEN = """\
## What a write costs MongoDB

`python -m bench writes`: CPU of its connections for a note as Madang keeps and writes it, and with one thing dropped at
a time; in brackets relative to the first row. All take turns on one MongoDB with a cache of 1 GB, {rounds} blocks of
{writes} writes for each; shown is the mean of the cheapest quarter. A difference of less than a tenth is none.

"""

CHANGED = """\
## Changes

`python -m bench changes`: MongoDB is set as Madang starts it. What is recorded and compared a second is that of a
recorder alone, which has one core, and MongoDB the other; else the API has one, `wrk` and MongoDB the other, and the
worker either. A write is visible when a pull that was sent at its acknowledgement has brought it, beside {writes}
writes a second.

"""

SET = """\
## A MongoDB with a small cache

`python -m bench mongod`: patches that go on for {seconds} s in a turn, {rounds} turns for each way, beside a worker;
one MongoDB with a cache of {cache_gb} GB, as `make serve` starts it, set to either way while it runs. Medians. By
itself MongoDB keeps what was overwritten for five minutes, and begins to write out pages when a twentieth of its cache
has been changed; as Madang starts it, for ten seconds and at a fifth ([0073](decisions/0073-a-small-mongodb.md)). The
other tables but that of the changes are of a MongoDB as it is by itself.

"""

PULLED = """\
## Growth of a pull

`python -m bench pulls`: CPU of the server and of MongoDB's connections for a pull of {at_once} changes, from {places}
places spread over what one of five accounts has; the sizes take turns, {pulls} pulls each in {rounds} rounds. Medians.

"""

METHOD = """\
## How to read it

- **CPU** is the time of the server's processes per answer, from `/proc/<pid>/stat`. Where the server's core is the
  limit, its ratio and that of the throughput are the same. Where something else is (MongoDB's journal for writes,
  another process on the machine), the CPU tells what the server needs, and the throughput what one gets.
- **Mobile session** is refresh, list, five gets, patch and create, with the new tokens used from then on. Madang's
  refresh rotates the token in the database and notices a stolen one; the others sign a new one and ask no database.
- **Durability.** On MongoDB a write is answered when it is in the journal on disk, as by default on a replica set: none
  that was acknowledged gets lost. PocketBase answers when SQLite has it in a log that is not synced (WAL,
  `synchronous=NORMAL`): what was acknowledged last survives the end of the process, but not a power cut.
- PocketBase is one process with its database in it, all on the servers' core; the others' MongoDB is beside it.
  `pocketbase-without-log` is the same without its log of requests.
- MongoDB has a cache of 1 GB, as small installations have: what is changed is written out while it is measured, and not
  at checkpoints alone. `--cache-gb` gives it another one.
- Of two cores one runs `wrk` and MongoDB, so the throughput is that of a small server.
- To compare a change with what was before it, name the other source tree as one more server, in the same run:
  `python -m bench compare --servers madang,tree:<folder> --yardstick tree:<folder> --dry`.
"""


BOUNDS = """\
## What bounds each path

- **Get by id.** A third is the command to MongoDB (`service/mongo/short.py`: encode, send, receive, decode, and a
  connection from the pool), a sixth Granian and the kernel, an eighth Flask's contexts and routing. The rest is
  many small steps of a few microseconds: the slot, the token and the session, the log line, the metrics, the
  headers. None of them stands out any more.
- **List.** Of 395 µs in the process (one thread, without Granian and the kernel; the bare callable has 345 there), 70
  decode the BSON of twenty notes, which the bare callable pays too, 23 turn them into JSON form, 6 know the query
  again, and 4 make the cursor; the rest are small steps, as of a get. A list costs 5 % more instructions than the
  bare callable's, and a fifth more of MongoDB: its records have words in them, its index keys access lists, and it
  asks for three entries of these, the own one and what is shared. The fields that it reads are named: to name those
  that it leaves out costs MongoDB 9 % more on its connection, 4 % of all its CPU under load. Far past the bare
  callable one comes where Python does not touch each record: BSON to JSON in one step of C or Rust. PyMongo has no
  such step, and writing one is a package of its own. `python-bsonjs`, which has one, takes four times as long as to
  decode twenty notes and write them with orjson (283 and 69 µs), and its JSON is another.
- **Create and patch.** MongoDB is the limit: of a note it keeps twelve indexes where the bare callable's has one, and
  on this machine it has one core, which `wrk` has too. What each part costs: [what a write costs
  MongoDB](#what-a-write-costs-mongodb). Of MongoDB's CPU for a patch under load (`perf`, 1 GB of cache), 69 % is the
  command itself, 18 % the threads that write changed pages out, 10 % the journal and checkpoints. Of the command, 17 %
  goes to indexes (7 to make the keys of all of them anew, 10 to search and write those that change), 8 % to the copy of
  the whole record that `findAndModify` keeps for a retried write, the bare callable's too, 8 % to choosing plans, 7 %
  to waiting for the journal. A type that declares no `search` has a third of the size, and pays for no words. On
  MongoDB's connections alone a patch of the title costs 1.34 times what the bare callable's does on one index: the
  other indexes are a half of that, the words the other.
- **Writes as quick as the bare callable's** on its one index: that is what three things cost together, which it has
  not. Measured by source trees in which they are dropped (`compare`, 32 connections, a cache of 1 GB, medians of 4 or 5
  rounds). The number by which MongoDB knows a write that is sent again is what makes it happen once when a primary
  dies; without words there is no search, and without the indexes no other sort. MongoDB pays for them twice: in the
  command, and in the pages that it writes out behind. The bare callable on a database that answers the same lists and
  searches is not as quick as Madang at either. So they stay.

  | relative to the bare callable | create | patch |
  | --- | ---: | ---: |
  | as it is | 0.52 | 0.58 |
  | no number by which a write is retried, nor the copy that is kept for it | 0.55 | 0.69 |
  | no `search` | 0.73 | 0.61 |
  | no sorts but `updated_at` | 0.62 | 0.66 |
  | neither search nor number | 0.73 | 0.81 |
  | none of the three | 0.89 | 1.00 |
- **MongoDB's cache.** It begins to write out pages when a twentieth of its cache has been changed, so a small one is
  paid for with each write. Give it a cache of twenty times what changes within a minute. It keeps for five minutes what
  was overwritten, which nobody reads but a backup: start it with `--setParameter minSnapshotHistoryWindowInSeconds=10`,
  as the MongoDB of `make serve` and of compose is. What that brings: [a MongoDB with a small
  cache](#a-mongodb-with-a-small-cache).
- **Memory and start.** All processes are forked from one that has imported everything, which takes 1.6 s of CPU: at
  rest each has 84 to 89 MB resident, but 20 to 28 of its own, and starts with 0.2 s. Of what they share, 27 MB are
  files that are mapped, and half of the rest is compiled Python: 12 MB of the service, as much of PyMongo, Werkzeug
  and pydantic together. Under load a worker comes to 110: 5 MB are the stacks of its 32 threads, the rest what it
  remembers, all of it bounded, and gaps between. The objects of Python in it grow no more after 4,000 requests. At
  rest a worker of the API takes 0.1 % of a core, the streams 0.5 %, the worker 2.3 %, which sends MongoDB some 30
  commands a second, and MongoDB 2.5 %.
- **Sessions.** Those in use are looked at together, two reads each 0.3 s, however many they are (decision
  [0068](decisions/0068-what-mongodb-does-for-a-request.md)). With two reads for each and 0.8 s, a server that answered
  140 requests a second of 50 sessions spent as many reads on sessions as on requests.
- **Mobile session.** The refresh is a write of its own in Madang, and no more than a signature elsewhere.

What it would take to pass bare Node with its native driver on all four: a list and a get are past it, with less CPU.
For writes MongoDB is the larger part, and what Node's has not to do is the indexes and the words: search, and the lists
that are sorted otherwise. An index of words that is written later would not find what a person has just written, so
words are written with the text. PocketBase without its log (266 µs for a get in all, with the database in its process)
is out of reach of a server that asks another process: the exchange with MongoDB alone is a third of a get here, and
MongoDB's half of it 160 µs of its own.
"""


def write(results: Path) -> None:
    """Write the page and the plot from what is in `results`."""
    kept = {path.stem: json.loads(path.read_text()) for path in sorted(results.glob("*.json"))}
    PAGE.write_text("\n".join(part.strip() + "\n" for part in sections(kept)))
    if "compare" in kept:
        draw(results / "compare.json")
    print(f"wrote {PAGE.relative_to(ROOT)}")


def sections(kept: dict[str, Any]) -> Iterator[str]:
    """Yield the parts of the page for which there are results."""
    dataset = compare.DATASET
    yield INTRO.format(notes=dataset.notes, accounts=dataset.accounts)
    if "compare" in kept:
        yield from comparison(kept["compare"])
    yield METHOD
    yield BOUNDS
    for name, part in (
        ("instructions", counting),
        ("profile", profile),
        ("growth", growing),
        ("memory", remembering),
        ("workers", working),
        ("writes", writing),
        ("mongod", setting),
        ("search", searching),
        ("changes", following),
        ("pulls", pulling),
        ("live", telling),
        ("files", holding),
        ("transfers", handing),
    ):
        if name in kept:
            yield part(kept[name])
    yield machines(kept)


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; numbers stand to the right."""
    rule = ["---"] + ["---:"] * (len(heads) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, rule, *lines))


# --- The comparison --------------------------------------------------------------------------------------------------


def comparison(result: dict[str, Any]) -> Iterator[str]:
    """Yield the tables of the comparison."""
    rows: Rows = result["rows"]
    shown = [contender for contender in lineup.ALL if any(row["name"] == contender.name for row in rows)]
    workloads = [name for name in load.WORKLOADS if any(row["workload"] == name for row in rows)]
    counts = sorted({row["connections"] for row in rows}, reverse=True)
    for count in counts:
        yield f"### {count} connection{'s' * (count > 1)}"
        yield "Answers per second, relative to the bare callable in the same round: median (lowest to highest)."
        yield ratios(rows, shown, workloads, count)
        yield writes(rows, shown, count)
        yield "CPU per answer in µs, and latency p50 / p99 in ms."
        yield costs(rows, shown, workloads, count)
        if count == counts[0]:
            yield "![Throughput relative to the bare callable](performance.svg)"


def ratios(rows: Rows, shown: Sequence[Contender], workloads: Sequence[str], connections: int) -> str:
    """Return the table of throughput, as ratios and for the bare callable in figures too."""
    lines = []
    for workload in workloads:
        cells = [compare.cell(rows, contender.name, workload, connections) for contender in shown]
        goal = f"{TARGETS[workload]:.2f}" if workload in TARGETS else ""
        line = [f"1.00 = {cells[0].rate:,.0f}/s"]
        line += [f"**{cell.ratio:.2f}** ({cell.low:.2f} to {cell.high:.2f})" for cell in cells[1:]]
        lines.append([WORKLOADS[workload], *line, goal])
    return table(["", *(contender.title for contender in shown), "Madang's goal"], lines)


def writes(rows: Rows, shown: Sequence[Contender], connections: int) -> str:
    """Return what the writes of Madang are relative to those of a bare callable with the same indexes."""
    if contenders.INDEXED not in shown:
        return ""
    found = {
        workload: compare.cell(rows, "madang", workload, connections, "indexed")
        for workload in ("create", "patch")
        if any(row["workload"] == workload for row in rows)
    }
    parts = ", ".join(
        f"{name} **{cell.ratio:.2f}** ({cell.low:.2f} to {cell.high:.2f})" for name, cell in found.items()
    )
    return (
        "Writes wait for MongoDB. Against the bare callable on a database with indexes that answer the same lists,\n"
        f"and MongoDB's own index of texts: {parts}."
    )


def costs(rows: Rows, shown: Sequence[Contender], workloads: Sequence[str], connections: int) -> str:
    """Return the table of CPU and latency."""
    lines = []
    for workload in workloads:
        cells = [compare.cell(rows, contender.name, workload, connections) for contender in shown]
        lines.append([WORKLOADS[workload], *(f"{cell.cpu:.0f} · {cell.p50:.1f} / {cell.p99:.1f}" for cell in cells)])
    return table(["", *(contender.title for contender in shown)], lines)


def plain(rows: Rows, yardstick: str = "bare") -> str:
    """Return the comparison for a terminal, with ratios to the yardstick within each round."""
    lines = []
    width = max(len(row["name"]) for row in rows)
    for count in sorted({row["connections"] for row in rows}, reverse=True):
        for workload in dict.fromkeys(row["workload"] for row in rows):
            for name in dict.fromkeys(row["name"] for row in rows):
                found = compare.cell(rows, name, workload, count, yardstick)
                lines.append(
                    f"{count:3} {workload:8} {name:{width}} {found.rate:7.0f}/s  ratio {found.ratio:.2f}"
                    f" ({found.low:.2f}-{found.high:.2f})  CPU {found.cpu:5.0f} µs, ratio {found.cpu_ratio:.2f}"
                    f"  MongoDB {found.database:5.0f} µs  p50 {found.p50:.2f}  p99 {found.p99:.1f}"
                )
    return "\n".join(lines)


def draw(results: Path) -> None:
    """Draw the plot, with the interpreter that has matplotlib."""
    names = {contender.name: contender.title for contender in lineup.ALL}
    titles = json.dumps({"names": names, "workloads": WORKLOADS, "targets": TARGETS})
    plot = Path(__file__).with_name("plot.py")
    subprocess.run([contenders.PEERS_PYTHON, str(plot), str(results), str(PLOT), titles], check=True, timeout=300)


# --- The other tables ------------------------------------------------------------------------------------------------


def counting(result: dict[str, Any]) -> str:
    """Return the table of instructions."""
    found = {(row["name"], row["workload"]): row["instructions"] for row in result["rows"]}
    lines = []
    for workload in ("get", "list", "create", "patch"):
        bare, own = found["bare", workload], found["madang", workload]
        lines.append([WORKLOADS[workload], f"{bare / 1000:,.0f}", f"{own / 1000:,.0f}", f"{bare / own:.2f}"])
    return (
        "## Instructions\n\n`python -m bench instructions` counts, under valgrind, the instructions of a request in\n"
        "WSGI application itself, without server and kernel. It hardly moves from run to run, whatever else the\n"
        "machine does: compare it before and after a change.\n\n"
        + table(["thousand instructions", "bare WSGI", "Madang", "bare / Madang"], lines)
    )


def profile(result: dict[str, Any]) -> str:
    """Return the table of shares by package."""
    lines = []
    for row in result["rows"]:
        parts = [f"{name} {share:.0%}" for name, share in row["shares"].items() if share >= 0.02]
        lines.append([f"{row['workload']}, {row['name']}", ", ".join(parts)])
    return (
        "## Shares\n\n`python -m bench profile` shows where the time of a request goes, by function.\n"
        "Here it is by package; what is written in C counts for its caller.\n\n"
        + table(["path", "share of the CPU time"], lines).replace("---:", "---")
    )


def growing(result: dict[str, Any]) -> str:
    """Return the table of growth."""
    titles = {"get": "get by id", "list": "list of 20, filtered, sorted", "page": f"page {growth.PAGES} deep"}
    rows: Rows = result["rows"]
    lines = []
    for workload, cells in growth.summary(rows).items():
        lines.append([titles[workload], *(f"{value:.2f} ms ({ratio:.2f})" for value, ratio in cells.values())])
    return (
        f"## Growth\n\n`python -m bench growth`: median latency of one connection with ever more records, of "
        f"{growth.ACCOUNTS} accounts; in brackets relative to\nthe smallest. The goal is at most 1.15.\n\n"
        + table(["records", *(f"{size:,}" for size in growth.SIZES)], lines)
    )


def remembering(result: dict[str, Any]) -> str:
    """Return the figures of memory."""
    rows = result["rows"]
    samples = rows["requests"]
    step = max(1, len(samples) // 8)
    shown = [*samples[:-1:step], samples[-1]]
    added = "\n".join(f"- {name}: {value:+.0f} MB at most" for name, value in rows["large"].items())
    return (
        "## Memory\n\n`python -m bench memory`: resident memory of a worker under load. The goal is a flat line under\n"
        "100 MB, and at most 20 MB more for an export or a list of large records.\n\n"
        + table(["requests", *(f"{sample['requests']:,.0f}" for sample in shown)],
                [["MB", *(f"{sample['megabytes']:.0f}" for sample in shown)]])
        + f"\n\n{added}"
    )  # fmt: skip


def working(result: dict[str, Any]) -> str:
    """Return the table of workers."""
    lines = []
    rows: Rows = result["rows"]
    for workers, cores in ((1, "0"), (2, "0"), (2, "0,1")):
        line = [f"{workers} on {'one core' if cores == '0' else 'both cores, with wrk and MongoDB'}"]
        for workload in ("get", "create"):
            own = [row for row in rows if (row["workers"], row["cores"], row["workload"]) == (workers, cores, workload)]
            rate, cpu = (sorted(row[key] for row in own)[len(own) // 2] for key in ("rate", "cpu"))
            line.append(f"{rate:,.0f}/s · {cpu:.0f} µs")
        lines.append(line)
    return (
        "## Workers\n\n`python -m bench workers`: answers per second and CPU per answer. Several workers share their\n"
        "metrics through files.\n\n" + table(["workers", "get by id", "create"], lines)
    )


def searching(result: dict[str, Any]) -> str:
    """Return the table of what search costs."""
    rows: Rows = result["rows"]
    ways = [way.title for way in search.WAYS]
    lines = []
    for (language, write), costs in search.summary(rows).items():
        lines.append([f"{language}: {write}", *(f"{costs[way].cpu:.0f} µs · {costs[way].ms:.2f} ms" for way in ways)])
    for language in dict.fromkeys(row["language"] for row in rows):
        own = {row["way"]: row for row in rows if row["language"] == language and "size" in row}
        sizes = [f"{own[way]['size'] / 1000:.1f} + {own[way]['index'] / 1000:.1f} kB" for way in ways]
        lines.append([f"{language}: a note, and its part of the index ({own['words']['entries']:.0f} words)", *sizes])
    return (
        "## Search\n\n`python -m bench search`: what a write costs MongoDB, in CPU of its connection, and how long it\n"
        "takes: without search, with MongoDB's own index of texts, as before, and with the words that Madang makes of\n"
        "them ([0041](decisions/0041-search-by-words-of-our-own.md)). Medians of rounds in turns.\n"
        "Compare within a row.\n\n" + table(["", *ways], lines)
    )


def writing(result: dict[str, Any]) -> str:
    """Return the table of what a write costs MongoDB, with one thing dropped at a time."""
    found = write_costs.summary(result["rows"])
    whole = found["nothing"]
    lines = [
        [dropped, *(f"{costs[write]:.0f} µs ({costs[write] / whole[write]:.2f})" for write in write_costs.WRITES_OF)]
        for dropped, costs in found.items()
    ]
    head = WRITTEN.format(rounds=write_costs.ROUNDS, writes=write_costs.WRITES)
    return head + table(["dropped", *write_costs.WRITES_OF], lines)


def following(result: dict[str, Any]) -> str:
    """Return the table of what the order of changes costs and how soon a change is seen."""
    found: dict[str, float] = result["rows"]
    lines = [
        [
            name,
            f"{value:,.0f}" if value >= 20 else f"{value:.2f}",
            f"{changes.GOALS[name]:,}" if name in changes.GOALS else "",
        ]
        for name, value in found.items()
    ]
    return CHANGED.format(writes=changes.WRITES) + table(["", "measured", "goal"], lines)


def setting(result: dict[str, Any]) -> str:
    """Return what the options bring with which Madang starts a MongoDB of its own."""
    lines = [
        [way, f"{one.rate:,.0f} ({one.ratio:.2f})", f"{one.p50:.0f} / {one.p99:.0f}", f"{one.database:,.0f} µs"]
        for way, one in mongod.summary(result["rows"]).items()
    ]
    text = SET.format(seconds=mongod.SECONDS, rounds=mongod.ROUNDS, cache_gb=mongod.CACHE_GB)
    return text + table(["MongoDB", "patches a second", "p50 / p99 in ms", "MongoDB's CPU for each"], lines)


def pulling(result: dict[str, Any]) -> str:
    """Return the table of what a pull costs by how many records there are."""
    found = result["rows"]
    lines = [
        [size, f"{server:,.0f} µs", f"{found['database'][size]:,.0f} µs"] for size, server in found["server"].items()
    ]
    head = PULLED.format(pulls=pulls.PULLS, rounds=pulls.ROUNDS, places=pulls.PLACES, at_once=pulls.AT_ONCE)
    low, *_, high = found["ratios"]
    return (
        head
        + table(["records", "server", "MongoDB"], lines)
        + f"\n\nOf the most records it costs {found['growth']:.2f} of what it costs of the fewest, in the single rounds"
        f" {low:.2f} to {high:.2f}; the goal is {pulls.GOAL}."
    )


def telling(result: dict[str, Any]) -> str:
    """Return the table of what live connections cost, beside PocketBase."""
    rows: dict[str, dict[str, float]] = result["rows"]
    titles = list(rows)
    lines = [
        [name, *(shown(rows[title][name]) for title in titles), shown(live.GOALS[name]) if name in live.GOALS else ""]
        for name in rows[titles[0]]
    ]
    return LIVE.format(
        idle=live.IDLE,
        subscribers=live.SUBSCRIBERS,
        changes=live.CHANGES * live.ROUNDS,
        writers=live.WRITERS,
        seconds=live.EVENTS_SECONDS,
    ) + table(["", *titles, "goal"], lines)


def holding(result: dict[str, Any]) -> str:
    """Return the table of what transfers of files hold in memory."""
    names = ("before", "most", "goal", "megabytes_a_second")
    lines = [[row["what"], *(shown(row[name]) for name in names)] for row in result["rows"]]
    return (
        "## Files: memory\n\n`python -m bench files`: resident megabytes of the largest process of the streams.\n\n"
        + table(["", "before", "at most", "goal", "MB a second"], lines)
    )


def handing(result: dict[str, Any]) -> str:
    """Return the table of how fast files come and go."""
    titles = list(result["rows"][0])[1:]
    lines = [[row["what"], *(shown(row[title]) if title in row else "" for title in titles)] for row in result["rows"]]
    size = len(transfers.CONTENT) // 2**20
    return TRANSFERS.format(size=size, rounds=transfers.ROUNDS) + table(["", *titles], lines)


def shown(value: float) -> str:
    """Return a number as a table has it."""
    return f"{value:,.0f}" if value >= 20 else f"{value:.2f}"


# --- Where -----------------------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """Return what the figures depend on: processor, system and versions."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    mongod = subprocess.run([str(find_mongod()), "--version"], capture_output=True, text=True, timeout=60, check=True)
    return {
        "processor": names[0].partition(":")[2].strip() if names else platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "mongod": mongod.stdout.split()[2],
        "versions": {contender.name: versions(contender) for contender in lineup.ALL},
    }


def versions(contender: Contender) -> dict[str, str]:
    """Return the versions of a server's packages, in its own interpreter; none where that is not there."""
    if not contender.python:
        return {name: version(name) for name in contender.packages}
    code = "import sys, json, importlib.metadata as m; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    try:
        done = subprocess.run(
            [contender.python, "-c", code, *contender.packages], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return {}
    found: dict[str, str] = json.loads(done.stdout)
    return found


def machines(kept: dict[str, Any]) -> str:
    """Return on what was measured."""
    about = next(iter(kept.values()))["machine"] if kept else machine()
    about = kept.get("compare", {}).get("machine", about)
    noted = {name: one["load"] for name, one in kept.items() if "load" in one}
    loads = ", ".join(f"{name} {start:.1f} to {end:.1f}" for name, (start, end) in noted.items())
    system = f"{about['cores']} cores, {about['system']}, Python {about['python']}"
    lines = [
        f"- {about['processor']}, {system}, MongoDB {about['mongod'].removeprefix('v')}",
        f"- load average at the start and at the end, the benchmark's own included: {loads}",
    ]
    for contender in lineup.ALL:
        found = about["versions"].get(contender.name)
        if found:
            lines.append(f"- {contender.title}: " + ", ".join(f"{name} {number}" for name, number in found.items()))
    return "## Measured on\n\n" + "\n".join(lines)
