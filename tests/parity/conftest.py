"""One run of mergekit for all tests here, shared by the processes that pytest-xdist starts."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from parity.differences import DIFFERENCES, recipes
from parity.draws import DRAWS
from parity.environment import NoEnvironment, interpreter, locked
from parity.models import write_models
from parity.recipes import DRAWN, Case, Loaded, case
from parity.run import Answers, answers_in, ask_mergekit

Draw = Callable[[str, Loaded], Case]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all processes of the session have in common."""
    own = tmp_path_factory.getbasetemp()
    return (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "parity"


@pytest.fixture(scope="session")
def drawn(shared: Path) -> Draw:
    """Return the one recipe of a method and number type that is merged in each run of the tests."""
    return lambda key, loaded: case(key, loaded, 0, shared / "models")


@pytest.fixture(scope="session")
def answers(shared: Path, drawn: Draw) -> Answers:
    """Return what mergekit makes of all that the tests ask."""
    folder, refused = shared / "mergekit", shared / "no-environment"
    with locked(shared / "lock"):
        if not (folder / "answers.json").exists() and not refused.exists():
            try:
                python = interpreter()
            except NoEnvironment as error:
                refused.write_text(str(error))
            else:
                write_models(shared / "models")
                cases = [drawn(key, loaded) for key in DRAWN for loaded in ("fp32", "bf16")]
                others = [*DIFFERENCES.values(), *DRAWS.values(), *recipes(shared / "models").values()]
                ask_mergekit(python, folder, cases, others)
        if refused.exists():
            pytest.skip(f"mergekit cannot be installed: {refused.read_text()}")
    return answers_in(folder)
