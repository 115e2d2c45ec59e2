"""Which tensors of a base an adapter changes, and how: names matched, shapes checked, ties undone where needed."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from blake3 import blake3

from cuvee.adapters.adapter import Adapter, Change, Factors
from cuvee.adapters.config import targets
from cuvee.adapters.experts import Spread, SpreadStacks, orientations, turned_by_rule
from cuvee.adapters.patterns import names_one_of
from cuvee.adapters.quantised import plain_name
from cuvee.checkpoint import TensorSource, TensorSpec
from cuvee.checkpoint.dtypes import MERGEABLE
from cuvee.errors import CheckpointError, CuveeError, closest, several
from cuvee.structure import Structure, Tie, infer
from cuvee.structure.config import hint, in_memory, untied
from cuvee.structure.vocabulary import resized, vocabulary_rows, vocabulary_tensors

MOST_SHOWN = 8
MOST_PARTS = 4
"""Parts of a name, between its dots, that a prefix may have."""

_WITH_HEADS = ("ForCausalLM", "LMHeadModel")
_SEEING = "ForConditionalGeneration"
_TEXT_EMBEDDINGS = re.compile(r"^(model\.language_model|language_model\.model|model)\.embed_tokens\.weight$")
"""Embeddings of models that see, beside which transformers has a head of a known name."""

_OWN_HEADS = ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS")
"""Tasks for which transformers gives a model a head that the saved base of a language model lacks."""

_SHARED = "shared"
"""What two-sided models call the embedding to which those of both sides are tied: no side reads this module itself."""


@dataclass(frozen=True)
class Bias:
    """A vector to be added, times a number."""

    stored: str
    scale: float


@dataclass(frozen=True)
class Edit:
    """What an adapter does to one tensor: replaces it or rows of it, adds to it, gives its outputs other lengths.

    `turned` says that the base stores the matrix as [in, out]; `by_column` that outputs are columns. `tokens` and
    `rows` are the tensor with new rows, and for each of them where it goes. Where a base stores experts one by one,
    `expert` says whose factors they are, and `first_row` at which row of the stack's matrix this one starts. `change`
    is that of another kind than LoRA; a bias that it changes has the matrix of its module as `weight`.
    """

    name: str
    full: str | None = None
    tokens: str | None = None
    rows: tuple[int, ...] = ()
    biases: tuple[Bias, ...] = ()
    factors: tuple[Factors, ...] = ()
    magnitude: str | None = None
    turned: bool = False
    by_column: bool = False
    expert: int | None = None
    first_row: int = 0
    change: Change | None = None
    weight: str | None = None

    def rows_within(self, low: int, high: int) -> Iterator[tuple[int, int]]:
        """Give (row of the tensor, row of the new ones) for the new rows in [low, high)."""
        return ((position, row) for row, position in enumerate(self.rows) if low <= position < high)


@dataclass(frozen=True)
class Placed:
    """The edits by the base's names. `copies` are tensors to be presented besides, each with its origin in the base.

    `called` are the names that tensors have here, by the adapter's own for them, and `stacks` say which factors are
    for which parameter in memory. `resized` are the shapes of tensors that the adapter brings for more or fewer tokens
    than the base has.
    """

    edits: Mapping[str, Edit]
    copies: Mapping[str, str]
    called: Mapping[str, str]
    stacks: Mapping[str, "Fit"]
    config_changes: Mapping[str, Any]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    resized: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def origin(self, name: str) -> str:
        """Return the tensor of the base that is behind one."""
        return self.copies.get(name, name)

    @property
    def digest(self) -> str:
        """Identifies what the config says, for the plan's digest."""
        return blake3(repr(sorted(self.edits.items())).encode()).hexdigest()


def place(base: TensorSource, adapter: Adapter) -> Placed:
    """Find a place in a base for all that an adapter holds. Raises CheckpointError that names what has none."""
    placer = _Placer(base, adapter)
    placed = placer.placed()
    if placer.problems:
        shown = placer.problems[:MOST_SHOWN]
        more = len(placer.problems) - len(shown)
        raise several(shown + ([CheckpointError(f"and {more} more like these", where=adapter.name)] if more else []))
    return placed


