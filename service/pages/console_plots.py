"""Plots of the last day in the console: lines of SVG that are made here, with the numbers beside them for who reads."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from service.core.clock import now
from service.upkeep.measurements import MeasuredSpan, last_day

PLOT_LEFT, PLOT_RIGHT, PLOT_TOP, PLOT_BOTTOM = 52, 476, 8, 118
"""Where the lines are within a plot, in units of its view box."""
LABELS_OF_TIME = 4
MOMENT = "%H:%M"

Plotted = float | None
"""A number at one step; None where nobody knows it."""


def sum_of(name: str) -> Callable[[MeasuredSpan], Plotted]:
    """Return what reads a sum of a span; one in which nothing was stored has none."""
    return lambda span: span.counted.get(name)


def held(name: str) -> Callable[[MeasuredSpan], Plotted]:
    """Return what reads the most that was held in a span."""
    return lambda span: span.held.get(name)


def latency(part: float) -> Callable[[MeasuredSpan], Plotted]:
    """Return what reads in how many seconds this part of the requests was answered."""
    return lambda span: span.latency(part)


def number_told(value: float) -> str:
    """Return a number for people."""
    return f"{value:,.0f}"


def time_told(seconds: float) -> str:
    """Return a time for people."""
    return f"{seconds:,.1f} s" if seconds >= 1 else f"{seconds * 1000:,.3g} ms"


def size_told(size: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:,.3g} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


@dataclass(frozen=True, slots=True)
class Series:
    """One line: the name of its text, and what reads its value."""

    name: str
    read: Callable[[MeasuredSpan], Plotted]


@dataclass(frozen=True, slots=True)
class PlotKind:
    """What a plot shows: the name of its text, how its numbers are told, and its lines."""

    name: str
    told: Callable[[float], str]
    series: tuple[Series, ...]


PLOTS = (
    PlotKind(
        "plot_requests",
        number_told,
        (Series("requests", sum_of("requests")), Series("refused_requests", sum_of("refused"))),
    ),
    PlotKind("plot_latency", time_told, (Series("p50", latency(0.5)), Series("p99", latency(0.99)))),
    PlotKind("plot_errors", number_told, (Series("failed_requests", sum_of("failed")),)),
    PlotKind("plot_changes", number_told, (Series("changes", sum_of("changes")),)),
    PlotKind("plot_lag", time_told, (Series("lag", held("lag")),)),
    PlotKind("plot_jobs", number_told, (Series("jobs", sum_of("jobs")), Series("jobs_failed", sum_of("jobs_failed")))),
    PlotKind(
        "plot_outbox",
        number_told,
        (
            Series("sent", sum_of("sent")),
            Series("not_sent_any_more", sum_of("not_sent")),
            Series("waits", held("waiting")),
        ),
    ),
    PlotKind("plot_storage", size_told, (Series("data", held("data")), Series("index_bytes", held("indexes")))),
)
"""The plots of the overview."""


@dataclass(frozen=True, slots=True)
class Column:
    """One step of a plot: where it is, and the numbers that are told over it, by the name of their line."""

    x: float
    moment: str
    numbers: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot as it is drawn: `lines` are paths of SVG by the name of what they show, `top` is the value at its top."""

    name: str
    top: str
    lines: list[tuple[str, str]]
    columns: list[Column]


@dataclass(frozen=True, slots=True)
class Day:
    """The plots of a day, the labels of their time, and all that they show as a table: its columns, and its rows."""

    plots: list[Plot]
    labels: list[tuple[float, str]]
    names: list[tuple[str, str]]
    rows: list[tuple[str, list[str]]]


def day_of_plots() -> Day:
    """Return the plots of the last day."""
    spans = last_day(now())
    width = (PLOT_RIGHT - PLOT_LEFT) / len(spans)
    each = len(spans) // LABELS_OF_TIME
    labels = [
        (PLOT_LEFT + (n + 0.5) * width, told_moment(span)) for n, span in enumerate(spans) if n % each == each // 2
    ]
    rows = [(told_moment(span), [*numbers_of(span)]) for span in reversed(spans) if span.held]
    names = [(kind.name, series.name) for kind in PLOTS for series in kind.series]
    return Day([drawn(kind, spans) for kind in PLOTS], labels, names, rows)


def numbers_of(span: MeasuredSpan) -> Iterator[str]:
    """Yield all numbers of a span as they are told; nothing for what nobody knows."""
    for kind in PLOTS:
        for series in kind.series:
            value = series.read(span)
            yield "" if value is None else kind.told(value)


def told_moment(span: MeasuredSpan) -> str:
    """Return when a span began (UTC)."""
    return span.begin.strftime(MOMENT)


def drawn(kind: PlotKind, spans: Sequence[MeasuredSpan]) -> Plot:
    """Return a plot of some spans."""
    width = (PLOT_RIGHT - PLOT_LEFT) / len(spans)
    values = [[series.read(span) for span in spans] for series in kind.series]
    top = max((value for line in values for value in line if value is not None), default=0.0) or 1.0
    columns = []
    for number, span in enumerate(spans):
        told = [(series.name, line[number]) for series, line in zip(kind.series, values, strict=True)]
        numbers = [(name, kind.told(value)) for name, value in told if value is not None]
        if numbers:
            columns.append(Column(round(PLOT_LEFT + number * width, 1), told_moment(span), numbers))
    lines = [(series.name, path(line, top, width)) for series, line in zip(kind.series, values, strict=True)]
    return Plot(kind.name, kind.told(top), lines, columns)


def path(values: Sequence[Plotted], top: float, width: float) -> str:
    """Return the path of a line; where nobody knows the value it has a gap, and what stands alone is a short line."""
    steps, is_open = [], False
    for number, value in enumerate(values):
        if value is None:
            is_open = False
            continue
        x, y = PLOT_LEFT + number * width, PLOT_BOTTOM - (PLOT_BOTTOM - PLOT_TOP) * value / top
        steps.append(f"{'L' if is_open else 'M'}{x:.1f} {y:.1f}H{x + width:.1f}")
        is_open = True
    return "".join(steps)
