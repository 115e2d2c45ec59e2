"""Pages run in folders of their own; the demo, which takes a minute, runs once for all of them."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.shell import DemoCache, Shell


@pytest.fixture(scope="session")
def demo_cache(tmp_path_factory: pytest.TempPathFactory) -> DemoCache:
    return DemoCache(tmp_path_factory.mktemp("demo") / "cuvee-demo")


@pytest.fixture
def shell(tmp_path: Path, demo_cache: DemoCache, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    opened = Shell(tmp_path, demo_cache)
    yield opened
    opened.close()
    monkeypatch.undo()
    shutil.rmtree(tmp_path)
