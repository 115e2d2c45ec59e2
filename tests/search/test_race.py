"""The race and its journal, with a surrogate in place of a model."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from cuvee.errors import RecipeError
from cuvee.search.arms import Arms
from cuvee.search.journal import Candidate, Journal, open_journal
from cuvee.search.race import Answer, Race
from cuvee.search.split import blocks

from .surrogate import Surrogate, items, scale_chance, space

WEIGHTS = {"one": 1.0, "two": 1.0}


def raced(
    folder: Path, *, budget: float = 30, slots: int = 1, measurer: Surrogate | None = None, **keys: object
) -> Race:
    written = space(**keys)
    journal = open_journal(folder, {"space": written.model_dump(mode="json")})
    race = Race(blocks(items(), block=20), WEIGHTS, Arms(written, folder), journal, racing=written.racing)
    race.run(measurer or Surrogate(scale_chance, slots=slots), lambda race: race.items / race.whole / budget)
    return race


def table(race: Race) -> list[tuple[object, ...]]:
    done = sorted(race.done.items())
    return [(n, each.candidate.recipe, each.outcome.state, each.outcome.value, each.outcome.items) for n, each in done]


class Stopped(Exception):
    """The process is killed."""


class Killed(Surrogate):
    """Dies after some blocks."""

    def __init__(self, after: int) -> None:
        super().__init__(scale_chance)
        self._after = after

    def next_done(self) -> Answer:
        if self.calls > self._after:
            raise Stopped
        return super().next_done()


def test_a_race_drops_the_bad_and_finds_a_better_recipe_than_its_anchors(tmp_path: Path) -> None:
    race = raced(tmp_path)
    states = [each.outcome.state for each in race.done.values()]
    assert states.count("dropped") > 5
    assert race.incumbent is not None
    anchors = [each.outcome.value for each in race.done.values() if each.candidate.anchor]
    assert race.incumbent.outcome.value >= max(anchors)


def test_anchors_answer_everything(tmp_path: Path) -> None:
    race = raced(tmp_path)
    anchors = [each for each in race.done.values() if each.candidate.anchor]
    assert len(anchors) == 4 + 1 + 5 + 2
    assert {each.outcome.items for each in anchors} == {race.whole}


def test_without_racing_everyone_answers_everything(tmp_path: Path) -> None:
    race = raced(tmp_path, racing=False)
    assert {each.outcome.items for each in race.done.values()} == {race.whole}
    assert len(race.done) == 30


def test_racing_tries_more_candidates_for_the_same_items(tmp_path: Path) -> None:
    plain = raced(tmp_path / "plain", racing=False, sampler="random")
    assert len(raced(tmp_path / "racing", sampler="random").done) > 1.3 * len(plain.done)


@pytest.mark.parametrize("sampler", ["auto", "random", "cma"])
def test_a_search_killed_at_any_block_ends_as_if_it_had_not_been(tmp_path: Path, sampler: str) -> None:
    keys = {"sampler": sampler, "search": {"method": "task_arithmetic"}}
    whole = raced(tmp_path / "whole", budget=16, **keys)
    for after in (5, 18, 25):
        folder = tmp_path / f"killed {after}"
        with pytest.raises(Stopped):
            raced(folder, budget=16, measurer=Killed(after), **keys)
        assert table(raced(folder, budget=16, **keys)) == table(whole)


def test_a_torn_last_line_costs_one_block(tmp_path: Path) -> None:
    whole = raced(tmp_path / "whole", budget=16)
    with pytest.raises(Stopped):
        raced(tmp_path / "torn", budget=16, measurer=Killed(20))
    newest = max((tmp_path / "torn" / "items").glob("*.jsonl"), key=lambda file: int(file.stem))
    newest.write_bytes(newest.read_bytes()[:-9])
    assert table(raced(tmp_path / "torn", budget=16)) == table(whole)


def test_no_candidate_is_twice_in_the_journal(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        raced(tmp_path, budget=20, measurer=Killed(20))
    race = raced(tmp_path, budget=20)
    events = [json.loads(line) for line in (tmp_path / "candidates.jsonl").read_text().splitlines()]
    asked = [event["number"] for event in events if event["event"] == "asked"]
    done = [event["number"] for event in events if event["event"] == "done"]
    assert asked == sorted(set(asked)) == sorted(set(done)) == sorted(race.done)


def test_several_slots_run_several_candidates(tmp_path: Path) -> None:
    race = raced(tmp_path, slots=4)
    assert race.incumbent is not None
    assert not race.running


def test_a_block_that_fails_three_times_fails_its_candidate(tmp_path: Path) -> None:
    class Failing(Surrogate):
        def next_done(self) -> Answer:
            answer = super().next_done()
            if self.calls % 20 < 3:
                return Answer(answer.slot, {}, 0, 0.0, failure="the process died", lost=True)
            return answer

    race = raced(tmp_path, measurer=Failing(scale_chance))
    failed = [each.outcome for each in race.done.values() if each.outcome.state == "failed"]
    assert failed
    assert {each.reason for each in failed} == {"the process died"}


def test_another_space_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    raced(tmp_path, budget=15)
    with pytest.raises(RecipeError, match=r"another space.*\n.*--fresh"):
        raced(tmp_path, budget=15, seed=1)


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(RecipeError, match="something else"):
        raced(tmp_path)


def test_the_journal_gives_back_what_was_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    candidate = Candidate(0, "ties", "ties 1", {"density": 0.2, "lambda": 0.1234567890123}, "a: \u2028b\n", False, 0.5)
    journal.asked(candidate)
    assert list(Journal(tmp_path).events()) == [candidate]


class Slow(Surrogate):
    """Takes a moment for each stretch, so that a kill finds it at work."""

    def next_done(self) -> Answer:
        time.sleep(0.005)
        return super().next_done()


def stretches(folder: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in (folder / "items").glob("*.jsonl"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_thirty_kills_lose_no_finished_stretch_and_change_nothing(tmp_path: Path) -> None:
    keys = {"sampler": "random", "search": {"method": "task_arithmetic"}}
    whole = raced(tmp_path / "whole", budget=24, **keys)
    folder = tmp_path / "killed"
    moments = random.Random(0)
    answered = [0]
    for _ in range(30):
        child = os.fork()
        if child == 0:
            raced(folder, budget=24, measurer=Slow(scale_chance), **keys)
            os._exit(0)
        deadline = time.monotonic() + 20
        while stretches(folder) <= answered[-1] and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        answered.append(stretches(folder))
    assert answered == sorted(set(answered))
    assert table(raced(folder, budget=24, **keys)) == table(whole)
