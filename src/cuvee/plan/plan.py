"""`Plan`: what a merge will do, step by step, as plain data that can be printed, compared and hashed."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from cuvee.checkpoint import TensorSource
from cuvee.hub import Hub, Repository
from cuvee.kernels import BLOCK
from cuvee.method import Method
from cuvee.ops.cut import Cut
from cuvee.plan.adapters import FoundAdapter
from cuvee.plan.cut import StackCut
from cuvee.plan.vocabulary import Vocabulary
from cuvee.recipe.recipe import Recipe
from cuvee.recipe.reference import ModelRef
from cuvee.tokenizers.rows import RowMap

Action = Literal["merge", "copy"]


@dataclass(frozen=True)
class Input:
    """One tensor of one input model. `identity` and `occurrence` are what random draws depend on.

    `rows` says which rows of the output are which of the model's, where they are not simply the same.
    """

    model: int
    tensor: str
    dtype: str
    identity: str = ""
    occurrence: int = 0
    rows: RowMap | None = None


@dataclass(frozen=True)
class MergeStep:
    """One output tensor: what it is made of and with which numbers.

    `settings` holds what the method's rule is told: one number, or one a model for settings that each model may set.
    A "copy" takes the first input as it is, once it is seen that all inputs are equal (integers, buffers). `unit` is
    how many elements the method needs together, `holds` the bytes that its surveys keep beyond a few numbers a model,
    `surveying` how often at most they read this tensor. With `cut` it is done on whole matrices;
    what is `whole` is done in one piece. `in_kernels`: its rule needs no arrays of its own.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    action: Action
    inputs: tuple[Input, ...]
    base: Input | None
    settings: Mapping[str, Any]
    scale: float = 1.0
    unit: int = 1
    holds: int = 0
    surveying: int = 0
    cut: Cut | None = None
    whole: bool = False
    in_kernels: bool = False

    @property
    def holds_no_arrays(self) -> bool:
        """Whether blocks pass from what was read to the output in kernels. They leave float64 to NumPy."""
        return self.in_kernels and all(given.dtype != "F64" for given in self.all_inputs)

    @cached_property
    def block(self) -> int:
        """Elements of a block: whole units, in all about BLOCK, or several where nothing else is as large as a block.

        It depends on nothing but the step: blocks of another size would change the last digits of sums.
        """
        several = min(4, max(1, 16 // len(self.all_inputs))) if self.holds_no_arrays else 1
        return self.unit * max(1, several * BLOCK // self.unit)

    def chunk(self, most: int) -> int:
        """Return the elements of a chunk of whole blocks: at most `most`, unless one block has more."""
        return max(self.block, most // self.block * self.block)

    @property
    def elements(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count

    @cached_property
    def all_inputs(self) -> tuple[Input, ...]:
        return (*self.inputs, self.base) if self.base else self.inputs


@dataclass(frozen=True)
class Forecast:
    """What a merge will cost. `passes` counts readings of the inputs; `memory_bytes` is private memory."""

    bytes_read: int
    bytes_written: int
    passes: int
    least_memory_bytes: int
    bytes_downloaded: int = 0


@dataclass(frozen=True)
class Plan:
    """All steps of a merge, in the order of the output's tensors.

    `repositories` says for each model of a hub which commit it is; None for the others. `adapters` are those that are
    added to models. `device` is where numbers are calculated. `stack_cut` says which layers slices take.
    """

    recipe: Recipe
    method: Method
    models: tuple[ModelRef, ...]
    places: tuple[Path | None, ...]
    sources: tuple[TensorSource, ...]
    donor: int
    steps: tuple[MergeStep, ...]
    config_changes: Mapping[str, Any]
    forecast: Forecast
    warnings: tuple[str, ...]
    repositories: tuple[Repository | None, ...]
    hub: Hub
    vocabulary: Vocabulary
    custom_code: bool = False
    adapters: tuple[FoundAdapter | None, ...] = ()
    device: str = "cpu"
    stack_cut: StackCut | None = None

    @property
    def parameters(self) -> int:
        return sum(step.elements for step in self.steps)

    @property
    def reproducible(self) -> str:
        """Say whether the bytes are the same on every machine: not by a modifier of matrices, nor on a GPU."""
        exact = self.method.reproducible == "bits" and not any(step.whole for step in self.steps)
        return "bits" if exact else "tolerance"

    @property
    def digest(self) -> str:
        """SHA-256 of the recipe, the steps and the inputs' headers, and of the device, if it is not the processor."""
        content = {
            "recipe": self.recipe.digest,
            "steps": [_plain(step) for step in self.steps],
            "inputs": [_headers(source) for source in self.sources],
            **({"device": self.device} if self.device != "cpu" else {}),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _headers(source: TensorSource) -> dict[str, Any]:
    """Return what identifies an input wherever it is: whether its hash is known without reading it is not part."""
    return {name: {**print_, "sha256": None} for name, print_ in source.fingerprint().items()}


def _plain(step: MergeStep) -> list[Any]:
    inputs = [
        [i.model, i.tensor, i.identity, i.occurrence, *([i.rows.digest] if i.rows else [])] for i in step.all_inputs
    ]
    cut = [[step.cut.stacked, step.cut.sizes, step.cut.input_first]] if step.cut else []
    return [step.name, step.dtype, list(step.shape), step.action, inputs, dict(step.settings), step.scale, *cut]
