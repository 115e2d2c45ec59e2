"""The race: candidates answer blocks of items, in as many slots as there are, and bad candidates leave early.

A slot works on one candidate at a time. After each block the race compares the candidate with the incumbent, the best
of those that have answered everything, on the items that both have answered. Only this process writes the journal, so a
slot that dies costs the block that it was at.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

from cuvee.search.journal import Block, Candidate, Journal, Outcome, State
from cuvee.search.objectives import is_beaten, worth
from cuvee.search.racing import Scores, decision, weighted_mean
from cuvee.search.space import Values

Items = Mapping[str, Sequence[str]]
"""Ids of items by task."""

FIRST_STRETCH, LONGEST_STRETCH = 2, 8
"""Blocks that a candidate answers before its first look, and at most before another. Looks are free, but batches of few
items are slow: every stretch is half as long as all before it."""

TRIES = 3
"""So many workers may die of a candidate before it counts as failed."""


@dataclass(frozen=True)
class Proposal:
    """A candidate that a proposer would have measured."""

    arm: str
    name: str
    values: Values
    recipe: str
    anchor: bool = False


class Proposer(Protocol):
    """Says which candidate to try next. It hears of everything, also of the proposals of an earlier process."""

    def propose(self, number: int, spent: float) -> Proposal | None:
        """Return the next proposal, or None when there is nothing left. `spent` is the share of the budget, 0 to 1."""

    def proposed(self, candidate: Candidate) -> None:
        """Note a proposal of an earlier process."""

    def tell(self, candidate: Candidate, outcome: Outcome) -> None:
        """Hear the outcome of a candidate."""


class Measurer(Protocol):
    """Answers blocks in slots: submits one block at a time to a slot, and gives back whichever is done."""

    @property
    def slots(self) -> int:
        """How many candidates can be under way."""
        ...

    def submit(self, slot: int, recipe: str, items: Items) -> None:
        """Let a slot answer items by a recipe."""
        ...

    def next_done(self) -> "Answer":
        """Wait for a slot that is done."""
        ...


@dataclass(frozen=True)
class Answer:
    """A block that a slot has answered, or the sentence that says why it did not.

    Where the slot was `lost`, another try may go well.
    """

    slot: int
    scores: Mapping[str, list[float]]
    tokens: int
    seconds: float
    failure: str = ""
    lost: bool = False


@dataclass
class Running:
    """A candidate under way."""

    candidate: Candidate
    scores: dict[str, list[float]] = field(default_factory=dict)
    blocks: int = 0
    tokens: int = 0
    seconds: float = 0.0
    failures: int = 0
    difference: float | None = None
    standard_error: float | None = None
    value: float | None = None
    worth: tuple[float, ...] = ()

    @property
    def items(self) -> int:
        return sum(len(scores) for scores in self.scores.values())

    def take(self, block: Block) -> None:
        """Add the answers to a stretch of blocks."""
        for task, scores in block.scores.items():
            self.scores.setdefault(task, []).extend(scores)
        self.blocks += block.blocks
        self.tokens += block.tokens
        self.seconds += block.seconds

    def outcome(self, state: State, reason: str) -> Outcome:
        return Outcome(
            self.candidate.number,
            state,
            self.value,
            self.standard_error,
            self.difference,
            self.items,
            self.tokens,
            self.seconds,
            reason,
            self.worth,
        )


@dataclass(frozen=True)
class Raced:
    """A candidate with its outcome and the scores of the items that it answered."""

    candidate: Candidate
    outcome: Outcome
    scores: Scores

    @property
    def name(self) -> str:
        return self.candidate.name

    @property
    def is_measured(self) -> bool:
        """Whether it answered all search items."""
        return self.outcome.state == "measured"

    @property
    def is_parent(self) -> bool:
        return self.name.startswith("parent ")


class Race:
    """Runs candidates against each other. State: the incumbent, the running and the finished candidates, the cost.

    `blocks` are the search items in the order in which everyone meets them, `weights` those of the tasks. With `racing`
    off, everyone answers everything. With several `objectives`, weights of tasks each, a candidate's value is still
    that of `weights`, but only those leave early whom another clearly beats in all objectives.
    """

    def __init__(
        self,
        blocks: Sequence[Items],
        weights: Mapping[str, float],
        proposer: Proposer,
        journal: Journal,
        *,
        racing: bool = True,
        objectives: Sequence[Mapping[str, float]] = (),
        watch: Callable[["Race"], None] = lambda race: None,
    ) -> None:
        self.blocks, self.weights = blocks, weights
        self.proposer, self.journal, self.racing, self.watch = proposer, journal, racing, watch
        self.objectives = objectives
        self.done: dict[int, Raced] = {}
        self.incumbent: Raced | None = None
        self.running: dict[int, Running] = {}
        self.started = 0
        self._again: list[Running] = []
        self._take_up()

    @property
    def outcomes(self) -> list[Outcome]:
        """The outcomes of all candidates that have ended."""
        return [measured.outcome for measured in self.done.values()]

    @property
    def items(self) -> int:
        """How many items have been answered, unfinished candidates included."""
        finished = sum(measured.outcome.items for measured in self.done.values())
        return finished + sum(running.items for running in (*self.running.values(), *self._again))

    @property
    def tokens(self) -> int:
        finished = sum(measured.outcome.tokens for measured in self.done.values())
        return finished + sum(running.tokens for running in (*self.running.values(), *self._again))

    @property
    def seconds(self) -> float:
        """Seconds that slots have worked, all together."""
        finished = sum(measured.outcome.seconds for measured in self.done.values())
        return finished + sum(running.seconds for running in (*self.running.values(), *self._again))

    @property
    def whole(self) -> int:
        """How many items a full candidate answers."""
        return sum(map(len, chain.from_iterable(block.values() for block in self.blocks)))

    def run(self, measurer: Measurer, spent: Callable[["Race"], float]) -> None:
        """Propose and measure until `spent` says 1 or the proposer has nothing left, and all candidates have ended."""
        idle = set(range(measurer.slots))
        while True:
            for slot in sorted(idle):
                running = self._next(spent)
                if running is None:
                    break
                idle.discard(slot)
                self.running[slot] = running
                measurer.submit(slot, running.candidate.recipe, self._items(self._stretch(running)))
            if not self.running:
                return
            answer = measurer.next_done()
            running = self.running[answer.slot]
            self._hear(running, answer)
            if running.candidate.number in self.done:
                del self.running[answer.slot]
                idle.add(answer.slot)
            else:
                measurer.submit(answer.slot, running.candidate.recipe, self._items(self._stretch(running)))
            self.watch(self)

    def _next(self, spent: Callable[["Race"], float]) -> Running | None:
        while self._again:
            running = self._again.pop(0)
            self._look(running)
            if running.candidate.number not in self.done:
                return running
        share = spent(self)
        if share >= 1:
            return None
        proposal = self.proposer.propose(self.started, share)
        if proposal is None:
            return None
        candidate = Candidate(
            self.started, proposal.arm, proposal.name, proposal.values, proposal.recipe, proposal.anchor, share
        )
        self.journal.asked(candidate)
        self.started += 1
        return Running(candidate)

    def _hear(self, running: Running, answer: Answer) -> None:
        if answer.failure:
            running.failures += 1
            if not answer.lost or running.failures == TRIES:
                self._finish(running, running.outcome("failed", answer.failure))
            return
        stretch = len(self._stretch(running))
        block = Block(running.blocks, stretch, dict(answer.scores), answer.tokens, answer.seconds)
        self.journal.answered(running.candidate.number, block)
        running.take(block)
        self._look(running)

    def _stretch(self, running: Running) -> Sequence[Items]:
        """Return the blocks that a candidate answers next, before it is looked at again."""
        length = min(max(1, running.blocks // 2), LONGEST_STRETCH) if running.blocks else FIRST_STRETCH
        if running.candidate.anchor or not self.racing:
            length = LONGEST_STRETCH
        return self.blocks[running.blocks : running.blocks + length]

    def _items(self, stretch: Sequence[Items]) -> Items:
        """Return the items of some blocks, task by task, in the order of the blocks."""
        items = {}
        for task in self.weights:
            items[task] = list(chain.from_iterable(block[task] for block in stretch))
        return items

    def _look(self, running: Running) -> None:
        """Compare a candidate with the incumbent; end it where it has answered everything or is too far behind."""
        if not running.blocks:
            return
        running.value = weighted_mean(running.scores, self.weights)
        incumbent = None if self.incumbent is None else self.incumbent.scores
        running.worth = worth(running.scores, incumbent, self.objectives)
        reason = ""
        if self.incumbent is not None:
            race = decision(running.scores, self.incumbent.scores, self.weights)
            running.difference, running.standard_error = race.difference, race.standard_error
            running.value = race.told
            if self.racing and not running.candidate.anchor:
                reason = self._beaten(running) if self.objectives else self._behind(running, race.drop)
        if running.blocks == len(self.blocks):
            self._finish(running, running.outcome("measured", ""))
        elif reason:
            self._finish(running, running.outcome("dropped", reason))

    def _behind(self, running: Running, drop: bool) -> str:
        """Say how far a candidate that is to be dropped is behind; "" for another."""
        if not drop:
            return ""
        assert self.incumbent is not None
        assert running.difference is not None
        behind = -100 * running.difference
        return f"{behind:.1f} points behind {self.incumbent.candidate.name} after {running.items} items"

    def _beaten(self, running: Running) -> str:
        """Say who clearly beats a candidate in all objectives; "" where nobody does."""
        for rival in self.done.values():
            measured = rival.outcome.state == "measured"
            if measured and is_beaten(running.scores, rival.scores, self.objectives):
                return f"{rival.candidate.name} is better in all objectives after {running.items} items"
        return ""

    def _finish(self, running: Running, outcome: Outcome) -> None:
        self.journal.done(outcome)
        self._note(Raced(running.candidate, outcome, running.scores))

    def _leads(self, measured: Raced) -> bool:
        return self.incumbent is None or _value(measured) > _value(self.incumbent)

    def _note(self, measured: Raced) -> None:
        outcome = measured.outcome
        self.done[outcome.number] = measured
        if outcome.state == "measured" and self._leads(measured):
            self.incumbent = measured
        self.proposer.tell(measured.candidate, outcome)

    def _take_up(self) -> None:
        """Go through the journal of an earlier process."""
        candidates: dict[int, Candidate] = {}
        for event in self.journal.events():
            if isinstance(event, Candidate):
                candidates[event.number] = event
                self.proposer.proposed(event)
                self.started = event.number + 1
                continue
            taken_up = self._taken_up(candidates[event.number])
            self._note(Raced(taken_up.candidate, event, taken_up.scores))
        self._again = [self._taken_up(each) for number, each in candidates.items() if number not in self.done]

    def _taken_up(self, candidate: Candidate) -> Running:
        running = Running(candidate)
        for block in self.journal.blocks(candidate.number):
            running.take(block)
        return running


def _value(measured: Raced) -> float:
    assert measured.outcome.value is not None
    return measured.outcome.value
