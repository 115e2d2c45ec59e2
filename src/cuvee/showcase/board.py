"""Measured models -> leaderboard: who is best on which task, and whether blending was worth it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cuvee import demo
from cuvee.evaluation import Report, Score, Task, paired_difference, rank
from cuvee.report import Difference, Entry, Figure, Leaderboard, TaskNote, comparison_sentence
from cuvee.report.leaderboard import EntryKind
from cuvee.showcase.blends import align_command

PRIVATE = "-private"


@dataclass(frozen=True)
class Member:
    """One model of the demo. `method` and `recipe` (YAML text) are empty for the parents.

    `aligns` names the blend that this blend is a repair of.
    """

    name: str
    folder: Path
    method: str = ""
    recipe: str = ""
    aligns: str = ""


@dataclass(frozen=True)
class FirstVerdict:
    """The first blend against the parent that is best on the public part, and their difference there."""

    blend: str
    method: str
    parent: str
    difference: Difference

    @property
    def sentence(self) -> str:
        """Say whether the blend beats the parent."""
        blend, parent = f"{self.blend} ({self.method})", f"the best parent, {self.parent},"
        return comparison_sentence(blend, parent, self.difference, "public")


@dataclass(frozen=True)
class Measured:
    """One model with its reports on the public and the private part."""

    model: Member
    public: Report
    private: Report
    seconds: float | None

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def method(self) -> str:
        return self.model.method


def first_verdict(blend: Member, parents: Sequence[Member], reports: Mapping[str, Report]) -> FirstVerdict:
    """Compare one blend, which nothing was chosen on, with the best parent on the same items."""
    best = max(parents, key=lambda parent: _macro(reports[parent.name]).value)
    gap = paired_difference(reports[blend.name], reports[best.name]).macro
    return FirstVerdict(blend.name, blend.method, best.name, Difference(gap.value, gap.low, gap.high))


def leaderboard(measured: Sequence[Measured], public: Sequence[Task], private: Sequence[Task]) -> Leaderboard:
    """Rank the models by the private part. The best blend is that with the best score on the public part.

    It is compared with the parent that is best on the private part itself: the hardest to beat.
    """
    parents = [model for model in measured if not model.method]
    blends = [model for model in measured if model.method]
    best_blend = max(blends, key=lambda blend: _macro(blend.public).value)
    best_parent = max(parents, key=lambda parent: _macro(parent.private).value)
    verdict = paired_difference(best_blend.private, best_parent.private).macro
    skills = [task.name for task in public]
    notes = [_note(task, other) for task, other in zip(public, private, strict=True)]
    return Leaderboard(
        title="Blends of the bundled family",
        entries=tuple(_entry(m, skills) for m in measured),
        tasks=tuple(notes),
        ranks=_ranks(measured),
        best_blend=best_blend.name,
        best_parent=best_parent.name,
        verdict=Difference(verdict.value, verdict.low, verdict.high),
        starter_recipe=_without_comment(best_blend.model.recipe).replace("../models/", "models/"),
        commands=tuple(_commands(best_blend.model, skills)),
    )


def _commands(best: Member, skills: Sequence[str]) -> list[str]:
    """Return the commands that make and measure the best blend from its recipe."""
    commands = ["cuvee merge my-recipe.yaml my-blend"]
    blend = "my-blend"
    if best.aligns:
        blend = "my-aligned-blend"
        commands.append(align_command("my-blend", blend, demo.expert_names()))
    return [*commands, f"cuvee evaluate {blend} {' '.join(skills)}"]


def _without_comment(recipe: str) -> str:
    return "".join(line for line in recipe.splitlines(keepends=True) if not line.startswith("#"))


def _macro(report: Report) -> Score:
    assert report.macro is not None, "the bundled tasks have targets"
    return report.macro


def _entry(m: Measured, skills: list[str]) -> Entry:
    kind: EntryKind = "base" if m.name == demo.BASE else "expert"
    if m.method:
        kind = "blend"
    return Entry(
        name=m.name,
        kind=kind,
        method=m.method,
        recipe=m.model.recipe,
        public=_figure(_macro(m.public)),
        private=_figure(_macro(m.private)),
        public_tasks=_by_task(m.public),
        private_tasks=_by_task(m.private),
        seconds=m.seconds,
        skill=m.name if m.name in skills else "",
    )


def _figure(score: Score) -> Figure:
    return Figure(score.value, score.low, score.high)


def _by_task(report: Report) -> dict[str, Figure]:
    return {task.task.removesuffix(PRIVATE): _figure(task.main) for task in report.tasks if task.main is not None}


def _note(public: Task, private: Task) -> TaskNote:
    sample = public.samples[0]
    answer = sample.target
    if sample.choices and sample.target is not None:
        answer = sample.choices[int(sample.target)]
    return TaskNote(
        name=public.name,
        kind="multiple choice" if sample.choices else "generation",
        n_public=len(public.samples),
        n_private=len(private.samples),
        example_input=sample.input,
        example_answer=str(answer),
    )


def _ranks(measured: Sequence[Measured]) -> tuple[tuple[int, int], ...]:
    standings = sorted(rank([m.private for m in measured]).standings, key=lambda standing: standing.position)
    return tuple((standing.first, standing.last) for standing in standings)
