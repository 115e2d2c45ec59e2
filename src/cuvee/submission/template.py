"""New competitions: a working competition on the bundled family, and that which this project comes from.

competition.yaml   all that everybody may see
tasks/ models/     the public parts and the models, for participants
texts/             texts to calibrate merges by
baselines/         recipes that stand on the board from the start
private/           the organiser's: private parts, the seed they are drawn from, the key that signs verdicts
"""

import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

from cuvee import demo
from cuvee.checkpoint.hashes import sha256_of
from cuvee.demo.skills import ITEMS_PER_PART, SKILLS, Skill, write_questions
from cuvee.errors import RecipeError
from cuvee.submission.competition import FILE, Competition
from cuvee.submission.competition_yaml import load_competition
from cuvee.submission.sign import new_key

PUBLIC_DAYS, FINAL_DAYS = 28, 7
TEMPLATES = Path(__file__).parent / "templates"
KEY = "private/key.pem"
SEED = "private/seed.txt"

BASELINES = {
    "average": "merge_method: linear\nmodels:\n{models}parameters:\n  weight: 1.0\ndtype: bfloat16\n",
    "task-arithmetic": (
        "merge_method: task_arithmetic\nbase_model: ../models/base\nmodels:\n{models}"
        "parameters:\n  lambda: 0.4\n  weight: 1.0\ndtype: bfloat16\n"
    ),
}


def new_competition(
    folder: Path | str,
    seed: str | int,
    *,
    name: str = "blend-the-family",
    title: str = "Blend the family",
    now: datetime | None = None,
    items: int = ITEMS_PER_PART,
    calibration_seconds: float | None = None,
) -> Competition:
    """Write a competition on the bundled family to an empty or new folder, open from now on.

    Private items are drawn from `seed`, `items` a task; they share no prompt with what ships in the package. Whoever
    knows the seed knows the items. Raises RecipeError if the folder has something in it.
    """
    place = _empty(Path(folder))
    _write_models(place / "models")
    for skill in SKILLS.values():
        _write_tasks(skill, place, str(seed), items)
    _write_texts(place / "texts")
    _write_baselines(place / "baselines")
    (place / SEED).write_text(f"{seed}\n", encoding="utf-8")
    (place / "private").chmod(0o700)
    text = _template("family").format(
        name=name,
        title=json.dumps(title, ensure_ascii=False),
        **_dates(now),
        tasks="".join(_task_entry(skill.name) for skill in SKILLS.values()),
        models=_model_entries(place),
        texts="".join(_text_entry(place, name) for name in demo.expert_names()),
        public_key=new_key(place / KEY),
        calibration="null" if calibration_seconds is None else f"{calibration_seconds:.4g}",
    )
    (place / FILE).write_text(text, encoding="utf-8")
    return load_competition(place)


def _is_empty_folder(place: Path) -> bool:
    return place.is_dir() and not any(place.iterdir())


def _empty(folder: Path) -> Path:
    if folder.exists() and not _is_empty_folder(folder):
        raise RecipeError("there is something here already", where=str(folder), hint="name a new folder")
    (folder / "private").mkdir(parents=True)
    return folder


def _write_models(target: Path) -> None:
    for name in (demo.BASE, *demo.expert_names()):
        shutil.copytree(demo.model_folder(name), target / name, ignore=shutil.ignore_patterns("__pycache__"))


def _write_tasks(skill: Skill, place: Path, seed: str, items: int) -> None:
    """Write the public part, which is the bundled part, and a private part that nobody has seen."""
    shipped = {question.prompt for question in chain(skill.questions("public"), skill.questions("private"))}
    for folder in ("tasks", "private/tasks"):
        (place / folder).mkdir(exist_ok=True)
    write_questions(skill.questions("public")[:items], skill.name, place / "tasks")
    fresh = skill.questions("private", items, seed=seed, without=shipped)
    write_questions(fresh, skill.name, place / "private/tasks")


def _write_baselines(target: Path) -> None:
    target.mkdir()
    models = "".join(f"  - model: ../models/{name}\n" for name in demo.expert_names())
    for name, text in BASELINES.items():
        (target / f"{name}.yaml").write_text(text.format(models=models), encoding="utf-8")


def _write_texts(target: Path) -> None:
    target.mkdir()
    for name in demo.expert_names():
        shutil.copyfile(demo.text_file(name), target / f"{name}.jsonl")


def _text_entry(place: Path, name: str) -> str:
    sha256 = file_hashes(place / "texts", [f"{name}.jsonl"])[f"{name}.jsonl"]
    return (
        f"  - {{name: {name}, file: texts/{name}.jsonl, license: apache-2.0, task: {name},\n     sha256: {sha256}}}\n"
    )


def _task_entry(name: str) -> str:
    return f"  - {{name: {name}, public: tasks/{name}.yaml, private: private/tasks/{name}.yaml}}\n"


def _model_entries(place: Path) -> str:
    return "".join(_model_entry(place, name) for name in (demo.BASE, *demo.expert_names()))


def _model_entry(place: Path, name: str) -> str:
    hashes = file_hashes(place / "models" / name)
    lines = [f"      {file}: {sha256}\n" for file, sha256 in hashes.items()]
    head = f"  - name: models/{name}\n    folder: models/{name}\n    license: apache-2.0\n    files:\n"
    return head + "".join(lines)


def file_hashes(folder: Path, names: Sequence[str] | None = None) -> dict[str, str]:
    """Return the SHA-256 of the files of a folder, by name."""
    if names is None:
        files = sorted(file for file in folder.iterdir() if file.is_file())
    else:
        files = [folder / name for name in names]
    return {file.name: sha256 for file, sha256 in sha256_of(files).items()}


def _template(name: str) -> str:
    return (TEMPLATES / f"{name}.yaml").read_text(encoding="utf-8")


def new_original(
    folder: Path | str,
    *,
    name: str = "llm-merging-2024",
    title: str = "NeurIPS 2024: merging language models",
    now: datetime | None = None,
) -> Competition:
    """Write the original competition's rules, budget and baselines; the organiser brings its files of items."""
    place = _empty(Path(folder))
    for part in ("tasks", "private/tasks"):
        (place / part).mkdir()
    (place / "private").chmod(0o700)
    (place / "baselines").mkdir()
    for recipe in original_baselines():
        (place / "baselines" / recipe.name).write_text(recipe.read_text(encoding="utf-8"), encoding="utf-8")
    dates = _dates(now)
    text = _template("original").format(
        name=name,
        title=json.dumps(title, ensure_ascii=False),
        baselines="".join(f"    - baselines/{recipe.name}\n" for recipe in original_baselines()).rstrip("\n"),
        public_key=new_key(place / KEY),
        **dates,
    )
    (place / FILE).write_text(text, encoding="utf-8")
    return load_competition(place)


def original_baselines() -> list[Path]:
    """List the recipes of the original competition: its three baselines, and two of its winners."""
    return sorted((TEMPLATES / "baselines").glob("*.yaml"))


def _dates(now: datetime | None) -> dict[str, str]:
    opens = (now or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)
    closes = opens + timedelta(days=PUBLIC_DAYS)
    ends = closes + timedelta(days=FINAL_DAYS)
    named = {"opens": opens, "closes": closes, "ends": ends}
    return {"today": opens.date().isoformat(), **{key: when.isoformat() for key, when in named.items()}}
