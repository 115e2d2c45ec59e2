"""A search from its space to its report: split the items, race, choose, report."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cuvee.errors import SearchError
from cuvee.executor import Executor
from cuvee.progress import Progress, Silent
from cuvee.search.arms import Arms
from cuvee.search.choice import AnchorKind, Choice, choose, pick
from cuvee.search.front import Front, Objective, front
from cuvee.search.journal import Journal, open_journal
from cuvee.search.objectives import outer
from cuvee.search.race import Proposer, Race, Raced
from cuvee.search.racing import Scores
from cuvee.search.report import SearchReport
from cuvee.search.setting import Budget, Clock, Setting, head_of, setting_of
from cuvee.search.shown import Bar, Shown, anchor_kinds, named
from cuvee.search.slots import Slots, measured_on
from cuvee.search.space import Arm, WrittenSpace, arms_of
from cuvee.search.split import blocks

ANCHORS_CHOSEN = 2
"""So many of the best parents, and of the best defaults, answer the items to choose by."""

MOST_REPORTED = 4
"""The winner, the runner-up, the best parent and the best default answer the items to report on."""

SILENT: Progress = Silent()


def search(
    space: WrittenSpace,
    out: Path,
    executor: Executor,
    *,
    folder: Path,
    budget: Budget,
    fresh: bool = False,
    most_tokens: int | None = None,
    memory_bytes: int | None = None,
    device: str = "auto",
    places: Mapping[str, Path] | None = None,
    texts: Mapping[str, Path] | None = None,
    progress: Progress = SILENT,
    watch: Callable[[SearchReport], None] = lambda report: None,
) -> SearchReport:
    """Search a space, and write journal, report and best recipe to `out`; go on with an interrupted search there.

    `folder` is where files named by the space lie. With `most_tokens` the whole search takes no more of them, whatever
    the budget; more than one slot may take a few more. `places` and `texts` are where models and texts are by the
    space's words for them; with `places` no model is searched anywhere else. `watch` gets a report now and then while
    the search runs. Raises RecipeError for a space that nothing can be made of, and SearchError where nothing could be
    measured.
    """
    setting = setting_of(space)
    journal = open_journal(out, head_of(space, setting, places), fresh=fresh)
    models = (space.base_model, *(model.model for model in space.models))
    elsewhere = None
    if places is not None or texts:
        from cuvee.search.resident import Elsewhere

        elsewhere = Elsewhere(places, texts or {})
    slots = Slots(executor, models, setting.references, memory_bytes, device, space.evaluation_dtype, elsewhere)
    proposer = Arms(space, folder)
    clock = Clock(budget, most_tokens, _items_after(space, setting))
    return run(space, setting, journal, slots, proposer, clock=clock, progress=progress, watch=watch)


def _items_after(space: WrittenSpace, setting: Setting) -> int:
    """Return how many items are answered after the race at the most: to choose by, and to report on."""
    select, report = setting.parts.select, setting.parts.report
    finalists = space.select.top + 2 * ANCHORS_CHOSEN
    if setting.objectives:
        finalists += space.select.top
    chosen = finalists * sum(map(len, select.values()))
    return chosen + MOST_REPORTED * sum(map(len, report.values()))


def run(
    space: WrittenSpace,
    setting: Setting,
    journal: Journal,
    slots: Slots,
    proposer: Proposer,
    *,
    clock: Clock,
    progress: Progress,
    watch: Callable[[SearchReport], None],
) -> SearchReport:
    """Race the candidates of a proposer, choose, report."""
    shown = Shown(space, setting, journal, Bar(clock, progress), slots.slots, watch)
    race = Race(
        blocks(setting.parts.search, block=space.items.block, seed=space.seed),
        setting.weights,
        proposer,
        journal,
        racing=space.racing,
        objectives=list(setting.objectives.values()),
        watch=shown.look,
    )
    clock.before = race.seconds / slots.slots
    progress.start("search", 1000, "thousandths of the budget")
    try:
        race.run(slots, clock.spent)
    except KeyboardInterrupt:
        shown.write(race, "interrupted")
        raise
    finally:
        progress.finish()
    if race.incumbent is None:
        reasons = {each.outcome.reason for each in race.done.values()}
        raise SearchError(f"nothing could be measured: {'; '.join(sorted(reasons)) or 'the budget is too small'}")
    choice, selected, spread = _chosen(space, setting, journal, slots, race, progress)
    if choice is None:
        shown.write(race, "interrupted")
        most = "" if clock.most_tokens is None else f" and at most {clock.most_tokens:,} tokens"
        raise SearchError(
            f"the budget, {clock.budget.text}{most}, was used up before a candidate beside the anchors was measured",
            where=str(journal.folder),
            hint="run the search again with a larger --budget: it goes on from there",
        )
    slots.check(named(race, choice.winner).candidate.recipe)
    return shown.write(race, "finished", choice, selected, spread)


def _chosen(
    space: WrittenSpace, setting: Setting, journal: Journal, slots: Slots, race: Race, progress: Progress
) -> tuple[Choice | None, dict[str, Scores], Front | None]:
    """Choose among the best on fresh items, and compare the choice with the anchors on others. None without rivals.

    With several objectives their front, on the same fresh items, comes with it.
    """
    measured = [raced for raced in race.done.values() if raced.is_measured]
    measured.sort(key=_falling)
    anchors = anchor_kinds(measured)
    rivals = [raced for raced in measured if raced.name not in anchors]
    if not rivals or not anchors:
        return None, {}, None
    candidates = rivals[: space.select.top]
    best_anchors = _best_anchors(measured, anchors)
    outer = _outer(space, setting, measured)
    finalists = list({raced.name: raced for raced in (*candidates, *best_anchors, *outer)}.values())
    kinds = {raced.name: anchors[raced.name] for raced in best_anchors}
    selected = measured_on(finalists, "select", setting.parts.select, journal, slots, progress)
    searched = {raced.name: raced.scores for raced in finalists}
    picked = pick(searched, selected, setting.weights, kinds, distances=_distances(space, candidates))
    last = [raced for raced in finalists if raced.name in picked.reported]
    reported = measured_on(last, "report", setting.parts.report, journal, slots, progress)
    every = {raced.name: raced.scores for raced in rivals}
    choice = choose(picked, every, selected, reported, setting.weights, report_weights=setting.report_weights)
    return choice, selected, _front(setting, selected)


def _best_anchors(measured: Sequence[Raced], anchors: Mapping[str, AnchorKind]) -> list[Raced]:
    """Return the best parents, then the best defaults, of candidates with the best first."""
    best: list[Raced] = []
    for kind in ("parent", "default"):
        own = [raced for raced in measured if anchors.get(raced.name) == kind]
        best += own[:ANCHORS_CHOSEN]
    return best


def _outer(space: WrittenSpace, setting: Setting, measured: Sequence[Raced]) -> list[Raced]:
    """Return who is not reached in all objectives on the search items, evenly along the first if they are too many."""
    if not setting.objectives:
        return []
    by_name = {each.candidate.name: each for each in measured}
    names = outer({name: each.scores for name, each in by_name.items()}, list(setting.objectives.values()))
    every = -(-len(names) // space.select.top)
    return [by_name[name] for name in names[::every]]


def _front(setting: Setting, selected: Mapping[str, Scores]) -> Front | None:
    if not setting.objectives:
        return None
    return front([Objective(name, selected, weights) for name, weights in setting.objectives.items()])


def _distances(space: WrittenSpace, candidates: Sequence[Raced]) -> dict[str, float]:
    """Return how far candidates are from their method's defaults: the mean share of the ranges."""
    arms = {arm.method: arm for arm in arms_of(space)}
    distances = {}
    for each in candidates:
        arm = arms.get(each.candidate.arm)
        if arm is not None and arm.dimensions:
            shares = [_apart(arm, dimension.name, each.candidate.values) for dimension in arm.dimensions]
            distances[each.candidate.name] = sum(shares) / len(shares)
    return distances


def _apart(arm: Arm, name: str, values: Mapping[str, Any]) -> float:
    dimension = next(each for each in arm.dimensions if each.name == name)
    value, default = values[name], arm.default[name]
    if dimension.choices:
        return float(value != default)
    return abs(float(value) - float(default)) / (dimension.high - dimension.low)


def _falling(raced: Raced) -> tuple[float, int]:
    return -(raced.outcome.value or 0.0), raced.candidate.number
