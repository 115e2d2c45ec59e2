"""GGUF's names, settings and layouts against transformers' own, as a data file has them for the families it knows."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
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
    """One architecture of GGUF: its key, the config's words for it, and how its tensors are laid out.

    `rotated_rows`: the rows of query and key are in pairs, where transformers has halves. `norm_offset` is added to the
    weights of norms. `tensors` and `config` map GGUF's words to transformers'. `biases` are the modules with a bias, by
    the switch in the config that brings them. `scalings` are the kinds of scaled rotary embedding that both compute.

    Where the config does not say, the head is `tied`. Where a file of GGUF does not say, llama.cpp takes what is in
    `unsaid`, and every layer but each `window_period`-th has a window. A model with the `largest` number of layers has
    queries scaled by hidden_size / heads, and one with `local_rotation` a rotary base of its own in those windows.
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

    def own_name(self, gguf: str) -> str | None:
        """Return transformers' name of a GGUF tensor; None if it is not known."""
        own = _renamed(gguf, self.tensors)
        return own if own is not None and self._has(own) else None

    def gguf_name(self, own: str) -> str | None:
        """Return GGUF's name of a transformers tensor; None if it is not known."""
        if not self._has(own):
            return None
        return _renamed(own, {theirs: ours for ours, theirs in self.tensors.items()})

    def expected_names(self, config: Mapping[str, Any]) -> set[str]:
        """Return transformers' names of all tensors of a model with a config, a head of its own among them."""
        modules = [
            module.replace("*", str(layer))
            for module in self.tensors.values()
            for layer in range(config["num_hidden_layers"] if "*" in module else 1)
        ]
        biased = [
            module
            for switch, parts in self.biases.items()
            for module in modules
            if module.rpartition(".")[2] in parts and (switch == ALWAYS or config.get(switch))
        ]
        return {f"{module}.weight" for module in modules} | {f"{module}.bias" for module in biased}

    def switch_of(self, own: str) -> str | None:
        """Return what in the config brings a bias; None for one that no model of the family has."""
        part = own.removesuffix(".bias").rpartition(".")[2]
        return next((switch for switch, parts in self.biases.items() if part in parts), None)

    def _has(self, own: str) -> bool:
        return not own.endswith(".bias") or self.switch_of(own) is not None


def family(key: str) -> Family | None:
    """Return the family of a GGUF architecture; None for one that is not known."""
    return _families().get(key)


def family_of(model_type: str) -> Family | None:
    """Return the family of a config's model type; None for one that is not known."""
    return next((known for known in _families().values() if known.model_type == model_type), None)


def known_families() -> tuple[str, ...]:
    """List the model types that are known."""
    return tuple(known.model_type for known in _families().values())


def paired_rows(rows: int, heads: int) -> np.ndarray:
    """Return, for each row as GGUF has it, the row of transformers: pairs (0, h), (1, h + 1) ... of each head."""
    return np.arange(rows).reshape(heads, 2, rows // heads // 2).swapaxes(1, 2).reshape(-1)


def _renamed(name: str, table: Mapping[str, str]) -> str | None:
    stem, dot, last = name.rpartition(".")
    numbers = _NUMBER.findall(f"{stem}.")
    found = table.get(_NUMBER.sub("*", f"{stem}.").removesuffix("."))
    if found is None or not dot or last not in ("weight", "bias"):
        return None
    return f"{found.replace('*', numbers[0]) if numbers else found}.{last}"


@cache
def _families() -> dict[str, Family]:
    text = (Path(__file__).parent / "gguf_families.json").read_text(encoding="utf-8")
    data = json.loads(text)
    return {key: _family(key, entry, data) for key, entry in data["families"].items()}


def _family(key: str, entry: Mapping[str, Any], data: Mapping[str, Any]) -> Family:
    tensors: dict[str, str | None] = dict(data["tensors"])
    for group in entry.get("groups", ()):
        tensors |= data["groups"][group]
    return Family(
        key=entry.get("written_as", key),
        model_type=entry["model_type"],
        architecture=entry["architecture"],
        rotated_rows=entry.get("rotated_rows", False),
        norm_offset=entry.get("norm_offset", 0),
        constants=entry.get("constants", {}),
        tensors={ours: theirs for ours, theirs in tensors.items() if theirs is not None},
        config={**data["config"], **entry.get("config", {})},
        biases={switch: tuple(parts) for switch, parts in entry.get("biases", {}).items()},
        scalings=tuple(entry.get("scalings", ())),
        tied=entry.get("tied", False),
        unsaid=entry.get("unsaid", {}),
        window_period=entry.get("window_period"),
        largest=entry.get("largest"),
        local_rotation=entry.get("local_rotation", False),
    )
