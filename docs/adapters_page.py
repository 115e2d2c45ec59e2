"""Writes the page of adapters: every kind that PEFT knows, how near to its forward pass we come, or why not."""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from cuvee.adapters.catalogue import kinds
from cuvee.adapters.refused import LOST_STARTS, REFUSED, SWITCHES

MEASURED = Path(__file__).parents[1] / "tests" / "adapters" / "kinds.json"


def adapters_page(generated: str) -> str:
    """Return the page, with a line that says what wrote it."""
    record = json.loads(MEASURED.read_text(encoding="utf-8"))
    intro = (
        "`base+adapter` in a recipe and `cuvee adapters apply` add an adapter to its base, tensor by tensor. The\n"
        "tests train each kind over tiny models, by random numbers, and hold the result against the forward pass of\n"
        f"PEFT {record['peft']}. A number is a bound of the relative error of the logits, run by PEFT; *combine* is\n"
        "`cuvee adapters combine` of the one adapter with weight 1, and *extract* `cuvee adapters extract` of the\n"
        "model that *apply* writes, both with `--energy 1`."
    )
    sections = [intro, *lora_section(record["lora"]), *others_section(record["kinds"]), *refused_section()]
    return "\n\n".join(["# Adapters", generated, *sections]) + "\n"


def lora_section(rows: Mapping[str, Mapping[str, str]]) -> list[str]:
    lines = [f"| {name} | {_columns(found)} |" for name, found in rows.items()]
    heads = ["| adapter | apply | combine | extract |", "|---|---|---|---|"]
    return ["## LoRA and its options", "\n".join([*heads, *lines])]


def others_section(rows: Mapping[str, Mapping[str, str]]) -> list[str]:
    intro = (
        "These are LoRA's relatives. The change of W is computed in float64, with W as PEFT has it, [out, in].\n"
        "Combined or extracted they become LoRA, of the rank that is asked for."
    )
    lines = [f"| `{name}` | {_formula(name.split()[0])} | {_columns(found)} |" for name, found in rows.items()]
    heads = ["| kind and variant | what it computes | apply | combine | extract |", "|---|---|---|---|---|"]
    return [
        "## Other kinds",
        intro,
        "\n".join([*heads, *lines]),
        "A package adds a kind of its own as a `cuvee.adapters.kind.Kind` under the entry point `cuvee.adapter_kinds`.",
    ]


def refused_section() -> list[str]:
    heads = ["| kind | why, and what to do |", "|---|---|"]
    lines = [f"| `{name}` | {reason} |" for name, reason in REFUSED.items()]
    starts = [f"| `init_lora_weights: {start}` | {reason} |" for start, reason in LOST_STARTS.items()]
    switches = [f"| `{key}` | {reason} |" for key, reason in SWITCHES.items()]
    converted = (
        "An adapter with such a start is exact once it has been converted where it was trained, by\n"
        "`save_pretrained(..., path_initial_model_for_weight_conversion=...)`. Two variants in one adapter are\n"
        "refused, as by PEFT itself, and so are variants for stacks of experts."
    )
    options = ["| option of LoRA | why |", "|---|---|", *starts, *switches]
    return ["## Refused", "\n".join([*heads, *lines]), "\n".join(options), converted]


def _formula(kind: str) -> str:
    """Return the first line of the docstring of a kind's file."""
    assert kind in kinds(), kind
    module: Any = import_module(f"cuvee.adapters.kinds.{kind.lower()}")
    first = module.__doc__.partition("\n")[0]
    return first.replace("|", "\\|")


def _columns(found: Mapping[str, str]) -> str:
    return " | ".join(_shown(found[column]) for column in ("apply", "combine", "extract"))


def _shown(found: str) -> str:
    return found if found.startswith("refused") else f"exact ({found})"
