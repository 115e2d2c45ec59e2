"""Writes the page of families: what becomes of their layers when slices move them, and how evaluation reads them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cuvee.structure.layer_rules import Family, Rule, families

WAYS = Path(__file__).parents[1] / "tests" / "evaluation" / "ways.json"


def families_page(generated: str) -> str:
    """Return the page, with a line that says what wrote it."""
    return "\n\n".join(["# Families", generated, *layers_section(), *ways_section()]) + "\n"


def layers_section() -> list[str]:
    intro = (
        "Any model is merged, whatever its family: tensors are matched by name and shape. `slices` also move layers,\n"
        "and a config says by their place what they are. Of these families it is known how: the output's config says\n"
        "the same of each layer at its new place, or the recipe is refused. The family is the `model_type` of the\n"
        "config, or of its part for the language. The last column names the file of transformers 5.23 that has the\n"
        "rule. See [Stack layers](../how-to/stack-layers.md#layers-that-are-not-alike)."
    )
    columns = ("family", "layers differ in", "stack", "refused", "merge", "modules", "rule from")
    head = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"
    rows = [_family_row(name, family) for name, family in sorted(families().items())]
    last = (
        "Of any other family layers are moved if they look alike: they have the same tensors, and no key of the\n"
        "config seems to speak of layers. Else they may stay at their places only, unless the recipe says\n"
        "`unknown_layers: move`."
    )
    return ["## Layers", intro, "\n".join([head, *rows]), last]


def ways_section() -> list[str]:
    record = json.loads(WAYS.read_text(encoding="utf-8"))
    intro = (
        "Evaluation tries on a few tokens what a loaded model can do, and takes the fastest way that gives what one\n"
        "sequence for each choice gives. The tests hold each of these models, tiny and random, against that plain\n"
        "way: five questions with choices of different length, prompts longer than the window, batches of 1, 3 and 16\n"
        f"rows, log-likelihoods within 1e-4. Measured with transformers {record['transformers']}."
    )
    meaning = (
        "- *one row*: all choices of a question stand behind their prefix in one row, under a mask of ours.\n"
        "- *padded*: the prefix is read once, then its choices, in batches of rows padded on the left.\n"
        "- *grouped*: the same in batches of rows of equal length.\n"
        "- *alone*: each choice is read with its whole prefix, by itself.\n"
        "- *rows enter*: where a model writes texts, a row that ends leaves its batch, and another enters. Elsewhere\n"
        "  a batch is written to the end of its longest text. The tests hold the texts against those of one row alone."
    )
    last = (
        "*Times fewer tokens* is how many tokens one sequence for each choice takes, divided by those that were shown\n"
        "here, padding included. These questions are short; with long prompts, a few-shot start or many choices the\n"
        "factor is larger. The report of an evaluation says which way was taken."
    )
    columns = (
        "model",
        "`model_type`",
        "rows within the window",
        "the five questions",
        "times fewer tokens",
        "rows enter",
    )
    head = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"
    rows = [_way_row(name, ways) for name, ways in sorted(record["families"].items())]
    return ["## How evaluation reads them", intro, meaning, "\n".join([head, *rows]), last]


def _family_row(name: str, family: Family) -> str:
    differ = ", ".join(dict.fromkeys(rule.fact for rule in family.rules if not rule.refers)) or "nothing"
    bound = [rule for rule in family.rules if not rule.has_list and not rule.refers]
    fixed = [rule.fact for rule in bound if not rule.write and not rule.vary]
    keys = [f"`{key}`" for rule in bound for key in (*rule.vary, *rule.write) if not _says_any(rule)]
    stack = "any layers in any order"
    refused = "nothing"
    if keys:
        stack, refused = "layers in an order that the config can say", f"what {', '.join(keys)} cannot say"
    if fixed:
        stack, refused = "layers that keep what they differ in", f"another {' or '.join(fixed)}"
    if family.blocks:
        stack += "; blocks of tensors by layer follow"
    modules = "as the language part" if name.endswith("_text") else "the whole model"
    return f"| `{name}` | {differ} | {stack} | {refused} | yes | {modules} | `{family.source}` |"


def _says_any(rule: Rule) -> bool:
    """Say whether what a rule writes names each layer, so that any order can be said."""
    lists = ("values", "[[values, 1]]", "where(values)", "where_not(values)")
    return any(text in lists for text in rule.write.values())


def _way_row(name: str, ways: Mapping[str, Any]) -> str:
    questions = ", ".join(ways["five_questions"])
    fewer, enter = f"{ways['times_fewer_tokens']:.1f}", "yes" if ways["rows_enter"] else "no"
    cells = (name, f"`{ways['model_type']}`", ways["within_window"], questions, fewer, enter)
    return f"| {' | '.join(cells)} |"
