"""The soak, small: workers and the server are killed while teams send. The whole is run by hand: see `soak.py`."""

from pathlib import Path

import pytest

from competition.soak import soak
from cuvee.competition.database import sqlite_url


def test_nothing_is_lost_or_counted_twice_while_processes_are_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Path(__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", f"{here.parent / 'src'}:{here}")
    found = soak(sqlite_url(tmp_path / "soak.db"), count=16, teams=4, workers=2, kills=3, minutes=5)
    assert found["submissions"] == 16
    assert found["kills"] == 3
