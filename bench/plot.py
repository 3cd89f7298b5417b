"""Draw the comparison; run by the interpreter that has matplotlib: `plot.py <results> <picture> <titles>`."""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

COLOURS = ("#9aa0a6", "#1a6b4f", "#4c78a8", "#b07aa1", "#c98b3c", "#5f6368", "#b5594c")


def ratios(rows: list[dict[str, Any]], name: str, workload: str, connections: int) -> list[float]:
    """Return the throughput of a server relative to the bare callable, by round."""
    rates = {
        (row["name"], row["round"]): row["rate"]
        for row in rows
        if (row["workload"], row["connections"]) == (workload, connections)
    }
    return [rate / rates["bare", turn] for (server, turn), rate in rates.items() if server == name]


def main(results: Path, picture: Path, titles: dict[str, Any]) -> None:
    """Draw bars by workload, with the spread over the rounds and the goals."""
    rows = json.loads(results.read_text())["rows"]
    connections = max(row["connections"] for row in rows)
    present = {row["workload"] for row in rows}
    workloads = [name for name in titles["workloads"] if name in present]
    names = [name for name in titles["names"] if any(row["name"] == name for row in rows)]
    figure, axes = plt.subplots(figsize=(9, 4))
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        found = [ratios(rows, name, workload, connections) for workload in workloads]
        middle = [statistics.median(values) for values in found]
        spread = [
            [value - min(values) for value, values in zip(middle, found, strict=True)],
            [max(values) - value for value, values in zip(middle, found, strict=True)],
        ]
        places = [at + (number - (len(names) - 1) / 2) * width for at in range(len(workloads))]
        label, colour = titles["names"][name], COLOURS[number % len(COLOURS)]
        axes.bar(places, middle, width, yerr=spread, label=label, color=colour, error_kw={"lw": 0.8, "alpha": 0.6})
    for at, workload in enumerate(workloads):
        if workload in titles["targets"]:
            goal = titles["targets"][workload]
            axes.plot(
                [at - 0.45, at + 0.45], [goal, goal], color="black", lw=1, ls="--", label="goal" if at == 0 else ""
            )
    axes.set_xticks(range(len(workloads)), [titles["workloads"][name].replace(", ", ",\n") for name in workloads])
    axes.set_ylabel(f"answers per second, bare = 1\n({connections} connections)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.18))
    figure.savefig(picture, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
