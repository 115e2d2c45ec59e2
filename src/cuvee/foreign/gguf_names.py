"""GGUF's names, settings and layouts against transformers' own, as a data file has them for the families it knows."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")

ALWAYS = "always"
"""The switch of biases that every model of a family has."""

WINDOW_PATTERN = "attention.sliding_window_pattern"
"""The setting that says which layers see a window only, without the family's key before it."""


@dataclass(frozen=True)
class Family:
    """An architecture of GGUF: its key, the config's words for it, and how its tensors are laid out.

    - `rotated_rows`: the rows of query and key are in pairs, where transformers has halves.
    - `norm_offset`: a number that is added to the weights of norms.
    - `tensors`, `config`: transformers' words by GGUF's.
    - `biases`: the modules with a bias, by the switch in the config that brings them.
    - `scalings`: the kinds of scaled rotary embedding that both compute.
    - `tied`: the head is tied where the config does not say.
    - `unsaid`: the values that llama.cpp takes where a file of GGUF does not say.
    - `window_period`: every layer but each `window_period`-th has a window, where the file does not say.
    - `largest`: models with so many layers have queries scaled by hidden_size / heads.
    - `local_rotation`: layers with a window have a rotary base of their own.
    - `experts`: how many experts a layer has where the config does not say, 0 for families without any. Their tensors
      have two numbers in transformers' names, and are stacked under one name in GGUF.
    - `rounds_yarn`: llama.cpp rounds YaRN's bounds, though the models of the family do not; it has no other form.
    - `written_only`: files of the family are written here and not read.
    """

    key: str
    model_type: str
    architecture: str
    rotated_rows: bool
    norm_offset: int
    constants: Mapping[str, Any]
    tensors: Mapping[str, str]
    config: Mapping[str, str]
    biases: Mapping[str, tuple[str, ...]]
    scalings: tuple[str, ...]
    tied: bool
    unsaid: Mapping[str, Any]
    window_period: int | None
    largest: int | None
    local_rotation: bool
    experts: int
    rounds_yarn: bool
    written_only: bool

    def own_name(self, gguf: str) -> str | None:
        """Return transformers' name of a GGUF tensor; None if it is not known."""
        own = _renamed(gguf, self.tensors)
        if own is None or not self._has(own):
            return None
        return own

    def gguf_name(self, own: str) -> str | None:
        """Return GGUF's name of a transformers tensor; None if it is not known."""
        if not self._has(own):
            return None
        return _renamed(own, {theirs: ours for ours, theirs in self.tensors.items()})

    def expected_names(self, config: Mapping[str, Any]) -> set[str]:
        """Return transformers' names of all tensors of a model with a config, a head of its own among them."""
        biased: set[str] = set()
        for switch, words in self.biases.items():
            if switch == ALWAYS or config.get(switch):
                biased |= set(words)
        names = set()
        for pattern in self.tensors.values():
            has_bias = pattern.rpartition(".")[2] in biased
            for module in self._modules(pattern, config):
                names.add(f"{module}.weight")
                if has_bias:
                    names.add(f"{module}.bias")
        return names

    def _modules(self, pattern: str, config: Mapping[str, Any]) -> list[str]:
        """Return the modules that a name with a star for the layer, and perhaps one for the expert, stands for."""
        copies = config["num_hidden_layers"] if "*" in pattern else 1
        modules = [pattern.replace("*", str(layer), 1) for layer in range(copies)]
        if pattern.count("*") < 2:
            return modules
        experts = range(self.experts_of(config))
        return [module.replace("*", str(expert)) for module, expert in product(modules, experts)]

    def experts_of(self, config: Mapping[str, Any]) -> int:
        """Return how many experts a layer has by a config."""
        return int(config.get("num_experts") or config.get("num_local_experts") or self.experts)

    def switch_of(self, own: str) -> str | None:
        """Return the switch in the config that brings a bias; None for a bias that no model of the family has."""
        word = own.removesuffix(".bias").rpartition(".")[2]
        return next((switch for switch, words in self.biases.items() if word in words), None)

    def _has(self, own: str) -> bool:
        return not own.endswith(".bias") or self.switch_of(own) is not None


def family(key: str) -> Family | None:
    """Return the family of a GGUF architecture; None for an architecture that is not known."""
    return _families().get(key)


def family_of(model_type: str) -> Family | None:
    """Return the family of a config's model type; None for a type that is not known."""
    return next((family for family in _families().values() if family.model_type == model_type), None)


def known_families() -> tuple[str, ...]:
    """List the model types that are known."""
    return tuple(family.model_type for family in _families().values())


def paired_rows(rows: int, heads: int) -> np.ndarray:
    """Return, for each row as GGUF has it, the row of transformers: pairs (0, h), (1, h + 1) ... of each head."""
    return np.arange(rows).reshape(heads, 2, rows // heads // 2).swapaxes(1, 2).reshape(-1)


def _renamed(name: str, table: Mapping[str, str]) -> str | None:
    stem, dot, last = name.rpartition(".")
    if not dot or last not in ("weight", "bias"):
        return None
    numbers = _NUMBER.findall(f"{stem}.")
    pattern = table.get(_NUMBER.sub("*", f"{stem}.").removesuffix("."))
    if pattern is None:
        return None
    module = pattern.replace("*", numbers[0]) if numbers else pattern
    return f"{module}.{last}"


@cache
def _families() -> dict[str, Family]:
    text = (Path(__file__).parent / "gguf_families.json").read_text(encoding="utf-8")
    data = json.loads(text)
    return {key: _family(key, entry, data) for key, entry in data["families"].items()}


def _family(key: str, entry: Mapping[str, Any], data: Mapping[str, Any]) -> Family:
    tensors: dict[str, str | None] = dict(data["tensors"])
    for group in entry.get("groups", ()):
        tensors |= data["groups"][group]
    biases = {switch: tuple(parts) for switch, parts in entry.get("biases", {}).items()}
    return Family(
        key=entry.get("written_as", key),
        model_type=entry["model_type"],
        architecture=entry["architecture"],
        rotated_rows=entry.get("rotated_rows", False),
        norm_offset=entry.get("norm_offset", 0),
        constants=entry.get("constants", {}),
        tensors={ours: theirs for ours, theirs in tensors.items() if theirs is not None},
        config={**data["config"], **entry.get("config", {})},
        biases=biases,
        scalings=tuple(entry.get("scalings", ())),
        tied=entry.get("tied", False),
        unsaid=entry.get("unsaid", {}),
        window_period=entry.get("window_period"),
        largest=entry.get("largest"),
        local_rotation=entry.get("local_rotation", False),
        experts=entry.get("experts", 0),
        rounds_yarn=entry.get("rounds_yarn", False),
        written_only=entry.get("written_only", False),
    )
