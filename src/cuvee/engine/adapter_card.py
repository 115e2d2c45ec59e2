"""The files beside an adapter's weights: the model card, and `cuvee.json`."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cuvee.adapters.write import Described
from cuvee.checkpoint.model_card import card_facts, joint_licence
from cuvee.checkpoint.stored_file import in_a_card
from cuvee.recipe.reference import ModelRef
from cuvee.version import __version__

MOST_ROWS = 40
"""Modules in a card's table, those that lost most; `cuvee.json` has all."""


@dataclass(frozen=True)
class ModuleKept:
    """The part of a module's change that compression left. Energy is the squared norm."""

    module: str
    rank: int
    energy: float
    total: float

    @property
    def share(self) -> float:
        """The part of the energy that was kept; all of nothing is 1."""
        return min(self.energy / self.total, 1.0) if self.total > 0 else 1.0


@dataclass(frozen=True)
class Parent:
    """A parent of an adapter: its name, its part in it, the identity of its files, its folder."""

    name: str
    part: str
    files: Mapping[str, Any]
    folder: Path | None


@dataclass(frozen=True)
class Made:
    """An adapter that was made, as its card tells it. `how` goes on from "made"."""

    how: str
    described: Described
    parents: tuple[Parent, ...]
    modules: tuple[ModuleKept, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    digest: str


def discarded(modules: Sequence[ModuleKept]) -> float:
    """Return the part of the energy of all modules together that compression discarded, from 0 to 1."""
    total = sum(module.total for module in modules)
    if total <= 0:
        return 0.0
    retained = sum(min(module.energy, module.total) for module in modules)
    return max(0.0, 1 - retained / total)


def adapter_card(made: Made) -> str:
    """Return the text of README.md."""
    parents = "\n".join(f"- `{parent.name}`, {parent.part}{_files(parent)}" for parent in made.parents)
    worst = sorted(made.modules, key=lambda module: (module.share, module.module))[:MOST_ROWS]
    rows = "\n".join(f"| `{m.module}` | {m.rank} | {m.share:.4%} |" for m in worst)
    more = ""
    if len(made.modules) > MOST_ROWS:
        more = f"\n\n{len(made.modules) - len(worst)} modules more are in `cuvee.json`."
    notes = "\n".join(f"- {note}" for note in [*made.notes, *made.warnings])
    if notes:
        notes = f"\n## Notes\n\n{notes}\n"
    return f"""{_front(made)}
# A LoRA adapter

Made with Cuvée {__version__} {made.how}. PEFT loads it as it is; the scale is one.

## Parents

{parents}
{notes}
## Energy kept

{1 - discarded(made.modules):.6%} of the energy (the squared norm) of the change was kept in the ranks below.

| module | rank | energy kept |
| --- | --- | --- |
{rows}{more}

Weights digest: `{made.digest}`.
"""


def _parent_record(parent: Parent) -> dict[str, Any]:
    return {"model": parent.name, "part": parent.part, "files": dict(parent.files)}


def _module_record(module: ModuleKept) -> dict[str, Any]:
    return {"rank": module.rank, "energy": module.energy, "total": module.total, "kept": module.share}


def adapter_record(made: Made, choices: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of `cuvee.json`."""
    return {
        "cuvee": __version__,
        "kind": "adapter",
        **choices,
        "inputs": list(map(_parent_record, made.parents)),
        "weights_digest": made.digest,
        "reproducible": "tolerance",
        "energy_discarded": discarded(made.modules),
        "modules": {module.module: _module_record(module) for module in made.modules},
        "warnings": list(made.warnings),
        "notes": list(made.notes),
        "versions": {"python": platform.python_version()},
    }


def _files(parent: Parent) -> str:
    words = in_a_card(parent.files)
    return f"; {words}" if words else ""


def _front(made: Made) -> str:
    entries: dict[str, Any] = {"library_name": "peft", "tags": ["lora", "merge", "cuvee"]}
    base = made.described.base
    if base is not None and ModelRef(base).looks_like_hub_name:
        entries |= {"base_model": base, "base_model_relation": "adapter"}
    licence = joint_licence([card_facts(parent.folder).licence for parent in made.parents])
    if licence is not None:
        entries["license"] = licence
    return f"---\n{yaml.safe_dump(entries, sort_keys=False, allow_unicode=True)}---"
