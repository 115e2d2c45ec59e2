"""A participant's way as a notebook, with this server's address in it: from nothing to a place on the board.

The format is nbformat 4.5 (https://nbformat.readthedocs.io). Commands stand after `!`, as Jupyter and Colab run them.
"""

import json
import shlex
from collections.abc import Iterable, Iterator
from typing import Any

from cuvee.competition.pages.start import NO_BASELINE
from cuvee.extras import origin, requirement
from cuvee.submission.competition import Competition

EXTRA = "eval"
FIRST_ITEMS = 20
MINE = "mine.yaml"

TOKEN = """import os
from getpass import getpass

SERVER = {address!r}
os.environ["CUVEE_SERVER"] = SERVER
os.environ["CUVEE_TOKEN"] = os.environ.get("CUVEE_TOKEN") or getpass("The token of your team: ")"""

BOARD = """import json
from urllib.request import urlopen

board = json.load(urlopen(f"{SERVER}/api/board"))
for place in board["places"][:20]:
    score = place["score"]
    low, high = 100 * score["low"], 100 * score["high"]
    print(f"{100 * score['value']:5.1f}  {low:5.1f} to {high:5.1f}  {place['team']['name']}")"""


def notebook_of(competition: Competition, address: str) -> str:
    """Write the notebook for a competition at an address, as JSON."""
    content = {
        "cells": [_cell(f"cell-{number}", *cell) for number, cell in enumerate(_cells(competition, address))],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _cells(of: Competition, address: str) -> Iterator[tuple[str, str]]:
    """Yield the cells: Markdown or code, and what stands in them."""
    place, recipe = _recipe(of)
    yield "markdown", f"# {of.title}\n\nFrom nothing to a place on the board of <{address}>. Run the cells from above."
    yield "code", _install_line(origin())
    yield "markdown", f"Join at <{address}/join>. The token that you get there is asked for here, and not kept."
    yield "code", TOKEN.format(address=address)
    yield "markdown", "All that the competition hands out: rules, public tasks, baselines, texts and models."
    yield "code", _command("competition", "get", address, of.name)
    yield "markdown", "## A recipe\n\nThis one is yours to change. `cuvee methods` lists the methods."
    yield "code", f"%%writefile {place}\n{recipe}"
    yield "code", _command("submission", "check", place)
    if of.models:
        yield "markdown", f"## At home\n\nMerge it, and ask it the first {FIRST_ITEMS} items of each public task."
        yield "code", _command("merge", place, "mine")
        tasks = [f"{of.name}/{task.public}" for task in of.tasks]
        yield "code", _command("evaluate", "mine", *tasks, "--limit", str(FIRST_ITEMS))
    yield "markdown", "## To the judge\n\nThis follows the entry until it has a score."
    yield "code", _command("submission", "send", place, "--wait")
    yield "code", BOARD


def _recipe(of: Competition) -> tuple[str, str]:
    """Return where the recipe is written, and its text: that of the first baseline, or one to be filled in."""
    for baseline in of.ranking.baselines:
        path = of.folder / baseline
        if path.is_file():
            folder = f"{of.name}/{baseline}".rpartition("/")[0]
            return f"{folder}/{MINE}", path.read_text(encoding="utf-8").rstrip("\n")
    names = [model.name for model in of.models] or ["ORGANISATION/MODEL@COMMIT", "ORGANISATION/OTHER@COMMIT"]
    models = "\n".join(f"  - model: {name}" for name in names)
    return f"{of.name}/{NO_BASELINE}", f"merge_method: linear\nmodels:\n{models}\nparameters: {{weight: 1.0}}"


def _install_line(came_from: dict[str, Any] | None) -> str:
    """Return the line that installs the server's Cuvée; from a folder of the server's nobody else can install."""
    if came_from is not None and str(came_from["url"]).startswith("file:") and "vcs_info" not in came_from:
        return f"# In a checkout of Cuvée:\n%pip install --quiet '.[{EXTRA}]'"
    return f"%pip install --quiet {requirement(EXTRA, came_from)}"


def _command(*words: str) -> str:
    """Return a line that runs a command. Jupyter puts values in the place of names in braces and after a dollar."""
    line = shlex.join(("cuvee", *words))
    for mark in "{}$":
        line = line.replace(mark, 2 * mark)
    return f"!{line}"


def _cell(name: str, kind: str, text: str) -> dict[str, Any]:
    cell: dict[str, Any] = {"cell_type": kind, "id": name, "metadata": {}, "source": _lines(text.split("\n"))}
    return cell if kind == "markdown" else {**cell, "execution_count": None, "outputs": []}


def _lines(lines: Iterable[str]) -> list[str]:
    """Return lines as the format has them: each but the last ends with its newline."""
    *first, last = lines
    return [*(f"{line}\n" for line in first), last]
