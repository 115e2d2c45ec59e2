"""Measures recipes in the slots of an executor, each with a resident model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cuvee.errors import SearchError
from cuvee.executor import Executor
from cuvee.progress import Progress
from cuvee.search.journal import Block, Journal, Part
from cuvee.search.race import TRIES, Answer, Items, Raced
from cuvee.search.racing import Scores
from cuvee.search.space import Dtype


@dataclass
class Slots:
    """Measures in the slots of an executor. Each keeps a resident model."""

    executor: Executor
    models: tuple[str, ...]
    tasks: tuple[str, ...]
    memory_bytes: int | None = None
    device: Any = "auto"
    dtype: Dtype = "float32"
    elsewhere: Any = None
    _setup: Any = field(init=False)

    def __post_init__(self) -> None:
        from cuvee.search.resident import DEFAULT_MEMORY, Elsewhere, Setup

        memory = self.memory_bytes or DEFAULT_MEMORY
        self._setup = Setup(
            self.models,
            self.tasks,
            memory_bytes=memory,
            device=self.device,
            dtype=self.dtype,
            elsewhere=self.elsewhere or Elsewhere(),
        )

    @property
    def slots(self) -> int:
        return self.executor.slots

    def submit(self, slot: int, recipe: str, items: Items) -> None:
        from cuvee.search.resident import measured

        self.executor.submit(slot, measured, self._setup, recipe, items)

    def next_done(self) -> Answer:
        done = self.executor.next_done()
        if done.failure:
            return Answer(done.slot, {}, 0, 0.0, done.failure, done.lost)
        return Answer(done.slot, done.value.scores, done.value.tokens, done.value.seconds)

    def check(self, recipe: str) -> None:
        """Raise SearchError where a merge on the disk gives other bytes or answers than that in memory."""
        for _ in range(TRIES):
            self.executor.submit(0, _checked, self._setup, recipe)
            done = self.executor.next_done()
            if not done.lost:
                break
        if done.lost:
            raise SearchError(f"the winner could not be merged on the disk: {done.failure}", hint="run it again")
        if done.failure:
            raise SearchError(f"the winner: {done.failure}", hint="please report it: this is a defect of cuvee")


def _checked(setup: Any, recipe: str) -> None:
    from cuvee.search.resident import resident_of

    resident_of(setup).check_on_disk(recipe)


def measured_on(
    finalists: Sequence[Raced], part: Part, items: Items, journal: Journal, slots: Slots, progress: Progress
) -> dict[str, Scores]:
    """Measure finalists on a part of the items; answers in the journal are not asked again."""
    known = {each.candidate.number: journal.blocks(each.candidate.number, part) for each in finalists}
    waiting = [each for each in finalists if not known[each.candidate.number]]
    running: dict[int, Raced] = {}
    failures: dict[int, int] = {}
    idle = list(range(slots.slots))
    progress.start(f"measure on the items to {part}", len(finalists), "candidates")
    progress.advance(len(finalists) - len(waiting))
    while waiting or running:
        while waiting and idle:
            slot = idle.pop(0)
            running[slot] = waiting.pop(0)
            slots.submit(slot, running[slot].candidate.recipe, items)
        answer = slots.next_done()
        finalist = running.pop(answer.slot)
        idle.append(answer.slot)
        number = finalist.candidate.number
        if answer.failure:
            failures[number] = failures.get(number, 0) + 1
            if not answer.lost or failures[number] == TRIES:
                raise SearchError(f"{finalist.candidate.name} cannot be measured any more: {answer.failure}")
            waiting.append(finalist)
            continue
        block = Block(0, 1, dict(answer.scores), answer.tokens, answer.seconds)
        journal.answered(number, block, part)
        known[number] = (block,)
        progress.advance(1)
    progress.finish()
    return {each.candidate.name: known[each.candidate.number][0].scores for each in finalists}
