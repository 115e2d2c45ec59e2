"""The whole job on the bundled family. Training sums differ between machines; what is asserted is order, not digits."""

import json
from pathlib import Path

import pytest

from cuvee import demo
from cuvee.progress import Silent
from cuvee.report import Entry, Leaderboard
from cuvee.report.leaderboard import verdict_sentence
from cuvee.showcase import Demo, FirstVerdict, run_demo
from cuvee.showcase.blends import BLENDS

pytest.importorskip("transformers")


WHICH_METHOD = Path(__file__).parents[2] / "docs" / "explanation" / "which-method.md"


class Heard(Silent):
    """Remembers what began, and the first verdict among it."""

    def __init__(self) -> None:
        self.events: list[str | FirstVerdict] = []

    def start(self, what: str, total: int, unit: str) -> None:
        self.events.append(f"{what}: {total} {unit}")


@pytest.fixture(scope="module")
def heard() -> Heard:
    return Heard()


@pytest.fixture(scope="module")
def shown(heard: Heard, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return run_demo(tmp_path_factory.mktemp("demo") / "out", progress=heard, first=heard.events.append)


@pytest.fixture(scope="module")
def board(shown: Demo) -> Leaderboard:
    return shown.leaderboard


def of_kind(board: Leaderboard, *kinds: str) -> list[Entry]:
    return [entry for entry in board.entries if entry.kind in kinds]


def test_at_least_three_blends_beat_every_parent_on_the_private_part(board: Leaderboard) -> None:
    best_parent = max(entry.private.value for entry in of_kind(board, "base", "expert"))
    assert sum(entry.private.value > best_parent for entry in of_kind(board, "blend")) >= 3


def test_the_blend_chosen_on_public_clearly_beats_the_best_parent_on_private(board: Leaderboard) -> None:
    chosen = max(of_kind(board, "blend"), key=lambda entry: entry.public.value)
    hardest = max(of_kind(board, "base", "expert"), key=lambda entry: entry.private.value)
    assert (board.best_blend, board.best_parent) == (chosen.name, hardest.name)
    assert board.verdict.low > 0
    assert "beats the best parent" in verdict_sentence(board)


def test_the_demo_crowns_the_method_that_the_comparison_of_all_methods_crowns(board: Leaderboard) -> None:
    rows = [line for line in WHICH_METHOD.read_text().splitlines() if line.startswith("| ")]
    best = rows[1].split("|")[1].strip()
    (chosen,) = (entry for entry in board.entries if entry.name == board.best_blend)
    assert (rows[0].split("|")[1].strip(), chosen.method) == ("method", best)


def test_a_first_verdict_comes_before_the_other_blends_are_made(heard: Heard, board: Leaderboard) -> None:
    begun = [event for event in heard.events if not str(event).startswith("compile")]
    verdict = begun[2]
    assert isinstance(verdict, FirstVerdict)
    items, parents = sum(task.n_public for task in board.tasks), len(of_kind(board, "base", "expert"))
    assert begun[:2] == ["blend: 1 blends", f"first look: {(parents + 1) * items} items"]
    assert begun[3] == f"blend: {len(BLENDS) - 1} blends"
    scores = {entry.name: entry.public.value for entry in board.entries}
    assert verdict.parent == max((entry.name for entry in of_kind(board, "base", "expert")), key=scores.__getitem__)
    assert verdict.difference.value == pytest.approx(scores[verdict.blend] - scores[verdict.parent])
    assert "on the public part" in verdict.sentence


def test_each_expert_is_the_best_single_model_on_its_own_skill(board: Leaderboard) -> None:
    parents = of_kind(board, "base", "expert")
    assert len(parents) >= 5
    for expert in of_kind(board, "expert"):
        others = [entry for entry in parents if entry is not expert]
        for scores in ("public_tasks", "private_tasks"):
            own = getattr(expert, scores)[expert.skill].value
            assert own > max(getattr(other, scores)[expert.skill].value for other in others) + 0.1


def test_too_much_of_every_expert_is_worse_than_any_parent(board: Leaderboard) -> None:
    scores = {entry.name: entry.private.value for entry in board.entries}
    assert scores["sum-1.0"] < min(entry.private.value for entry in of_kind(board, "base", "expert"))


def test_there_are_a_dozen_blends_by_several_methods(board: Leaderboard) -> None:
    blends = of_kind(board, "blend")
    assert len(blends) == len(BLENDS) >= 12
    assert len({entry.method for entry in blends}) >= 3


def test_the_page_and_the_folder_hold_everything(shown: Demo) -> None:
    page = shown.page.read_text()
    out = shown.page.parent
    for blend in BLENDS:
        assert blend.name in page
        assert (out / "recipes" / f"{blend.name}.yaml").exists()
        assert json.loads((out / "blends" / blend.name / "cuvee.json").read_text())["weights_digest"]
    for name in (demo.BASE, *demo.expert_names()):
        assert (out / "models" / name / "tokenizer.json").exists()


def test_the_page_has_the_commands_that_make_the_aligned_blend(shown: Demo, board: Leaderboard) -> None:
    aligned = next(blend for blend in BLENDS if blend.aligns)
    assert board.best_blend == aligned.name
    assert "#" not in board.starter_recipe
    _, repaired, measured = board.commands
    assert repaired.startswith("cuvee align my-blend my-aligned-blend")
    assert "--expert models/sort=texts/sort.jsonl" in repaired
    assert (shown.page.parent / "texts" / "sort.jsonl").exists()
    assert measured.startswith("cuvee evaluate my-aligned-blend")
    record = json.loads((shown.page.parent / "blends" / aligned.name / "cuvee.json").read_text())
    assert record["kind"] == "aligned"


def test_the_demo_replaces_its_own_folder_and_no_other(tmp_path: Path) -> None:
    from cuvee.errors import RecipeError

    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "train.py").write_text("mine")
    with pytest.raises(RecipeError, match="not a folder of the demo"):
        run_demo(tmp_path)
    assert (tmp_path / "models" / "train.py").read_text() == "mine"
