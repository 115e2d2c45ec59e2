"""Settings of all tests: compiling a kernel for the first time is no reason for a property to fail."""

import pytest
from hypothesis import settings

settings.register_profile("cuvee", deadline=None)
settings.load_profile("cuvee")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--refresh-examples", action="store_true", help="Write what commands print into the pages.")
