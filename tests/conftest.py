"""Settings of all tests: compiling a kernel for the first time is no reason for a property to fail."""

import pytest
from hypothesis import settings

settings.register_profile("cuvee", deadline=None)
settings.load_profile("cuvee")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--refresh-examples", action="store_true", help="Write what commands print into the pages.")


@pytest.fixture(scope="session", autouse=True)
def _compiled_kernels() -> None:
    """Merge the tests' tiny models by compiled kernels, as models of any size are; `SMALL` would leave them out."""
    kernels = pytest.importorskip("cuvee.kernels")
    kernels.SMALL = 0
