"""Pages run in folders of their own; the demo, which takes a minute, runs once for all of them."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cuvee.demo import ROOT
from docs.shell import DemoCache, Shell
from hub.server import LocalHub, running


@pytest.fixture(scope="session")
def demo_cache(tmp_path_factory: pytest.TempPathFactory) -> DemoCache:
    return DemoCache(tmp_path_factory.mktemp("demo") / "cuvee-demo")


@pytest.fixture
def shell(demo_cache: DemoCache, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """A terminal of 120 columns in a new folder, with a cache of its own: what earlier merges found is not at hand.

    Its path is short: a terminal breaks long ones in the middle.
    """
    folder = Path(tempfile.mkdtemp())
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CUVEE_CACHE", str(folder / ".cache" / "cuvee"))
    monkeypatch.setenv("COLUMNS", "120")
    opened = Shell(folder, demo_cache)
    yield opened
    opened.close()
    monkeypatch.undo()
    shutil.rmtree(folder)


@pytest.fixture
def local_hub(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """A hub with the demo's models as `example/NAME`, the one that pages reach; its cache is the page's own."""
    from huggingface_hub import constants

    with running(LocalHub()) as hub:
        for folder in sorted((ROOT / "models").iterdir()):
            hub.put(f"example/{folder.name}", folder, commit=hashlib.sha1(folder.name.encode()).hexdigest())
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(shell.folder / ".cache" / "huggingface" / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "hf_of_the_pages")
        shell.places[hub.address] = "https://huggingface.co"
        yield hub
