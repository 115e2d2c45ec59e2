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


@dataclass(frozen=True)
class Family:
    """One architecture of GGUF: its key, the config's words for it, and how its tensors are laid out.

    `rotated_rows`: the rows of query and key are in pairs, where transformers has halves. `norm_offset` is added to the
    weights of norms. `tensors` and `config` map GGUF's words to transformers'.
    """

    key: str
    model_type: str
    architecture: str
    rotated_rows: bool
    norm_offset: int
    constants: Mapping[str, Any]
    tensors: Mapping[str, str]
    config: Mapping[str, str]

    def own_name(self, gguf: str) -> str | None:
        """Return transformers' name of a GGUF tensor; None if it is not known."""
        return _renamed(gguf, self.tensors)

    def gguf_name(self, own: str) -> str | None:
        """Return GGUF's name of a transformers tensor; None if it is not known."""
        return _renamed(own, {theirs: ours for ours, theirs in self.tensors.items()})


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
    return {
        key: Family(
            key=said.get("written_as", key),
            model_type=said["model_type"],
            architecture=said["architecture"],
            rotated_rows=said.get("rotated_rows", False),
            norm_offset=said.get("norm_offset", 0),
            constants=said.get("constants", {}),
            tensors={**data["tensors"], **said.get("tensors", {})},
            config=data["config"],
        )
        for key, said in data["families"].items()
    }
