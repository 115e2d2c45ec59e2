"""Forty honest recipes of the bundled family, and planted copies of four of them, as the judge sees them.

`python -m competition.forty` (in `tests/`) merges and questions all of them anew, which takes minutes, and writes
`tests/golden/forty.json.gz`: by name the recipe, the sketch of the model and its wrong answers on the public items.
"""

import gzip
import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cuvee import demo

GOLDEN = Path(__file__).parent.parent / "golden" / "forty.json.gz"
EXPERTS = ("middle", "odd", "reverse", "shift", "sort")
WHOLE, PAIR = 5, 2
SEED = 41

SETTINGS: dict[str, dict[str, tuple[float, float]]] = {
    "linear": {},
    "task_arithmetic": {"lambda": (0.3, 1.2)},
    "ties": {"lambda": (0.5, 1.8), "density": (0.2, 0.9)},
    "dare_linear": {"lambda": (0.3, 1.0), "density": (0.4, 0.9)},
    "dare_ties": {"lambda": (0.5, 1.5), "density": (0.4, 0.9)},
    "della": {"lambda": (0.5, 1.5), "density": (0.4, 0.9)},
    "breadcrumbs": {"lambda": (0.4, 1.2), "density": (0.5, 0.95)},
    "sce": {"select_topk": (0.3, 1.0)},
    "tsv_m": {"lambda": (0.6, 1.6)},
    "iso_c": {"lambda": (0.6, 1.6)},
}


def honest_recipes() -> Iterator[tuple[str, str]]:
    """Yield names and recipes: each team picks a method, most of the experts, settings and, two of three, weights."""
    draw = random.Random(SEED)
    for number in range(40):
        method = draw.choice(list(SETTINGS))
        experts = sorted(draw.sample(EXPERTS, draw.choice([3, 4, 5, 5])))
        weighs = draw.random() < 2 / 3 and method not in ("iso_c", "sce")
        models = []
        for expert in experts:
            weight = round(draw.uniform(0.4, 1.2), 2) if weighs else 1.0
            parameters = "" if method == "sce" else f", parameters: {{weight: {weight}}}"
            models.append(f"  - {{model: {expert}{parameters}}}\n")
        settings = [f"{key}: {round(draw.uniform(*ends), 2)}" for key, ends in SETTINGS[method].items()]
        base = "" if method == "linear" else "base_model: base\n"
        yield (
            f"team {number:02d}",
            f"merge_method: {method}\n{base}models:\n{''.join(models)}parameters: {{{', '.join(settings)}}}\n"
            f"dtype: bfloat16\nseed: {number}\n",
        )


def planted() -> Iterator[tuple[str, str, str]]:
    """Yield the name of a copy, that of its source, and its recipe. `copy of` models are near-copies of experts."""
    recipes = dict(honest_recipes())
    weighed = [name for name, recipe in recipes.items() if "weight: 1.0}" not in recipe and "weight" in recipe]
    for number, source in enumerate(weighed[:: len(weighed) // 4][:4]):
        recipe = recipes[source]
        lines = recipe.splitlines(keepends=True)
        models = [line for line in lines if "model: " in line and "base_model" not in line]
        yield f"weights {number}", source, _nudged(recipe)
        renamed = recipe
        for expert in EXPERTS:
            renamed = renamed.replace(f"model: {expert}", f"model: renamed-{expert}")
        yield f"renamed {number}", source, renamed
        turned = "".join(line for line in lines if line not in models)
        at = turned.index("models:\n") + len("models:\n")
        yield f"order {number}", source, turned[:at] + "".join(reversed(models)) + turned[at:]
        first = models[0].partition("model: ")[2].split(",")[0].split("}")[0]
        near = recipe.replace(f"model: {first}", f"model: near-{first}")
        yield f"swapped {number}", source, near.replace("seed: ", "seed: 9")


def _nudged(recipe: str) -> str:
    """Change each weight by 0.0001, or the first setting where there are none."""
    out = []
    for word in recipe.split(" "):
        try:
            value = float(word.rstrip("}\n,"))
        except ValueError:
            out.append(word)
            continue
        out.append(word.replace(word.rstrip("}\n,"), f"{value + 0.0001:.4f}") if "." in word else word)
    return " ".join(out)


def judged(recipe: str, places: dict[str, Path], tasks: list[str], folder: Path) -> dict[str, Any]:
    """Merge and question a recipe, and return what the judge keeps of it to find copies by."""
    from cuvee.api import stages_from_text
    from cuvee.engine import merge_stages
    from cuvee.evaluation import evaluate, load_task
    from cuvee.submission.asked import asked_by_stages
    from cuvee.submission.likeness import answer_key, likeness_of

    merge_stages(stages_from_text(recipe), folder / "model", places=places, overwrite=True)
    asked = asked_by_stages(stages_from_text(recipe))
    report = evaluate(folder / "model", {task: load_task(task) for task in tasks}, out=folder / "answers", device="cpu")
    wrong = {}
    for task in report.tasks:
        keys = ["" if (item.score or 0) >= 0.5 else answer_key(item.prediction) for item in task.items]
        wrong[task.task] = tuple(keys)
    own = {str(model): places[str(model)] for model in asked.models}
    likeness = likeness_of(folder / "model", places["base"], wrong, own)
    macro = float(np.mean([np.mean([not key for key in keys]) for keys in wrong.values()]))
    return {
        "recipe": recipe, "value": macro, "layout": likeness.layout, "sketch": list(likeness.sketch),
        "wrong": {task: list(keys) for task, keys in wrong.items()},
        "models": {name: list(sketch) for name, sketch in likeness.models.items()},
    }  # fmt: skip


def near_copy(model: Path, out: Path) -> Path:
    """Write an expert whose numbers differ a little, by a thousandth of their size: another file, the same skill."""
    import shutil

    import ml_dtypes  # noqa: F401  # lets NumPy read bfloat16
    from safetensors.numpy import load_file, save_file

    shutil.copytree(model, out)
    draw = np.random.default_rng(SEED)
    file = out / "model.safetensors"
    tensors = {}
    for name, values in load_file(file).items():
        noise = 1 + 1e-3 * draw.standard_normal(values.shape)
        tensors[name] = (values.astype(np.float64) * noise).astype(values.dtype)
    save_file(tensors, file, metadata={"format": "pt"})
    return out


def main() -> None:
    tasks = [task for task in demo.task_names() if not task.endswith("-private")]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        places = {name: demo.model_folder(name) for name in ("base", *EXPERTS)}
        for name in EXPERTS:
            places[f"renamed-{name}"] = demo.model_folder(name)
            places[f"near-{name}"] = near_copy(demo.model_folder(name), work / f"near-{name}")
        made: dict[str, Any] = {"honest": {}, "planted": {}}
        for name, recipe in honest_recipes():
            made["honest"][name] = judged(recipe, places, tasks, work / name.replace(" ", "-"))
            print(name, recipe.split("\n")[0], made["honest"][name]["value"], flush=True)
        for name, source, recipe in planted():
            made["planted"][name] = {"of": source, **judged(recipe, places, tasks, work / name.replace(" ", "-"))}
            print(name, made["planted"][name]["value"], flush=True)
    GOLDEN.write_bytes(gzip.compress(json.dumps(made).encode(), mtime=0))


if __name__ == "__main__":
    main()
