"""The short form of `make chaos`: nothing acknowledged is lost or doubled, whatever is killed; and that is noticed."""

from collections import Counter
from pathlib import Path

import pytest

from chaos import death, failover
from chaos.ledger import Findings, Ledger, compare_sum, compare_titles
from chaos.stage import staged

SLACK = 10.0
"""Other tests may keep the machine busy meanwhile."""


@pytest.mark.real
def test_what_is_acknowledged_survives_whatever_is_killed(tmp_path: Path) -> None:
    settings = {"DRAIN_DELAY": str(death.DRAIN_DELAY)}
    with staged(tmp_path, workers=2, settings=settings, slack=SLACK) as stage:
        for fault in (failover.kill_primary, failover.step_down):
            stage.play(0.5)
            fault(stage)
            stage.cluster.restore()
        for number, blow in enumerate((death.kill_worker, death.restart_in_turns, death.kill_everything)):
            stage.play(0.5)
            blow(stage, number)
        outcome = stage.finish("short", 5)
    assert outcome.complaints() == []
    told = outcome.ledger.outcomes
    assert told["acknowledged"] > 50
    assert told["refused"] > 10


# The checks themselves


@pytest.mark.parametrize(
    ("outcome", "times", "found"),
    [
        ("acknowledged", 0, "losses"),
        ("acknowledged", 2, "duplicates"),
        ("refused", 1, "ghosts"),
        ("unknown", 2, "duplicates"),
    ],
)
def test_a_record_that_should_not_be_or_not_be_missing_is_noticed(outcome, times: int, found: str) -> None:
    findings = Findings()
    compare_titles({"x": outcome}, [{"title": "x"}] * times, findings)
    assert len(getattr(findings, found)) == 1


@pytest.mark.parametrize(("priority", "found"), [(1, "losses"), (4, "duplicates")])
def test_a_sum_that_is_not_exact_is_noticed(priority: int, found: str) -> None:
    findings = Findings()
    compare_sum("n", Counter(acknowledged=2, unknown=1, refused=3), {"priority": priority}, findings)
    assert len(getattr(findings, found)) == 1


def test_a_record_may_be_what_an_unknown_write_made_of_it() -> None:
    ledger = Ledger()
    ledger.change("n", "first", "acknowledged")
    ledger.change("n", "second", "refused")
    assert ledger.states["n"] == {"first"}
    ledger.change("n", None, "unknown")
    assert ledger.states["n"] == {"first", None}
