"""`Plan`: the steps of a merge as plain data that can be printed, compared and hashed."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from cuvee.checkpoint import TensorSource
from cuvee.checkpoint.dtypes import entry_count
from cuvee.checkpoint.model_card import Facts, licence_conflict, stated_facts
from cuvee.checkpoint.naming import Layout, layout_of
from cuvee.hub import Hub, Repository
from cuvee.kernels import BLOCK
from cuvee.method import Method, Reproducible
from cuvee.ops.cut import Cut
from cuvee.plan.adapters import FoundAdapter
from cuvee.plan.cut import StackCut
from cuvee.plan.vocabulary import Vocabulary
from cuvee.recipe.recipe import Recipe
from cuvee.recipe.reference import ModelRef
from cuvee.statistics import Statistics
from cuvee.tokenizers.rows import RowMap

Action = Literal["merge", "average", "copy"]


@dataclass(frozen=True)
class Input:
    """A tensor of an input model. Random draws depend on its `identity` and `occurrence`.

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
    """The step that makes an output tensor, with its inputs and numbers.

    - `action`: "merge" applies the method's rule; "copy" takes the first input once all inputs are seen to be equal
      (integers, buffers); "average" sums the inputs times the `weight` of each, whatever the method does.
    - `settings`: the rule's settings: a number, or a tuple by model for settings that each model may set.
    - `unit`: elements that the method needs together.
    - `holds`: bytes that its surveys keep beyond a few numbers a model.
    - `surveying`: how often at most surveys read this tensor.
    - `cut`: how the tensor is cut into the matrices that a rule works on.
    - `whole`: the tensor is made in a single piece.
    - `in_kernels`: the rule needs no arrays of its own.
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
    def is_merged(self) -> bool:
        """Whether the method's rule makes the tensor."""
        return self.action == "merge"

    @property
    def holds_no_arrays(self) -> bool:
        """Whether kernels take blocks from the file to the output. They leave float64 to NumPy."""
        dtypes = {source.dtype for source in self.all_inputs}
        return self.in_kernels and "F64" not in dtypes

    @cached_property
    def block(self) -> int:
        """Elements of a block: whole units, in all about BLOCK, or several where nothing else is as large as a block.

        It depends on nothing but the step: blocks of another size would change the last digits of sums.
        """
        several = 1
        if self.holds_no_arrays:
            several = min(4, max(1, 16 // len(self.all_inputs)))
        return self.unit * max(1, several * BLOCK // self.unit)

    def chunk(self, most: int) -> int:
        """Return the elements of a chunk of whole blocks: at most `most`, unless a single block has more."""
        return max(self.block, most // self.block * self.block)

    @property
    def elements(self) -> int:
        return entry_count(self.dtype, self.shape)

    @cached_property
    def all_inputs(self) -> tuple[Input, ...]:
        return (*self.inputs, self.base) if self.base else self.inputs


def merged_steps(steps: Iterable[MergeStep]) -> list[MergeStep]:
    """List the steps whose tensors the method's rule makes."""
    return [step for step in steps if step.is_merged]


@dataclass(frozen=True)
class Forecast:
    """The cost of a merge. `passes` counts readings of the inputs; `least_memory_bytes` is private memory."""

    bytes_read: int
    bytes_written: int
    passes: int
    least_memory_bytes: int
    bytes_downloaded: int = 0


@dataclass(frozen=True)
class Parent:
    """A model that the output is made of, as the recipe calls it. Repositories are those of a hub it came from.

    `adapter_place` is the folder of the adapter that is added to it.
    """

    name: str
    source: TensorSource
    repository: Repository | None = None
    adapter_repository: Repository | None = None
    adapter_place: Path | None = None

    @property
    def facts(self) -> Mapping[str, Facts]:
        """The facts that its card states, and its adapter's, by their names."""
        return stated_facts(self.name, self.source.place, self.adapter_place)


@dataclass(frozen=True)
class Making:
    """How another command than `cuvee merge` makes an output, whose plan only copies from a source made for it.

    - `command` makes it again.
    - `recipe_digest` identifies the settings that it was made with.
    - `how` is a sentence for the card, `record` adds entries to `cuvee.json`.
    - `unlike_mergekit` says in which ways mergekit's output would be another.
    """

    command: str
    title: str
    how: str
    parents: tuple[Parent, ...]
    recipe_digest: str
    reproducible: Reproducible
    tags: tuple[str, ...]
    record: Mapping[str, Any]
    unlike_mergekit: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """All steps of a merge, in the order of the output's tensors.

    By model, with None where a model has none:

    - `places`: folders or files.
    - `repositories`: the repositories of models on a hub, with their commits.
    - `adapters`: the adapters that are added to models.
    - `statistics`: statistics of the models' inputs.

    `device` calculates the numbers. `warnings` tell of possible loss or faults; `notes` tell of decisions that need
    nothing done. `stack_cut` says which layers slices take.
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
    notes: tuple[str, ...] = ()
    making: Making | None = None
    stack_cut: StackCut | None = None
    statistics: tuple[Statistics | None, ...] = ()
    coded: Mapping[str, str] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """How many numbers the output has."""
        return sum(step.elements for step in self.steps)

    @property
    def layout(self) -> Layout:
        """How the files of weights are called, by sub-folder: as the donor's, where its library looks for them."""
        donor = self.sources[self.donor]
        is_file = donor.place is not None and not donor.place.is_dir()
        sizes: Counter[str] = Counter()
        for step in self.steps:
            sizes[step.dtype] += step.elements
        main = max(sizes, key=sizes.__getitem__, default=None)
        return layout_of(() if is_file else donor.files(), donor.config, main)

    @property
    def parents(self) -> tuple[Parent, ...]:
        """The models that the output is made of: those of the recipe, unless another command makes it."""
        if self.making is not None:
            return self.making.parents
        adapters = self.adapters or (None,) * len(self.models)
        parents = []
        for which, model in enumerate(self.models):
            adapter = adapters[which]
            source, repository = self.sources[which], self.repositories[which]
            if adapter is None:
                parents.append(Parent(str(model), source, repository))
            else:
                parents.append(Parent(str(model), source, repository, adapter.repository, adapter.place))
        return tuple(parents)

    @property
    def recipe_digest(self) -> str:
        return self.making.recipe_digest if self.making is not None else self.recipe.digest

    @property
    def reproducible(self) -> Reproducible:
        """Say whether the bytes are the same on every machine: not by a modifier of matrices, nor on a GPU."""
        if self.making is not None:
            return self.making.reproducible
        has_whole_tensors = any(step.whole for step in self.steps)
        return "tolerance" if has_whole_tensors else self.method.reproducible

    @property
    def digest(self) -> str:
        """SHA-256 of the recipe, the steps, the inputs' headers and statistics, and a device that is no processor."""
        content: dict[str, Any] = {
            "recipe": self.recipe_digest,
            "steps": list(map(_plain, self.steps)),
            "inputs": list(map(_headers, self.sources)),
        }
        if self.device != "cpu":
            content["device"] = self.device
        if any(self.statistics):
            content["statistics"] = [None if own is None else own.digest for own in self.statistics]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def conflicts(parents: Sequence[Parent]) -> tuple[str, ...]:
    """Say which licences of the parents do not go together, if any, as their cards state them."""
    facts: dict[str, Facts] = {}
    for parent in parents:
        facts |= parent.facts
    conflict = licence_conflict(list(facts), [fact.licence for fact in facts.values()])
    return () if conflict is None else (conflict,)


def _headers(source: TensorSource) -> dict[str, Any]:
    """Return the facts that identify an input wherever it is, on a hub or here: nothing of its numbers."""
    return {
        name: {"size": file.size, "header_blake3": file.header_blake3, "sha256": None}
        for name, file in source.files().items()
    }


def _plain(step: MergeStep) -> list[Any]:
    """Return a step's numbers for the digest. New entries come only where they are set: old digests stay."""
    inputs = []
    for source in step.all_inputs:
        entry = [source.model, source.tensor, source.identity, source.occurrence]
        if source.rows:
            entry.append(source.rows.digest)
        inputs.append(entry)
    plain = [step.name, step.dtype, list(step.shape), step.action, inputs, dict(step.settings), step.scale]
    if step.cut:
        plain.append([step.cut.stacked, step.cut.sizes, step.cut.input_first])
    return plain
