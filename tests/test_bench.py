"""The benchmark's own checks of answers, on a real MongoDB; nothing is timed."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from bench import check, compare, contenders, growth, lineup
from bench.contenders import BARE, MADANG, Contender
from bench.data import Dataset
from bench.processes import Process

pytestmark = pytest.mark.real
DATASET = Dataset(1000)
TREE = replace(lineup.named(f"tree:{contenders.ROOT}"), name="tree")


@pytest.fixture(scope="module", params=[BARE, MADANG, TREE], ids=lambda contender: contender.name)
def running(
    request: pytest.FixtureRequest, mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Contender, Process]]:
    """A server of the benchmark, on a database of its own beside that of the tests."""
    contender: Contender = request.param
    contenders.seed(contender, mongodb_uri, DATASET)
    with compare.started(contender, mongodb_uri, tmp_path_factory.mktemp("bench")) as process:
        yield contender, process
    contender.drop(mongodb_uri)


def test_a_server_that_is_right_passes(running: tuple[Contender, Process]) -> None:
    check.check(*running, DATASET)


def test_a_list_of_other_notes_is_noticed(running: tuple[Contender, Process]) -> None:
    contender, process = running
    narrowed = replace(contender, list_path=contender.list_path.replace("limit=20", "limit=9"))

    with pytest.raises(check.WrongAnswer, match="a list"):
        check.listing(narrowed, process, DATASET)


def test_a_name_that_nobody_has_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no server 'madam'; there are bare, madang"):
        lineup.named("madam")
    with pytest.raises(ValueError, match="no Madang with a bench"):
        lineup.named("tree:/nowhere")


@pytest.mark.parametrize("running", [MADANG], ids=["madang"], indirect=True)
def test_a_list_of_large_records_leaves_a_worker_small(
    running: tuple[Contender, Process], mongodb_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, process = running
    monkeypatch.setattr(growth, "EXPORTED", 0)
    growth.make_large(mongodb_uri)

    added = growth.growth_of(process)

    assert max(added.values()) < 30
    assert process.memory() < 100
