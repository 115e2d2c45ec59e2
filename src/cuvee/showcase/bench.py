"""A bench as a leaderboard: the page of the demo, for models of the reader's own."""

from collections.abc import Mapping, Sequence

from cuvee.evaluation import Task
from cuvee.evaluation.ranking import rank_ranges
from cuvee.evaluation.statistics import average, average_difference, mean
from cuvee.report import Difference, Entry, Figure, Leaderboard, TaskNote
from cuvee.report.leaderboard import EntryKind
from cuvee.search.bench import Bench, Entrant
from cuvee.search.racing import Scores

KINDS: Mapping[str, EntryKind] = {"base": "base", "expert": "expert", "blend": "blend"}


def bench_board(bench: Bench, title: str) -> Leaderboard:
    """Return the leaderboard of a bench: its public part are the items to choose by, its private part the last
    items."""
    setting = bench.setting
    verdict = bench.gaps[bench.best_blend]
    entries = [_entry(entrant, bench) for entrant in bench.entrants]
    notes_of_tasks = [_note(task, bench, place) for place, task in enumerate(setting.tasks)]
    return Leaderboard(
        title=title,
        notes=tuple(sentences(bench)),
        entries=tuple(entries),
        tasks=tuple(notes_of_tasks),
        ranks=_ranks(bench),
        best_blend=bench.best_blend,
        best_parent=bench.best_parent,
        verdict=Difference(verdict.value, verdict.low, verdict.high),
        starter_recipe=bench.entrant(bench.best_blend).recipe,
        commands=(
            "cuvee merge my-recipe.yaml my-blend",
            f"cuvee evaluate my-blend {' '.join(setting.references[: len(setting.tasks)])}",
        ),
    )


def sentences(bench: Bench) -> list[str]:
    """Say which models were compared, how sure the ranks are after correcting, and how much the best blend keeps."""
    above = [name for name, gap in bench.gaps.items() if gap.low > 0]
    better = [name for name in above if bench.significance[name] < 0.05]
    best = bench.entrant(bench.best_blend)
    kept = bench.kept(best)
    lines = [
        f"{bench.tried} recipes gave {bench.items:,} answers, by which the best setting of each method was chosen.",
        f"After Holm's correction for {len(bench.gaps)} comparisons, {len(better)} of {len(bench.gaps)} blends are "
        f"better than the best parent, {bench.best_parent}.",
    ]
    if kept:
        shares = ", ".join(f"{task} {share:.0%}" for task, share in kept.items())
        mean_share = sum(kept.values()) / len(kept)
        lines.append(f"{best.name} keeps {mean_share:.0%} of what each task's best expert gained: {shares}.")
    return lines


def _entry(entrant: Entrant, bench: Bench) -> Entry:
    setting = bench.setting
    names = dict(zip(setting.report_weights, setting.weights, strict=True))
    public = {task: _mean(scores) for task, scores in entrant.select.items()}
    private = {names[task]: _mean(scores) for task, scores in entrant.report.items()}
    return Entry(
        name=entrant.name,
        kind=KINDS[entrant.kind],
        method=entrant.method,
        recipe=entrant.recipe,
        public=_average(entrant.select, setting.weights),
        private=_average(entrant.report, setting.report_weights),
        public_tasks=public,
        private_tasks=private,
        seconds=entrant.seconds if entrant.method else None,
        skill=entrant.name if entrant.name in setting.weights else "",
    )


def _average(scores: Scores, weights: Mapping[str, float]) -> Figure:
    estimate = average([scores[task] for task in weights], list(weights.values()))
    return Figure(estimate.value, estimate.low, estimate.high)


def _mean(scores: Sequence[float]) -> Figure:
    estimate = mean(scores)
    return Figure(estimate.value, estimate.low, estimate.high)


def _note(task: Task, bench: Bench, place: int) -> TaskNote:
    parts = bench.setting.parts
    sample = task.samples[0]
    answer = sample.target
    if sample.choices and isinstance(answer, int):
        answer = sample.choices[answer]
    return TaskNote(
        name=task.name,
        kind="multiple choice" if sample.choices else "generation",
        n_public=len(parts.select[task.name]),
        n_private=len(list(parts.report.values())[place]),
        example_input=sample.input,
        example_answer=str(answer),
    )


def _ranks(bench: Bench) -> tuple[tuple[int, int], ...]:
    weights = list(bench.setting.report_weights.values())
    count = len(bench.entrants)
    lows = [[0.0] * count for _ in range(count)]
    highs = [[0.0] * count for _ in range(count)]
    for row, first in enumerate(bench.entrants):
        for column, second in enumerate(bench.entrants[:row]):
            pairs = [(first.report[task], second.report[task]) for task in first.report]
            gap = average_difference(pairs, weights)
            lows[row][column], highs[row][column] = gap.low, gap.high
            lows[column][row], highs[column][row] = -gap.high, -gap.low
    return rank_ranges(lows, highs)