@dataclass(frozen=True)
class Fit:
    """Factors as those of a parameter: its name in memory, and in the base unless it is spread over the experts."""

    factors: Factors
    parameter: str
    name: str | None
    turned: bool
    spread: Spread | None = None

    @property
    def stored(self) -> str:
        """The name of a tensor of the base that holds the parameter, or the first part of it."""
        return self.spread.names[0][0] if self.spread is not None else self.name or ""


class _Placer:
    """Places one adapter over one base and notes problems instead of stopping at the first."""

    def __init__(self, base: TensorSource, adapter: Adapter) -> None:
        self.base = base
        self.adapter = adapter
        self.structure: Structure = infer(base)
        self.tie: Tie | None = next(iter(self.structure.ties), None)
        self.problems: list[CuveeError] = []
        self.notes: list[str] = []
        self.edits: dict[str, Edit] = {}
        self.copies: dict[str, str] = {}
        self.spread = SpreadStacks(base.tensors)
        self.called: dict[str, str] = {}
        self.stacks: dict[str, Fit] = {}
        self.perhaps: set[str] = set()
        self.resized: dict[str, tuple[int, ...]] = {}
        self.rows = vocabulary_rows(base.tensors, base.config)

    def note(self, message: str, hint: str | None = None) -> None:
        self.problems.append(CheckpointError(message, where=self.adapter.name, hint=hint))

    def placed(self) -> Placed:
        factors = list(self.adapter.factors.values())
        plain = [f for f in factors if f.kind != "parameter"]
        needed = [f"{f.module}.weight" for f in plain]
        needed += [name for name in self.adapter.full if self.stack_of(name) is None]
        needed += [f"{t.module}.weight" for t in self.adapter.tokens.values()]
        needed += [f"{f.module}.bias" for f in factors if f.bias]
        changes = self.adapter.changes.values()
        needed += [f"{change.module}.weight" for change in changes]
        config_names = self.adapter.config.target_parameters
        parameters = [name for f in factors if f.kind == "parameter" for name in self.parameters(f)]
        needed += [name for name in parameters if self.stack_of(name) is None]
        # A parameter's name alone is one of many modules', and not each has it.
        self.perhaps = {name for name in parameters if name.rpartition(".")[2] in config_names}
        self.called = self.names(list(dict.fromkeys(needed)))
        for name, stored in self.adapter.full.items():
            self.replace_whole(name, stored)
        for tokens in self.adapter.tokens.values():
            self.replace_rows(f"{tokens.module}.weight", tokens.stored, tokens.indices)
        for found in plain:
            self.add_to_matrix(found)
        self.add_to_parameters([f for f in factors if f.kind == "parameter"])
        for change in self.adapter.changes.values():
            self.change_module(change)
        for edit in self.edits.values():
            self.check_is_read(edit)
        config_changes = {**self.untie(), **self.new_vocabulary()}
        warnings = (*base_warnings(self.adapter), *self.doubts(), *self.unread())
        called = {n: f[0] for n in needed if (f := self.found(n)) is not None}
        notes = tuple(self.notes)
        return Placed(self.edits, self.copies, called, self.stacks, config_changes, notes, warnings, self.resized)

    def names(self, needed: Sequence[str]) -> dict[str, str]:
        """Return the base's name for each tensor that is needed, where it has one; a prefix may differ."""
        tensors = self.base.tensors
        called = {name: name for name in needed if name in tensors}
        loaded = {in_memory(name, self.base.config): name for name in tensors}
        called |= {name: loaded[name] for name in needed if name not in called and name in loaded}
        missing = [name for name in needed if name not in called and not self.is_tied_head(name)]
        missing.sort(key=lambda name: name in self.perhaps)
        while missing:
            pairs = _prefixes(missing[0], tensors)
            matched = {pair: [n for n in missing if _renamed(n, pair) in tensors] for pair in pairs}
            best = max(matched, key=lambda pair: len(matched[pair]), default=None)
            if best is None or (len(matched[best]) < 2 and len(needed) > 2):
                break
            called |= {name: _renamed(name, best) for name in matched[best]}
            self.notes.append(
                f"{len(matched[best])} tensors of the adapter are matched with '{best[1]}' for '{best[0]}'"
            )
            missing = [name for name in missing if name not in called]
        for name in missing:
            if name in self.perhaps:
                continue
            self.note(f"changes '{name}', which the base has not", self.remedy(name))
        return called

    def remedy(self, name: str) -> str | None:
        """Say what to do about a tensor that the base lacks."""
        task = self.adapter.config.task_type
        if task in _OWN_HEADS and name in self.adapter.full:
            return f"save the base with a head for {task} first, by transformers' class for that"
        guess = closest(name, list(self.base.tensors)) if len(self.problems) < MOST_SHOWN else None
        return f"the closest is '{guess}'" if guess else None

    def is_tied_head(self, name: str) -> bool:
        """Say whether a name is that of a head that the base stores only as its embedding, in files or in memory."""
        if self.tie is None or self.tie.state != "tied":
            return False
        head = head_name(self.tie, self.base.config)
        return head is not None and name in (head, in_memory(head, self.base.config))

    def found(self, name: str) -> tuple[str, TensorSpec] | None:
        """Return the name and the kind of a tensor to be changed, in the size that the adapter gives it."""
        place = self.placed_at(name)
        if place is None or place[0] not in self.resized:
            return place
        return place[0], replace(place[1], shape=self.resized[place[0]])

    def placed_at(self, name: str) -> tuple[str, TensorSpec] | None:
        """Return the name and the kind of a tensor to be changed. A tied head becomes one of its own."""
        called = self.called.get(name)
        is_head = called is not None and self.tie is not None and called == self.tie.head
        tied = self.tie is not None and (self.is_tied_head(name) or (is_head and self.tie.state == "stored twice"))
        if tied and self.tie is not None:
            if self.adapter.config.ties_weights:
                return self.tie.embedding, self.base.tensors[self.tie.embedding]
            head = called or head_name(self.tie, self.base.config) or name
            self.copies[head] = self.tie.embedding
            return head, self.base.tensors[self.tie.embedding]
        return None if called is None else (called, self.base.tensors[called])

    def edit(self, name: str) -> Edit:
        return self.edits.get(name, Edit(name))

    def replace_whole(self, name: str, stored: str) -> None:
        spread = self.stack_of(name)
        if spread is not None:
            self.replace_experts(name, stored, spread)
            return
        found = self.found(name)
        if found is None:
            return
        called, spec = found
        own = self.adapter.source.tensors[stored].shape
        if own != spec.shape and not self.has_other_tokens(called, spec, own):
            self.note(f"has '{name}' of shape {list(own)} in the place of one of shape {list(spec.shape)}")
            return
        if own != spec.shape:
            self.resized[called] = own
        self.edits[called] = replace(self.edit(called), full=stored)

    def replace_experts(self, name: str, stored: str, spread: Spread) -> None:
        """Put each expert of a whole stack in the place of the base's own, which are stored one by one."""
        own = self.adapter.source.tensors[stored].shape
        if own != spread.shape:
            self.note(f"has '{name}' of shape {list(own)} in the place of experts of shape {list(spread.shape)}")
            return
        for piece, expert, row in spread.pieces():
            self.edits[piece] = replace(self.edit(piece), full=stored, expert=expert, first_row=row)

    def has_other_tokens(self, called: str, spec: TensorSpec, own: tuple[int, ...]) -> bool:
        """Say whether a tensor has a row for each token, and the adapter's has as many for others."""
        listed = vocabulary_tensors(self.base.tensors, self.rows or 0)
        by_token = called in listed or self.copies.get(called) in listed
        return by_token and len(own) == len(spec.shape) and own[1:] == spec.shape[1:]

    def new_vocabulary(self) -> dict[str, Any]:
        """Check that all has rows for the same tokens if some has others than the base. Returns config changes."""
        if not self.resized:
            return {}
        rows = {shape[0] for shape in self.resized.values()}
        names = [*vocabulary_tensors(self.base.tensors, self.rows or 0), *self.copies]
        lacking = [name for name in dict.fromkeys(names) if name not in self.resized]
        if len(rows) > 1 or lacking:
            counts = ", ".join(f"{shape[0]} rows for '{name}'" for name, shape in self.resized.items())
            rest = f" and none for '{lacking[0]}'" if lacking else ""
            hint = "save it where it was trained with save_pretrained(..., save_embedding_layers=True)"
            self.note(f"was trained over another vocabulary: it has {counts}{rest}, the base {self.rows}", hint)
            return {}
        (count,) = rows
        self.notes.append(f"the vocabulary becomes that of the adapter: {count} rows, the base has {self.rows}")
        return resized(self.base.config, count)

    def replace_rows(self, name: str, stored: str, rows: tuple[int, ...]) -> None:
        found = self.found(name)
        if found is None:
            return
        called, spec = found
        own = self.adapter.source.tensors[stored].shape
        if len(spec.shape) != 2 or own[1] != spec.shape[1] or max(rows, default=0) >= spec.shape[0]:
            self.note(f"has new rows for '{name}' that do not fit its shape {list(spec.shape)}")
            return
        self.edits[called] = replace(self.edit(called), tokens=stored, rows=rows)

    def add_to_matrix(self, factors: Factors) -> None:
        found = self.found(f"{factors.module}.weight")
        if found is None:
            return
        name, spec = found
        turned = self.is_turned(factors, name, spec)
        if turned is None:
            return
        by_column = turned or factors.kind == "embedding"
        if spec.dtype not in MERGEABLE:
            self.note(f"changes '{name}', which holds {spec.dtype}: codes, not numbers")
            return
        if factors.start is not None and not self.has_start(factors, name, turned):
            return
        edit = replace(self.edit(name), factors=(factors,), turned=turned, by_column=by_column)
        self.edits[name] = replace(edit, magnitude=factors.magnitude)
        if factors.bias is not None:
            self.add_bias(factors)

    def has_start(self, factors: Factors, name: str, turned: bool) -> bool:
        """Say whether PEFT takes something out of this matrix: not out of a tied one, nor of all that is [in, out]."""
        if turned and factors.start in ("olora", "kasa"):
            self.note(f"'{name}' is stored as [in, out], for which PEFT defines no '{factors.start}'")
            return False
        is_tied = self.tie is not None and self.tie.state in ("tied", "stored twice")
        if is_tied and self.tie is not None and self.copies.get(name, name) == self.tie.embedding:
            self.note(f"takes a part out of '{name}', which the base ties to its embedding", "untie the base first")
            return False
        return True

    def change_module(self, change: Change) -> None:
        """Place the change of another kind than LoRA, of a matrix and of its bias if the kind has one."""
        kind, found = self.adapter.config.kind, self.found(f"{change.module}.weight")
        if kind is None or found is None:
            return
        name, spec = found
        if spec.dtype not in MERGEABLE:
            self.note(f"changes '{name}', which holds {spec.dtype}: codes, not numbers")
            return
        shapes = self.adapter.change_shapes(change)
        turned = self.structure.of(name).input_first if name in self.structure.tensors else False
        size = spec.shape[::-1] if turned else spec.shape
        if len(size) != 2 or not kind.fits(shapes, *size):
            listed = ", ".join(f"{part} {list(shape)}" for part, shape in shapes.items())
            self.note(
                f"what it holds for '{change.module}' ({listed}) does not fit '{name}' of shape {list(spec.shape)}"
            )
            return
        if not kind.only_bias:
            self.edits[name] = replace(self.edit(name), change=change, turned=turned)
        bias = name.removesuffix("weight") + "bias"
        if kind.bias is not None and bias in self.base.tensors:
            self.edits[bias] = replace(self.edit(bias), change=change, weight=name, turned=turned)
        elif kind.only_bias:
            self.note(f"changes the bias of '{change.module}', which has none in the base")

    def is_turned(self, factors: Factors, name: str, spec: TensorSpec) -> bool | None:
        """Say whether the base stores a matrix as [in, out]. Its shape decides; of a square one what else is known."""
        shape = self.adapter.shape(factors)
        if factors.kernel:
            return self.is_of_convolution(factors, name, spec)
        as_is, turned = spec.shape == shape, spec.shape == shape[::-1] and factors.kind == "linear"
        if not as_is and not turned:
            hint = None
            if shape[1] == spec.shape[-1] and self.has_other_tokens(name, spec, shape):
                hint = "it was trained with tokens that the base lacks, and their rows are not in it"
            self.note(f"'{name}' has shape {list(spec.shape)}, and the factors' product {list(shape)}", hint)
            return None
        if as_is and turned:
            stored = self.structure.tensors.get(name)
            return stored.input_first if stored is not None else self.adapter.config.fan_in_fan_out
        return turned

    def is_of_convolution(self, factors: Factors, name: str, spec: TensorSpec) -> bool | None:
        """Note factors of a convolution that are not for this tensor. None is stored as [in, out]: gives False."""
        expected = (self.adapter.shape(factors)[0], *factors.kernel)
        if spec.shape == expected:
            return False
        hint = "in groups, where PEFT's A reads all inputs" if spec.shape[0] == expected[0] else None
        self.note(f"'{name}' has shape {list(spec.shape)}, and the factors are for one of {list(expected)}", hint)
        return None

    def add_bias(self, factors: Factors) -> None:
        if factors.magnitude is not None:
            self.note(f"'{factors.module}' has DoRA and a bias beside lora_B, whose function PEFT does not define")
            return
        found, stored = self.found(f"{factors.module}.bias"), factors.bias
        assert stored is not None, "only called with a bias"
        if found is None:
            return
        name, spec = found
        if self.adapter.source.tensors[stored].shape != spec.shape:
            self.note(f"the bias of '{factors.module}' does not fit '{name}' of shape {list(spec.shape)}")
            return
        self.edits[name] = replace(self.edit(name), biases=(Bias(stored, factors.scale),))

    def parameters(self, factors: Factors) -> list[str]:
        """List the names of the parameters that factors may be for, as a model in memory has them."""
        module = ".".join(part for part in factors.module.split(".") if part != "base_layer")
        names = []
        for target in self.adapter.config.target_parameters:
            owner, _, parameter = target.rpartition(".")
            if not owner or names_one_of(module, [owner]):
                names.append(f"{module}.{parameter}")
        return names

    def stack_of(self, parameter: str) -> Spread | None:
        """Return the matrices of single experts that a base has in the place of a parameter; None if it has that."""
        if parameter in self.base.tensors:
            return None
        owner, _, name = parameter.rpartition(".")
        return self.spread.find(owner, name)

    def add_to_parameters(self, listed: Sequence[Factors]) -> None:
        """Match the factors of each module with its parameters: by shape, which must leave no doubt."""
        by_module: dict[str, list[Factors]] = {}
        for factors in listed:
            by_module.setdefault(factors.module.replace(".base_layer", ""), []).append(factors)
        for module, of_module in by_module.items():
            options = {f: [o for name in self.parameters(f) for o in self.fitting(f, name)] for f in of_module}
            self.match_parameters(module, options)

    def match_parameters(self, module: str, options: Mapping[Factors, Sequence["Fit"]]) -> None:
        """Give each of a module's factors its parameter. Square ones are turned if those of its other stacks are."""
        left = {factors: list(fits) for factors, fits in options.items()}
        turned: set[bool] = set()
        while left:
            factors = min(left, key=lambda f: (len({o.parameter for o in left[f]}), len(left[f])))
            fits = left.pop(factors)
            if len({fit.parameter for fit in fits}) != 1:
                what = "several parameters" if fits else "no parameter"
                known = ", ".join(sorted({fit.parameter for fit in fits})) or ", ".join(self.parameters(factors))
                self.note(f"the factors of '{factors.module}' fit {what} of the base ({known}), by their shapes")
                continue
            fit = fits[0] if len(fits) == 1 else self.decided(fits, turned)
            if fit is None:
                continue
            turned.add(fit.turned)
            self.add_to_stack(fit)
            left = {f: [o for o in others if o.parameter != fit.parameter] for f, others in left.items()}

    def decided(self, fits: Sequence["Fit"], turned: set[bool]) -> "Fit | None":
        """Choose between the two orientations of factors for square matrices."""
        parameter, name = fits[0].parameter, fits[0].name
        if len(turned) == 1:
            choice: bool | None = next(iter(turned))
        else:
            version = self.adapter.config.peft_version
            choice = turned_by_rule(name, self.structure, self.base.config, version)
        if choice is None:
            message = (
                f"nothing tells whether the factors of the square '{parameter}' are stored by outputs or by inputs"
            )
            hint = "let adapter_config.json say which PEFT wrote it (peft_version), or adapt its other stack, too"
            self.note(message, hint)
            return None
        return next(fit for fit in fits if fit.turned == choice)

    def fitting(self, factors: Factors, parameter: str) -> list["Fit"]:
        """Return in which orientations factors fit a parameter: as [out, in] and as [in, out]."""
        own = self.adapter.for_parameter(factors, parameter)
        if own is None:
            return []
        out, into = self.adapter.shape(own)
        spread = self.stack_of(parameter)
        if spread is not None:
            turns = orientations(spread.shape, out, into, own.experts)
            return [Fit(own, parameter, None, turned, spread) for turned in turns]
        spec = self.base.tensors.get(self.called.get(parameter, ""))
        if spec is None:
            return []
        turns = orientations(spec.shape, out, into, own.experts)
        return [Fit(own, parameter, spec.name, turned) for turned in turns]

    def add_to_stack(self, fit: "Fit") -> None:
        self.stacks[fit.parameter] = fit
        if fit.spread is not None:
            for name, expert, row in fit.spread.pieces():
                self.add_to_piece(fit, Edit(name, expert=expert, first_row=row))
        elif fit.name is not None:
            self.add_to_piece(fit, self.edit(fit.name))

    def add_to_piece(self, fit: "Fit", edit: Edit) -> None:
        kind = self.base.tensors[edit.name].dtype
        if kind not in MERGEABLE:
            self.note(f"changes '{edit.name}', which holds {kind}: codes, not numbers")
            return
        self.edits[edit.name] = replace(edit, factors=(fit.factors,), turned=fit.turned)

    def doubts(self) -> Iterator[str]:
        """Say what an adapter lacks that its config names, and whether it changes anything at all."""
        yield from self.doubt_of_what_is_lacking()
        yield from self.doubt_of_patterns()
        if self.adapter.folder is not None and not self.problems and changes_nothing(self.adapter):
            yield "the adapter changes nothing: every B in it is zero, as before any training"

    def doubt_of_what_is_lacking(self) -> Iterator[str]:
        lacking = [name for name in self.base.tensors if self.is_named(name) and name not in self.edits]
        if not lacking or not self.edits:
            return
        count = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        yield f"the adapter's config names '{lacking[0]}'{count}, for which it holds nothing: is it complete?"

    def doubt_of_patterns(self) -> Iterator[str]:
        patterns = self.adapter.config.alpha_pattern
        module = next(filter(patterns.are_at_odds, self.adapter.factors), None)
        if module is not None:
            yield (
                f"several patterns of alpha_pattern match '{module}', with different numbers: the first in "
                "adapter_config.json counts, and PEFT sorts them when it saves, so that training may have had another"
            )

    def check_is_read(self, edit: Edit) -> None:
        """Note a change of an embedding of two sides: PEFT wraps a module that neither side reads."""
        module = edit.name.removesuffix(".weight")
        if module.rpartition(".")[2] != _SHARED or self.structure.of(edit.name).role != "embedding":
            return
        whole = edit.full is not None and not self.is_in_place(edit.name)
        if whole or edit.factors or edit.change is not None:
            message = f"changes '{edit.name}', which both sides of the model read past PEFT's wrapper: without effect"
            self.note(message, "train it without that module, or its rows with trainable_token_indices")

    def unread(self) -> Iterator[str]:
        """Say which matrices transformers reads past an adapter: PEFT computes without their changes."""
        words = hint(self.base.config, "read_past_adapters")
        names = [edit.name for edit in self.edits.values() if edit.factors or edit.change is not None]
        unread = [name for name in names if names_one_of(name.removesuffix(".weight"), words)]
        if unread:
            count = f" and {len(unread) - 1} more" if len(unread) > 1 else ""
            yield (
                f"transformers reads '{unread[0]}'{count} past an adapter on it, if the model is not quantised: PEFT "
                "then computes without this change, and the result has it"
            )

    def is_named(self, name: str) -> bool:
        """Say whether a config lists a matrix of the base among its targets, with patterns taken for no names."""
        config, module = self.adapter.config, name.removesuffix(".weight")
        if config.target_modules is None or module == name or len(self.base.tensors[name].shape) != 2:
            return False
        return targets(config, module) and self.structure.of(name).role in ("linear", "embedding", "head")

    def is_in_place(self, name: str) -> bool:
        """Say whether a whole tensor takes the place of the base's own, as PEFT loads what it has no wrapper for.

        A head that is tied to it then changes with it; of a saved module it does not.
        """
        own = [stored.removesuffix(".weight") for stored in self.adapter.full if self.called.get(stored) == name]
        saved = self.adapter.config.modules_to_save
        return self.adapter.config.kind is None and not any(names_one_of(module, saved) for module in own)

    def untie(self) -> dict[str, Any]:
        """Give a tied head a matrix of its own where only one of the two changes. Returns what the config then says."""
        tie = self.tie
        if tie is None or tie.state not in ("tied", "stored twice"):
            return {}
        edit = self.edits.get(tie.embedding)
        whole = edit is not None and edit.full is not None and not self.is_in_place(tie.embedding)
        changes_embedding = edit is not None and (whole or bool(edit.factors) or bool(edit.change))
        if changes_embedding and not self.problems and not self.adapter.config.ties_weights:
            head = head_name(tie, self.base.config)
            if head is None or any(place.module == "decoder" for place in self.structure):
                message = f"changes '{tie.embedding}' alone, which the base ties to a head of another function"
                self.note(message, "untie the base first")
                return {}
            self.copies.setdefault(head, tie.embedding)
            frozen = edit.full if edit is not None and (edit.factors or edit.change) else None
            if head not in self.edits and frozen is not None:
                # The head goes on reading from the embedding as it was before the factors, tokens added.
                self.edits[head] = Edit(head, full=frozen)
                if tie.embedding in self.resized:
                    self.resized[head] = self.resized[tie.embedding]
        if not self.copies:
            return {}
        self.notes.append(
            "the adapter changes only one of embedding and head, which the base ties: the result has both"
        )
        return untied(self.base.config)


