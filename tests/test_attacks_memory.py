"""Attacks on memory: the worst megabyte for each parser, in a process that says how large it was (OWASP API4:2023)."""

import json
import re
import subprocess
import sys

import pytest

from service.mongo import connection
from tests.conftest import ROOT
from tests.peaks import CASES, MIB, STREAMS

pytestmark = pytest.mark.once

NAMES = [*(case[0] for case in CASES), *STREAMS]

ROW = re.compile(r"^\| `([^`|]+)` \| ([0-9]+) \|", re.MULTILINE)
TABLE = {name: int(peak) for name, peak in ROW.findall((ROOT / "docs/attacks.md").read_text())}
"""What each parser rises to, in MiB, as the page says."""


@pytest.fixture(scope="module")
def peaks() -> dict[str, tuple[int, int]]:
    """The bytes and the status of each case."""
    told = subprocess.run(
        [sys.executable, "-m", "tests.peaks", connection.MEMORY], cwd=ROOT, capture_output=True, check=True
    )
    return json.loads(told.stdout.splitlines()[-1])


def test_the_page_has_a_row_for_each_parser() -> None:
    assert list(TABLE) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_no_request_takes_more_memory_than_the_page_says(peaks: dict[str, tuple[int, int]], name: str) -> None:
    grown, status = peaks[name]
    assert status < 500
    assert grown < (TABLE[name] * 1.25 + 2) * MIB
