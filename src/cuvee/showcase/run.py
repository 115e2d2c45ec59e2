"""Runs the demo. Settings are chosen on the public part of the tasks; the reported scores are of the private part."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cuvee import demo
from cuvee.calibrate.repair import align
from cuvee.calibrate.settings import alignment
from cuvee.checkpoint.write import write_error
from cuvee.engine import merge
from cuvee.errors import RecipeError
from cuvee.evaluation import Report, Task, evaluate, load_model, load_task
from cuvee.kernels import prepare
from cuvee.progress import Progress, Silent
from cuvee.report import Leaderboard, render_page
from cuvee.showcase.blends import BLENDS, REPAIR, Blend, align_command, recipe_text
from cuvee.showcase.board import FirstVerdict, Measured, Member, first_verdict, leaderboard

MODELS, TEXTS, RECIPES, OUTPUTS, PAGE = "models", "texts", "recipes", "blends", "index.html"

MARKER = ".cuvee-demo"
"""An empty file that says that a folder is the demo's: only such a folder is cleared."""


@dataclass(frozen=True)
class Demo:
    """The outcome of the demo: the leaderboard, the page, the seconds it took."""

    leaderboard: Leaderboard
    page: Path
    seconds: float


def run_demo(
    out: Path, *, progress: Progress | None = None, first: Callable[[FirstVerdict], None] = lambda verdict: None
) -> Demo:
    """Blend, measure and rank the bundled family in the folder `out`. Raises RecipeError if it is not the demo's.

    `first` hears of the first blend against the best parent as soon as these are measured on the public part.
    """
    started = time.perf_counter()
    shown = progress or Silent()
    prepare(shown)
    _prepare(out)
    parents, blends = _copy_family(out), _write_recipes(out)
    public, private = _tasks(public=True), _tasks(public=False)
    seconds = _merge(blends[:1], shown)
    reports = _measure([*parents, *blends[:1]], public, shown, "first look")
    first(first_verdict(blends[0], parents, reports))
    seconds |= _merge(blends[1:], shown)
    reports |= _measure(blends[1:], public, shown, "choose, on public items")
    judged = _measure([*parents, *blends], private, shown, "rank, on private items")
    measured = []
    for model in (*parents, *blends):
        both = reports[model.name], judged[model.name]
        measured.append(Measured(model, *both, seconds.get(model.name)))
    board = leaderboard(measured, public, private)
    page = out / PAGE
    page.write_text(render_page(board), encoding="utf-8")
    return Demo(board, page, time.perf_counter() - started)


def _is_free(out: Path) -> bool:
    """Say whether a folder is empty, or of an earlier demo."""
    if not out.is_dir():
        return False
    return (out / MARKER).exists() or not any(out.iterdir())


def _prepare(out: Path) -> None:
    """Make the folder, or clear the files of an earlier demo in it. Anything else in the way is refused."""
    try:
        if out.exists() and not _is_free(out):
            raise RecipeError("this is not a folder of the demo", where=str(out), hint="name another, or a new one")
        out.mkdir(parents=True, exist_ok=True)
        (out / MARKER).touch()
        for name in (MODELS, TEXTS, RECIPES, OUTPUTS):
            shutil.rmtree(out / name, ignore_errors=True)
    except OSError as error:
        raise write_error(error, out) from error


def _copy_family(out: Path) -> list[Member]:
    parents = []
    for name in (demo.BASE, *demo.expert_names()):
        folder = out / MODELS / name
        shutil.copytree(demo.model_folder(name), folder)
        parents.append(Member(name, folder))
    (out / TEXTS).mkdir()
    for name in demo.expert_names():
        shutil.copy(demo.text_file(name), out / TEXTS)
    return parents


def _write_recipes(out: Path) -> list[Member]:
    (out / RECIPES).mkdir()
    blends = []
    for blend in BLENDS:
        text = _commented(blend) + recipe_text(blend, demo.expert_names(), f"../{MODELS}")
        (out / RECIPES / f"{blend.name}.yaml").write_text(text, encoding="utf-8")
        blends.append(Member(blend.name, out / OUTPUTS / blend.name, blend.label, text, blend.aligns))
    return blends


def _commented(blend: Blend) -> str:
    """Say in a comment which command follows the merge."""
    if not blend.aligns:
        return ""
    command = align_command(f"{OUTPUTS}/{blend.aligns}", f"{OUTPUTS}/{blend.name}", demo.expert_names())
    lines = "".join(f"#   {line}\n" for line in command.splitlines())
    return f"# This recipe, and then, in the demo's folder:\n{lines}"


def _merge(blends: Sequence[Member], progress: Progress) -> dict[str, float]:
    """Merge blends; return the seconds that each took."""
    progress.start("blend", len(blends), "blends")
    seconds = {}
    for blend in blends:
        progress.note(blend.name)
        seconds[blend.name] = _align(blend) if blend.aligns else _merge_one(blend)
        progress.advance(1)
    progress.finish()
    return seconds


def _merge_one(blend: Member) -> float:
    recipe = blend.folder.parents[1] / RECIPES / f"{blend.name}.yaml"
    return merge(recipe, blend.folder).figures.seconds


def _align(blend: Member) -> float:
    """Repair a blend that is there, with the texts of its experts."""
    started = time.perf_counter()
    out = blend.folder.parents[1]
    texts = {str(out / MODELS / name): str(out / TEXTS / f"{name}.jsonl") for name in demo.expert_names()}
    align(str(out / OUTPUTS / blend.aligns), blend.folder, texts, alignment("align", **REPAIR))
    return time.perf_counter() - started


def _measure(models: Sequence[Member], tasks: Sequence[Task], progress: Progress, what: str) -> dict[str, Report]:
    items = sum(len(task.samples) for task in tasks)
    progress.start(what, items * len(models), "items")
    reports = {}
    for number, model in enumerate(models, 1):
        progress.note(f"model {number} of {len(models)}, {model.name}")
        reports[model.name] = evaluate(load_model(model.folder), tasks)
        progress.advance(items)
    progress.finish()
    return reports


def _tasks(*, public: bool) -> list[Task]:
    return [load_task(name) for name in demo.task_names() if name.endswith("-private") != public]
