"""Long work says which of how many: tensors, parts, stages, models, tasks."""

from pathlib import Path

import pytest

import cuvee
from cuvee.cli.progress import _Lines
from cuvee.progress import Silent, Within
from cuvee.testing import random_weights, write_model

TWO_STAGES = """\
name: inner
merge_method: linear
models: [{model: a}, {model: b}]
parameters: {weight: 1}
---
merge_method: linear
models: [{model: inner}, {model: b}]
parameters: {weight: 1}
"""


class Heard(Silent):
    """Progress that remembers what it was told in words."""

    def __init__(self) -> None:
        self.stretches: list[str] = []
        self.notes: list[str] = []

    def start(self, what: str, total: int, unit: str) -> None:
        self.stretches.append(what)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for seed, name in enumerate("ab"):
        write_model(tmp_path / name, random_weights(seed))
    (tmp_path / "stages.yaml").write_text(TWO_STAGES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_merge_counts_its_tensors(here: Path) -> None:
    heard = Heard()
    recipe = cuvee.recipe_from_text("merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 1}\n")
    count = len(cuvee.make_plan(recipe).steps)
    cuvee.merge(recipe, "out", threads=2, progress=heard)
    assert heard.notes == [f"{number} of {count} tensors" for number in range(1, count + 1)]


def test_a_part_counts_its_own_tensors_and_says_which_it_is(here: Path) -> None:
    heard = Heard()
    recipe = cuvee.recipe_from_text("merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 1}\n")
    part = cuvee.merge_part(recipe, "out", cuvee.Part(2, 2), progress=heard, shard_bytes=20_000)
    assert heard.stretches[-1] == "part 2/2: merge"
    assert heard.notes[-1] == f"{part.tensors} of {part.tensors} tensors"


def test_stages_say_which_of_how_many_they_are(here: Path) -> None:
    heard = Heard()
    cuvee.merge_stages(cuvee.load_stages("stages.yaml"), "out", progress=heard)
    assert [what for what in heard.stretches if "compile" not in what] == ["stage 1 of 2: merge", "stage 2 of 2: merge"]


def test_a_line_in_a_log_has_the_note(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cuvee.cli.progress.SECONDS_BETWEEN_LINES", -1)
    progress = Within(_Lines(), "stage 1 of 2")
    progress.start("merge", 200, "bytes")
    progress.note("12 of 39 tensors")
    progress.advance(100)
    assert capsys.readouterr().err.splitlines() == [
        "stage 1 of 2: merge: 200 bytes",
        "stage 1 of 2: merge: 50%, 12 of 39 tensors",
    ]
