"""What the command of examples/smollm2 takes is kept over its runs."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("resource")

EXAMPLES = Path(__file__).parents[2] / "examples" / "smollm2"
WORK = "sum(range(3_000_000))"


@pytest.fixture(scope="module")
def costs() -> Iterator[ModuleType]:
    sys.path.insert(0, str(EXAMPLES))
    import costs

    yield costs
    sys.path.remove(str(EXAMPLES))


def test_seconds_of_a_step_add_up_and_those_of_children_count(costs: ModuleType, tmp_path: Path) -> None:
    with costs.counted(tmp_path, "step"):
        subprocess.run([sys.executable, "-c", WORK], check=True)
    first = costs.read_costs(tmp_path)["seconds"]["step"]
    with costs.counted(tmp_path, "step"):
        subprocess.run([sys.executable, "-c", WORK], check=True)
    assert 0 < first < costs.read_costs(tmp_path)["seconds"]["step"]


def test_the_highest_memory_stays_and_every_worker_counts(
    costs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "peak_bytes", lambda workers: 10 + 5 * workers)
    with costs.counted(tmp_path, "search", workers=2):
        pass
    with costs.counted(tmp_path, "measuring"):
        pass
    assert costs.read_costs(tmp_path)["peak_bytes"] == 20


def test_a_step_that_fails_is_not_counted(costs: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stop"), costs.counted(tmp_path, "step"):
        raise ValueError("stop")
    assert costs.read_costs(tmp_path) == {"seconds": {}, "peak_bytes": 0}