def head_name(tie: Tie, config: Mapping[str, Any]) -> str | None:
    """Return the name of the head that reads from an embedding; None where it is not known."""
    if tie.head:
        return tie.head
    if not _is_called_lm_head(tie, config):
        return None
    if tie.embedding.startswith("language_model.model."):
        return "language_model.lm_head.weight"
    return "lm_head.weight"


def _is_called_lm_head(tie: Tie, config: Mapping[str, Any]) -> bool:
    """Tell by its classes whether a model calls its head `lm_head`."""
    classes = config.get("architectures")
    if not isinstance(classes, list) or not classes:
        return False
    endings: tuple[str, ...] = _WITH_HEADS
    has_text_part = isinstance(config.get("text_config"), dict) and not config.get("is_encoder_decoder")
    if has_text_part and _TEXT_EMBEDDINGS.match(tie.embedding):
        endings = (*_WITH_HEADS, _SEEING)
    return all(isinstance(name, str) and name.endswith(endings) for name in classes)


def base_warnings(adapter: Adapter) -> Iterator[str]:
    """Say that the adapter names another base than the one that it can be added to."""
    plain = plain_name(adapter.config.base) if adapter.config.base else None
    if plain is not None:
        yield (
            f"the adapter was trained on the quantised {adapter.config.base}; over the weights themselves (likely "
            f"those of {plain}) its function is close, not equal"
        )


def changes_nothing(adapter: Adapter) -> bool:
    """Say whether an adapter leaves every base as it is. Reads of each tensor as much as is needed to see that."""
    if adapter.full or adapter.tokens or not adapter.factors:
        return False
    return not any(adapter.is_set(factors) for factors in adapter.factors.values())


def _prefixes(name: str, tensors: Mapping[str, TensorSpec]) -> list[tuple[str, str]]:
    """Return pairs of prefixes, the name's own and a base's, under which a name may be one of the base's."""
    parts = name.split(".")
    found: dict[tuple[str, str], None] = {}
    for count in range(min(MOST_PARTS, len(parts) - 2) + 1):
        if any(part.isdecimal() for part in parts[:count]):
            break
        rest = ".".join(parts[count:])
        own = name[: len(name) - len(rest)]
        for known in tensors:
            if known.endswith(rest) and (known == rest or known[-len(rest) - 1] == "."):
                found[own, known[: len(known) - len(rest)]] = None
        if found:
            return list(found)
    return list(found)


def _renamed(name: str, pair: tuple[str, str]) -> str:
    own, theirs = pair
    return theirs + name[len(own) :] if name.startswith(own) else ""
