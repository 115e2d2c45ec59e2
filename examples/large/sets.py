"""A set of models: what belongs to it, the commits of its models, and its recipes with these commits in them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cuvee.api import load_stages
from cuvee.hub import Hub
from cuvee.hub.repository import find_repository
from cuvee.recipe.recipe import Recipe

HERE = Path(__file__).parent
HARNESS = "lm-eval:"


@dataclass(frozen=True)
class Work:
    """An item of a task of lm-eval, as far as a plan counts it: tokens read, and tokens written at most."""

    prompt_tokens: int
    answer_tokens: int


@dataclass(frozen=True)
class Family:
    """A set. `measured` are the models that stand beside the blends; `rows` and `limit` go to every evaluation.

    With the objective `tokens`, blends are compared by what they write, too.
    """

    name: str
    base: str
    models: tuple[str, ...]
    measured: tuple[str, ...]
    tasks: Mapping[str, Work]
    prompt: Mapping[str, Any]
    rows: int
    limit: int
    objective: str


def set_names() -> list[str]:
    return sorted(file.parent.name for file in HERE.glob("*/set.yaml"))


def read_set(name: str) -> Family:
    content = yaml.safe_load((HERE / name / "set.yaml").read_text(encoding="utf-8"))
    models = tuple(content["models"])
    measured = (content["base"], *models) if content["measure_base"] else models
    return Family(
        name=name,
        base=content["base"],
        models=models,
        measured=measured,
        tasks={_task(name, task): Work(**work) for task, work in content["tasks"].items()},
        prompt=content.get("prompt", {}),
        rows=content["rows"],
        limit=content["limit"],
        objective=content.get("objective", ""),
    )


def _task(name: str, task: str) -> str:
    """Return a task's name; the file of a task lies beside its set."""
    if not task.endswith(".yaml"):
        return task
    return f"{HARNESS}{HERE / name / task.removeprefix(HARNESS)}"


def pinned(family: Family, work: Path, hub: Hub) -> dict[str, str]:
    """Return the commit of every model: from WORK/commits.json, or else from the hub, and written there."""
    file = work / "commits.json"
    commits: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    missing = [name for name in (family.base, *family.models) if name not in commits]
    for name in missing:
        commits[name] = find_repository(hub, name, None).commit
    if missing:
        file.write_text(json.dumps(commits, indent=1) + "\n", encoding="utf-8")
    return commits


def pinned_name(name: str, commits: Mapping[str, str]) -> str:
    return f"{name}@{commits[name]}"


def write_recipes(family: Family, commits: Mapping[str, str], work: Path, texts: Path | None) -> list[Path]:
    """Write the set's recipes to WORK/recipes with the commits in them. Those that align need `texts`."""
    folder = work / "recipes"
    folder.mkdir(exist_ok=True)
    if texts is not None and not (folder / "texts").exists():
        (folder / "texts").symlink_to(texts.absolute(), target_is_directory=True)
    written = []
    for file in sorted((HERE / family.name / "recipes").glob("*.yaml"), key=_plain_first):
        recipe = folder / file.name
        recipe.write_text(_with_commits(file.read_text(encoding="utf-8"), commits), encoding="utf-8")
        if texts is not None or not _aligns(load_stages(recipe)):
            written.append(recipe)
    return written


def _plain_first(recipe: Path) -> tuple[bool, str]:
    """Order recipes by name behind task arithmetic, which the others are compared with."""
    return recipe.stem != "task_arithmetic", recipe.stem


def _with_commits(text: str, commits: Mapping[str, str]) -> str:
    for name in commits:
        whole_name = rf"(?<![\w/.-]){re.escape(name)}(?![\w/.@-])"
        text = re.sub(whole_name, pinned_name(name, commits), text)
    return text


def _aligns(stages: tuple[Recipe, ...]) -> bool:
    return stages[-1].align is not None
