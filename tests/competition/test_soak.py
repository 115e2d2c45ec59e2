"""The soak, small: workers and the server are killed while teams send. The whole is run by hand: see `soak.py`."""

from pathlib import Path

import pytest

from competition.soak import LONGEST_AFTERLIFE, soak
from cuvee.competition.database import sqlite_url
from cuvee.errors import PlatformError
from cuvee.submission.competition import TIERS
from cuvee.submission.sandbox.choose import choose_sandbox


@pytest.fixture(autouse=True)
def path_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path(__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", f"{here.parent / 'src'}:{here}")


def test_nothing_is_lost_or_counted_twice_while_processes_are_killed(tmp_path: Path) -> None:
    figures = soak(sqlite_url(tmp_path / "soak.db"), tmp_path, count=16, teams=4, workers=2, kills=3, minutes=5)
    assert figures["submissions"] == 16
    assert 1 <= figures["kills"] <= 3, "a fast machine is done before the last"


@pytest.mark.slow  # it builds models in the sandbox, some of them twice
def test_no_job_of_any_tier_outlives_its_worker(tmp_path: Path) -> None:
    try:
        choose_sandbox("program")
    except PlatformError as error:
        pytest.skip(f"this machine takes no code: {error.message}")
    figures = soak(
        sqlite_url(tmp_path / "soak.db"),
        tmp_path,
        count=3,
        teams=1,
        workers=1,
        kills=2,
        minutes=15,
        tiers=TIERS,
    )
    assert figures["states"] == {"scored": 3}
    assert figures["longest_afterlife_seconds"] <= LONGEST_AFTERLIFE
