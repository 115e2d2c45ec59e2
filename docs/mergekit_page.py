"""The page of mergekit's recipes: which merge, and why others are refused. The rows are in mergekit_recipes.yaml."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROWS = Path(__file__).with_name("mergekit_recipes.yaml")

REASONS = {
    "range": "a value is out of its range; mergekit refuses it while it merges",
    "vocabularies": (
        "the models have embeddings of different lengths, and the recipe does not say what becomes of the tokens. "
        "mergekit refuses it too, or cuts rows off with `--unsafe-truncate-embeddings`. `tokenizer: base` or "
        "`tokenizer: union` gives all models the same tokens"
    ),
    "value": "the method needs a value, and the filter leaves tensors without one; mergekit refuses it too",
    "mixture": (
        "mergekit makes a DeepSeek or a Qwen 2 mixture of Llama or Mistral models. Here these become a Mixtral, "
        "without a shared expert"
    ),
}
"""Why a shape is refused, by the word that the rows have for it."""


def mergekit_page(generated: str) -> str:
    """Return a table of all shapes for each of mergekit's files, after the reasons for what is refused."""
    sources: Mapping[str, list[Mapping[str, Any]]] = yaml.safe_load(ROWS.read_text(encoding="utf-8"))["sources"]
    rows = [row for listed in sources.values() for row in listed]
    refused = [row for row in rows if "why" in row]
    passing = [row for row in rows if "passes over" in row]
    intro = (
        f"mergekit 0.1.5 has {len(rows)} kinds of recipes in its examples, guides and tests. "
        f"{len(rows) - len(refused)} of them merge here with tiny models in the place of theirs, "
        f"{len(passing)} with a warning that names a "
        f"parameter which the method does not take; {len(refused)} are refused. A test merges every one. See "
        "[Come from mergekit](../how-to/come-from-mergekit.md)."
    )
    used = dict.fromkeys(row["why"] for row in refused)
    reasons = "\n".join(f"- *{word}*: {REASONS[word]}." for word in used)
    parts = ["# Recipes of mergekit", generated, intro, "Why a recipe is refused:", reasons]
    for source, listed in sources.items():
        lines = [f"| {row['shape']} | {_result(row)} |" for row in listed]
        parts += [f"## {source}", "\n".join(["| recipe | here |", "|---|---|", *lines])]
    return "\n\n".join(parts) + "\n"


def _result(row: Mapping[str, Any]) -> str:
    if "why" in row:
        return f"refused: *{row['why']}*"
    if "passes over" in row:
        names = ", ".join(f"`{name}`" for name in row["passes over"])
        return f"merges, passes over {names}"
    return "merges"
