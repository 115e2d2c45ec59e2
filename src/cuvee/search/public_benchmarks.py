"""Well-known public test sets, which a search refuses as objectives: a recipe fitted to them shows nothing by them.

mergekit's evolutionary search refuses them by the beginnings of their names, too.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from cuvee.errors import RecipeError

NAMES = (
    *("agieval", "ai2_arc", "aime", "arc_challenge", "arc_easy", "bbh", "big_bench", "bigbench", "boolq", "ceval"),
    *("cmmlu", "commonsenseqa", "drop", "gpqa", "gsm8k", "hellaswag", "hendrycks", "humaneval", "ifeval", "lambada"),
    *("livebench", "livecodebench", "math500", "math_500", "mbpp", "mgsm", "mmlu", "mmmu"),
    *(
        "mt_bench",
        "musr",
        "openbookqa",
        "piqa",
        "simpleqa",
        "social_iqa",
        "squad",
        "swe_bench",
        "theoremqa",
        "triviaqa",
    ),
    *("truthfulqa", "winogrande"),
)
"""Names as words joined by underscores. `drop` and `squad` stand for files that are called nothing else."""

WHOLE = ("drop", "squad")
TRAINING = ("train", "training")


def refuse_public(tasks: Sequence[str]) -> None:
    """Raise RecipeError for a task that has a public test set's name, unless it says that it is training data."""
    for task in tasks:
        found = public_benchmark(task)
        if found:
            raise RecipeError(
                f"the task '{task}' looks like the public test set '{found}'; a recipe that is chosen by it says "
                "nothing on it any more",
                hint="search by items of your own, or by its training part; `allow_public_benchmark: true` goes ahead",
            )


def public_benchmark(task: str) -> str:
    """Return the public test set that a task's name or file stands for; "" for none."""
    words = re.sub(r"[^a-z0-9]+", "_", Path(task).stem.lower()).strip("_")
    if any(word in words.split("_") for word in TRAINING):
        return ""
    for name in NAMES:
        if words == name or (name not in WHOLE and f"_{name}_" in f"_{words}_"):
            return name
    return ""
