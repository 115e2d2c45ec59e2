"""No file imports itself by way of others, and the contracts of `.importlinter` let no import pass."""

import configparser
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

CONTRACTS = Path(__file__).parents[1] / ".importlinter"


def refuse_circles(imports: Mapping[str, set[str]]) -> None:
    """Raise CycleError, which names the files, if one of them imports itself by way of others."""
    TopologicalSorter(imports).prepare()


def test_no_file_is_part_of_a_circle() -> None:
    """Imports inside functions and those for types only count, too, and those of `__init__.py`."""
    graph = grimp.build_graph("cuvee", cache_dir=None)
    refuse_circles({file: graph.find_modules_directly_imported_by(file) for file in graph.modules})


def test_a_circle_is_noticed() -> None:
    with pytest.raises(CycleError):
        refuse_circles({"method": {"methods"}, "methods": {"ties"}, "ties": {"method"}})


def test_no_contract_lets_an_import_pass() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(CONTRACTS, encoding="utf-8")
    assert [name for name in contracts if "ignore_imports" in contracts[name]] == []
