"""The program in the sandbox: `python -m cuvee.submission.inside search|merge|evaluate ORDER`, one kind of work.

The order is a JSON file. Progress goes to standard output as lines of JSON; an error is a line of JSON there,
and the exit code says whose fault it is, as everywhere.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cuvee.errors import CuveeError, MissingExtra, PlatformError, RecipeError

MERGED = "model"
ANSWERS = "answers"
PLUGIN = "submitted"
FOUND = "found.yaml"


class _Told:
    """Progress as lines that the process outside reads."""

    def start(self, what: str, total: int, unit: str) -> None:
        _say({"start": what, "total": total, "unit": unit})

    def advance(self, amount: int) -> None:
        _say({"advance": amount})

    def note(self, text: str) -> None:
        _say({"note": text})

    def finish(self) -> None:
        _say({"finish": True})


def search_order(order: Mapping[str, Any]) -> None:
    """Search a space whose models and texts are at the given places; the best recipe goes to FOUND in the output."""
    import tempfile

    from cuvee.executor import Here
    from cuvee.search.run import search
    from cuvee.search.setting import budget_of
    from cuvee.submission.asked import asked_by_space
    from cuvee.submission.searched import space_to_run

    out = Path(order["output"])
    tempfile.tempdir = str(out)  # candidates that are merged on the disk count there
    asked = asked_by_space(Path(order["space"]).read_text(encoding="utf-8"), folder=None, source="recipe.yaml")
    assert asked.space is not None, "the order is for a space"
    texts = {reference: Path(place) for reference, place in order["texts"].items()}
    space = space_to_run(asked.space, {reference: Path(place) for reference, place in order["tasks"].items()})
    with Here() as executor:
        report = search(
            space,
            out / "search",
            executor,
            folder=out,
            budget=budget_of(space.budget),
            most_tokens=order["most_tokens"],
            memory_bytes=order["memory_bytes"],
            device="cpu",
            places={reference: Path(place) for reference, place in order["places"].items()},
            texts=texts,
            progress=_Told(),
        )
    (out / FOUND).write_text(report.recipe, encoding="utf-8")
    counts = {"tokens": report.cost.tokens, "items": report.cost.items, "candidates": len(report.candidates)}
    _say({"warnings": list(report.warnings), "tokens": counts})


def merge_order(order: Mapping[str, Any]) -> None:
    """Merge a recipe's models, which are at the given places, into the folder MERGED of the output."""
    from cuvee.api import stages_from_text
    from cuvee.engine import merge_stages
    from cuvee.hub import Hub

    if order["plugin"] is not None:
        install_plugin(Path(order["plugin"]), Path(order["output"]))
    recipes = stages_from_text(Path(order["recipe"]).read_text(encoding="utf-8"))
    places = {reference: Path(place) for reference, place in order["places"].items()}
    limits = {"memory_bytes": order["memory_bytes"], "threads": order["threads"]}
    out = Path(order["output"]) / MERGED
    texts = {reference: Path(place) for reference, place in order["texts"].items()}
    if not texts:
        result = merge_stages(recipes, out, places=places, hub=Hub(offline=True), progress=_Told(), **limits)
        _say({"warnings": list(result.warnings)})
        return
    from cuvee.submission.tuned import merge_tuned

    tuned = merge_tuned(recipes, out, texts, places=places, hub=Hub(offline=True), progress=_Told(), **limits)
    _say({"warnings": list(tuned.outcome.warnings), "tokens": dict(tuned.tokens)})


def install_plugin(source: Path, output: Path) -> None:
    """Make a file's method known as that of an installed package: the object that is named like the file."""
    name = source.stem
    if not name.isidentifier():
        raise RecipeError(f"the method file is called '{source.name}'; expected a Python name")
    folder = output / PLUGIN
    information = folder / f"{PLUGIN}-0.dist-info"
    information.mkdir(parents=True)
    (folder / f"{PLUGIN}_{name}.py").write_bytes(source.read_bytes())
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PLUGIN}\nVersion: 0\n", encoding="utf-8")
    entry = f"[cuvee.methods]\n{name} = {PLUGIN}_{name}:{name}\n"
    (information / "entry_points.txt").write_text(entry, encoding="utf-8")
    sys.path.append(str(folder))


def evaluate_order(order: Mapping[str, Any]) -> None:
    """Answer tasks that have no targets; the answers go to the folder ANSWERS of the output.

    A recipe may say how its output is asked, but not by which seed texts are drawn: one would be chosen that is lucky,
    and second answers by another seed would be the first ones.
    """
    from cuvee.evaluation import evaluate
    from cuvee.evaluation.model import own_prompt

    out = Path(order["output"]) / ANSWERS
    prompt = {key: setting for key, setting in own_prompt(Path(order["model"])).items() if key != "seed"}
    evaluate(order["model"], order["tasks"], out=out, device=order["device"], prompt=prompt, progress=_Told())


ORDERS = {"search": search_order, "merge": merge_order, "evaluate": evaluate_order}


def main(arguments: list[str]) -> int:
    """Do the work of an order; return the exit code."""
    kind, place = arguments
    try:
        ORDERS[kind](json.loads(Path(place).read_text(encoding="utf-8")))
    except MissingExtra as error:  # the judge's machine lacks it, whoever sent the recipe
        _say({"error": str(error), "code": PlatformError.exit_code})
        return PlatformError.exit_code
    except CuveeError as error:
        _say({"error": str(error)[:4000], "code": error.exit_code})
        return error.exit_code
    return 0


def _say(content: Mapping[str, Any]) -> None:
    print(json.dumps(content), flush=True)  # noqa: T201  # the process outside reads it


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
