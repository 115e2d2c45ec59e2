"""Runs the demo. Settings are chosen on the public part of the tasks; what is reported is the private part."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cuvee import demo
from cuvee.api import load_recipe
from cuvee.checkpoint.write import write_error
from cuvee.engine import merge
from cuvee.errors import RecipeError
from cuvee.evaluate import Report, Task, evaluate, load_model, load_task
from cuvee.kernels import prepare
from cuvee.progress import Progress, Silent
from cuvee.report import Leaderboard, render_page
from cuvee.showcase.blends import BLENDS, recipe_text
from cuvee.showcase.board import Measured, leaderboard

MODELS, RECIPES, OUTPUTS, PAGE = "models", "recipes", "blends", "index.html"

MARKER = ".cuvee-demo"
"""An empty file that says that a folder is the demo's: only such a folder is cleared."""


@dataclass(frozen=True)
class Demo:
    """What the demo made: the leaderboard, the page, the seconds it took."""

    leaderboard: Leaderboard
    page: Path
    seconds: float


def run_demo(out: Path, *, progress: Progress | None = None) -> Demo:
    """Blend, measure and rank the bundled family in the folder `out`. Raises RecipeError if it is not the demo's."""
    started = time.perf_counter()
    shown = progress or Silent()
    prepare(shown)
    _prepare(out)
    names = _copy_family(out)
    seconds = _merge_all(out, names, shown)
    board = leaderboard(_measure_all(out, names, seconds, shown), _tasks(public=True), _tasks(public=False))
    page = out / PAGE
    page.write_text(render_page(board), encoding="utf-8")
    return Demo(board, page, time.perf_counter() - started)


def _prepare(out: Path) -> None:
    """Make the folder, or clear what an earlier demo left in it. Anything else in the way is refused."""
    try:
        taken = out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / MARKER).exists()))
        if taken:
            raise RecipeError("this is not a folder of the demo", where=str(out), hint="name another, or a new one")
        out.mkdir(parents=True, exist_ok=True)
        (out / MARKER).touch()
        for name in (MODELS, RECIPES, OUTPUTS):
            shutil.rmtree(out / name, ignore_errors=True)
    except OSError as error:
        raise write_error(error, out) from error


def _copy_family(out: Path) -> list[str]:
    names = [demo.BASE, *demo.expert_names()]
    for name in names:
        shutil.copytree(demo.model_folder(name), out / MODELS / name)
    return names


def _merge_all(out: Path, names: list[str], progress: Progress) -> dict[str, float]:
    (out / RECIPES).mkdir()
    progress.start("blend", len(BLENDS), "blends")
    seconds = {}
    for blend in BLENDS:
        path = out / RECIPES / f"{blend.name}.yaml"
        path.write_text(recipe_text(blend, names[1:], f"../{MODELS}"), encoding="utf-8")
        seconds[blend.name] = merge(load_recipe(path), out / OUTPUTS / blend.name).figures.seconds
        progress.advance(1)
    progress.finish()
    return seconds


def _measure_all(out: Path, names: list[str], seconds: dict[str, float], progress: Progress) -> list[Measured]:
    parents = [(name, out / MODELS / name, "", "") for name in names]
    texts = {b.name: (out / RECIPES / f"{b.name}.yaml").read_text(encoding="utf-8") for b in BLENDS}
    blends = [(b.name, out / OUTPUTS / b.name, b.method, texts[b.name]) for b in BLENDS]
    public, private = _tasks(public=True), _tasks(public=False)
    items = sum(len(task.samples) for task in (*public, *private))
    progress.start("measure", items * (len(parents) + len(blends)), "items")
    measured = []
    for name, folder, method, recipe in parents + blends:
        reports = [_report(folder, tasks) for tasks in (public, private)]
        measured.append(Measured(name, method, recipe, reports[0], reports[1], seconds.get(name)))
        progress.advance(items)
    progress.finish()
    return measured


def _report(folder: Path, tasks: Sequence[Task]) -> Report:
    return evaluate(load_model(folder), tasks)


def _tasks(*, public: bool) -> list[Task]:
    return [load_task(name) for name in demo.task_names() if name.endswith("-private") != public]
