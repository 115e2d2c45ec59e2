"""Blend a family of well-known models, and measure parents and blends: for one card of 48 or 80 GB.

    python examples/large/run.py SET WORK [--plan] [--device cuda] [--tasks TASK...]

SET is a folder beside this file: instruct, thinking or domains. The first run asks the hub for each model's commit and
writes WORK/commits.json; every later run takes these commits. Then it merges the recipes of the set into WORK/blends,
measures parents and blends on the set's tasks of lm-eval, or on yours, and writes WORK/report.html. Whatever is done
already is not done again.

`--plan` merges and downloads nothing: it says from headers what a run costs.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forecast as forecasts
import rates as speeds
from sets import Family, pinned, pinned_name, read_set, set_names, write_recipes
from show import print_forecast, show_scores, show_tokens, tokens_written

from cuvee.api import load_stages
from cuvee.cli.progress import shown_progress
from cuvee.cores import usable_cores
from cuvee.engine import merge_stages
from cuvee.engine.options import RunOptions
from cuvee.errors import CuveeError, RecipeError
from cuvee.evaluation import evaluate
from cuvee.evaluation.model import Device, Dtype
from cuvee.hub import Hub
from cuvee.hub.access import free_bytes
from cuvee.plan.resolve import folder_of

NO_LIMIT = 1 << 60
"""Bytes: a plan says itself whether the disk has room."""


@dataclass(frozen=True)
class Model:
    """A model to measure: its folder, and its pinned name or the digest of its recipe."""

    folder: Path
    identity: str


@dataclass(frozen=True)
class Asked:
    """How models are measured."""

    tasks: list[str]
    limit: int
    rows: int
    device: Device
    dtype: Dtype
    prompt: Mapping[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    options = parsed(arguments)
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    hub = Hub(free_bytes=lambda _: NO_LIMIT) if options.plan else Hub()
    family = read_set(options.set)
    commits = pinned(family, work, hub)
    recipes = write_recipes(family, commits, work, options.texts)
    tasks = options.tasks or list(family.tasks)
    limit, rows = options.limit or family.limit, options.rows or family.rows
    if options.plan:
        plan(family, commits, recipes, forecasts.counted(family, tasks, limit), rows, options, hub)
        return
    parents = [parent(pinned_name(name, commits), work, hub) for name in family.measured]
    blends = [merged_once(recipe, work, options.device, hub) for recipe in recipes]
    asked = Asked(tasks, limit, rows, options.device, options.dtype, family.prompt)
    folders = [measured_once(model, asked, work) for model in (*blends, *parents)]
    show_scores(folders, work / "report.html")
    if family.objective == "tokens":
        show_tokens(folders, tokens_written(folders, blends[0].folder), work / "tokens.json")


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=set_names(), metavar="SET", help=", ".join(set_names()))
    parser.add_argument("work", type=Path, metavar="WORK", help="folder for all that is made")
    parser.add_argument("--plan", action="store_true", help="say what it costs, and do nothing")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--dtype", default="bfloat16", help="what models answer in")
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help="files of tasks, or lm-eval:NAME")
    parser.add_argument("--limit", type=int, help="items of each task")
    parser.add_argument("--rows", type=int, help="rows in a batch")
    parser.add_argument("--texts", type=Path, metavar="FOLDER", help="a text of each expert, for recipes that align")
    parser.add_argument("--rates", type=Path, metavar="FILE", help="of --plan: speeds of another machine")
    parser.add_argument("--price", type=float, default=2.0, help="of --plan: of an hour, in any currency")
    return parser.parse_args(arguments)


def plan(
    family: Family,
    commits: dict[str, str],
    recipes: list[Path],
    work: dict[str, forecasts.Counted],
    rows: int,
    options: argparse.Namespace,
    hub: Hub,
) -> None:
    """Print what a run costs, and write it to WORK/plan.json."""
    rates = speeds.rates(options.work, options.device, options.rates)
    found = forecasts.forecast(family, commits, recipes, work, rows, rates, hub)
    print_forecast(found, rates, rows, options.price, free_bytes(options.work), options.work / "plan.json")


def parent(name: str, work: Path, hub: Hub) -> Model:
    """Download a model, and give it a place under its own name."""
    place = work / "parents" / name.partition("@")[0].rpartition("/")[2]
    folder = folder_of(name, hub, shown_progress())
    if not place.exists():
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(folder, target_is_directory=True)
    return Model(place, name)


def merged_once(recipe: Path, work: Path, device: str, hub: Hub) -> Model:
    """Merge a recipe into WORK/blends, unless the blend is there. Raises RecipeError for a blend of another recipe."""
    out = work / "blends" / recipe.stem
    stages = load_stages(recipe)
    made = Model(out, stages[-1].digest)
    if out.exists():
        record = json.loads((out / "cuvee.json").read_text(encoding="utf-8"))
        if record["recipe_digest"] != made.identity:
            raise RecipeError("this blend is of another recipe", where=str(out), hint="remove the folder")
        return made
    options: RunOptions = {"threads": usable_cores(), "progress": shown_progress()}
    if stages[-1].align is not None:
        from cuvee.calibrate import merge_aligned

        merge_aligned(stages[-1], out, hub=hub, **options)
    else:
        options["device"] = "cpu" if device == "cpu" else "auto"
        merge_stages(stages, out, hub=hub, **options)
    return made


def measured_once(model: Model, asked: Asked, work: Path) -> Path:
    """Measure a model, unless it was asked the same before; return the folder of its report.

    lm-eval asks again where a model draws its answers, so that it is not enough to let it go on.
    """
    out = work / "scores" / model.folder.name
    note = out / "asked.json"
    content = {"model": model.identity, "tasks": asked.tasks, "limit": asked.limit, "dtype": asked.dtype}
    if note.exists() and json.loads(note.read_text(encoding="utf-8")) == content:
        return out
    note.unlink(missing_ok=True)
    evaluate(
        model.folder,
        asked.tasks,
        out=out,
        limit=asked.limit,
        batch_size=asked.rows,
        device=asked.device,
        dtype=asked.dtype,
        prompt=asked.prompt,
        progress=shown_progress(),
    )
    note.write_text(json.dumps(content) + "\n", encoding="utf-8")
    return out


if __name__ == "__main__":
    try:
        main()
    except CuveeError as error:
        raise SystemExit(f"error: {error}") from error
