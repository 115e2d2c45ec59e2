"""Which tensors of a base an adapter changes, and how: names matched, shapes checked, ties undone where needed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from cuvee.adapters.adapter import Adapter
from cuvee.adapters.changes import Change, Factors
from cuvee.adapters.config import targets
from cuvee.adapters.edits import Bias, Edit, Fit, Placed
from cuvee.adapters.experts import Spread, SpreadStacks, orientations, turned_by_rule
from cuvee.adapters.heads import head_name
from cuvee.adapters.patterns import names_one_of
from cuvee.adapters.quantised import plain_name
from cuvee.checkpoint import TensorSource, TensorSpec
from cuvee.checkpoint.dtypes import MERGEABLE
from cuvee.errors import CheckpointError, CuveeError, closest, first_of_several
from cuvee.structure import Structure, Tie, infer
from cuvee.structure.config import hint, in_memory, untied
from cuvee.structure.vocabulary import resized, vocabulary_rows, vocabulary_tensors

MOST_SHOWN = 8
MOST_PARTS = 4
"""Parts of a name, between its dots, that a prefix may have."""

_OWN_HEADS = ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS")
"""Tasks for which transformers gives a model a head that the saved base of a language model lacks."""

_SHARED = "shared"
"""What two-sided models call the embedding to which those of both sides are tied: no side reads this module itself."""


def place(base: TensorSource, adapter: Adapter) -> Placed:
    """Find a place in a base for all that an adapter holds. Raises CheckpointError that names what has none."""
    placer = _Placer(base, adapter)
    placed = placer.placed()
    if placer.problems:
        raise first_of_several(placer.problems, MOST_SHOWN, adapter.name)
    return placed


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
        """Place all that the adapter holds: matched names first, then each tensor, then checks of the whole."""
        needed = self.needed()
        self.called = self.names(needed)
        for name, stored in self.adapter.full.items():
            self.replace_whole(name, stored)
        for tokens in self.adapter.tokens.values():
            self.replace_rows(f"{tokens.module}.weight", tokens.stored, tokens.indices)
        for factors in self.adapter.factors.values():
            if factors.kind != "parameter":
                self.add_to_matrix(factors)
        self.add_to_parameters(self.of_parameters())
        for change in self.adapter.changes.values():
            self.change_module(change)
        for edit in self.edits.values():
            self.check_is_read(edit)
        config_changes = {**self.untie(), **self.new_vocabulary()}
        warnings = (*base_warnings(self.adapter), *self.doubts(), *self.unread())
        called = self.called_now(needed)
        notes = tuple(self.notes)
        return Placed(self.edits, self.copies, called, self.stacks, config_changes, notes, warnings, self.resized)

    def of_parameters(self) -> list[Factors]:
        return [factors for factors in self.adapter.factors.values() if factors.kind == "parameter"]

    def needed(self) -> list[str]:
        """List the tensors that the adapter changes, by its own names for them; notes which a base may lack."""
        factors = self.adapter.factors.values()
        parameters = list(chain.from_iterable(map(self.parameters, self.of_parameters())))
        # A parameter's name alone is one of many modules', and not each has it.
        config_names = self.adapter.config.target_parameters
        self.perhaps = {name for name in parameters if name.rpartition(".")[2] in config_names}
        needed = [f"{f.module}.weight" for f in factors if f.kind != "parameter"]
        needed += [name for name in self.adapter.full if self.stack_of(name) is None]
        needed += [f"{tokens.module}.weight" for tokens in self.adapter.tokens.values()]
        needed += [f"{f.module}.bias" for f in factors if f.bias]
        needed += [f"{change.module}.weight" for change in self.adapter.changes.values()]
        needed += [name for name in parameters if self.stack_of(name) is None]
        return list(dict.fromkeys(needed))

    def called_now(self, needed: Sequence[str]) -> dict[str, str]:
        """Return the names that tensors have in the result, by the adapter's own for them."""
        called = {}
        for name in needed:
            target = self.found(name)
            if target is not None:
                called[name] = target[0]
        return called

    def names(self, needed: Sequence[str]) -> dict[str, str]:
        """Return the base's name for each tensor that is needed, where it has one; a prefix may differ."""
        called = self.names_in_memory(needed)
        missing = [name for name in needed if not (name in called or self.is_tied_head(name))]
        missing.sort(key=lambda name: name in self.perhaps)
        while missing:
            pair, matched = self.best_prefix(missing)
            # A single match among many names is a coincidence of endings.
            is_chance = len(matched) < 2 and len(needed) > 2
            if pair is None or is_chance:
                break
            called |= {name: _renamed(name, pair) for name in matched}
            self.notes.append(f"{len(matched)} tensors of the adapter are matched with '{pair[1]}' for '{pair[0]}'")
            missing = [name for name in missing if name not in called]
        for name in missing:
            if name in self.perhaps:
                continue
            self.note(f"changes '{name}', which the base has not", self.remedy(name))
        return called

    def names_in_memory(self, needed: Sequence[str]) -> dict[str, str]:
        """Return the base's name for tensors that it stores under this name, or has under it in memory."""
        tensors = self.base.tensors
        loaded = {in_memory(name, self.base.config): name for name in tensors}
        called = {}
        for name in needed:
            if name in tensors:
                called[name] = name
            elif name in loaded:
                called[name] = loaded[name]
        return called

    def best_prefix(self, missing: Sequence[str]) -> tuple[tuple[str, str] | None, list[str]]:
        """Return the pair of prefixes under which most names are the base's, with these names."""
        best: tuple[str, str] | None = None
        matched: list[str] = []
        for pair in _prefixes(missing[0], self.base.tensors):
            of_pair = [name for name in missing if _renamed(name, pair) in self.base.tensors]
            if best is None or len(of_pair) > len(matched):
                best, matched = pair, of_pair
        return best, matched

    def remedy(self, name: str) -> str | None:
        """Say what to do about a tensor that the base lacks."""
        task = self.adapter.config.task_type
        if task in _OWN_HEADS and name in self.adapter.full:
            return f"save the base with a head for {task} first, by transformers' class for that"
        if len(self.problems) >= MOST_SHOWN:
            return None  # it would not be shown, and the search is long
        guess = closest(name, list(self.base.tensors))
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
        called, tie = self.called.get(name), self.tie
        if tie is not None and self.reads_embedding(name, called, tie):
            embedding = self.base.tensors[tie.embedding]
            if self.adapter.config.ties_weights:
                return tie.embedding, embedding
            head = called or self.own_head(tie, name)
            self.copies[head] = tie.embedding
            return head, embedding
        return None if called is None else (called, self.base.tensors[called])

    def reads_embedding(self, name: str, called: str | None, tie: Tie) -> bool:
        """Say whether a name is that of a head that has the numbers of its embedding, stored once or twice."""
        if self.is_tied_head(name):
            return True
        return tie.state == "stored twice" and called is not None and called == tie.head

    def own_head(self, tie: Tie, name: str) -> str:
        """Return the name under which a tied head is presented as a tensor of its own."""
        return head_name(tie, self.base.config) or name

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
        has_width = len(spec.shape) == 2 and own[1] == spec.shape[1]
        if not has_width or max(rows, default=0) >= spec.shape[0]:
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
        if self.tie is None or self.tie.state not in ("tied", "stored twice"):
            return True
        if self.copies.get(name, name) == self.tie.embedding:
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
        for of_module in by_module.values():
            self.match_parameters({factors: self.fits(factors) for factors in of_module})

    def fits(self, factors: Factors) -> list[Fit]:
        """List the parameters that factors fit, in every orientation that their shapes allow."""
        fits: list[Fit] = []
        for name in self.parameters(factors):
            fits += self.fitting(factors, name)
        return fits

    def match_parameters(self, options: Mapping[Factors, Sequence[Fit]]) -> None:
        """Give each of a module's factors its parameter. Square ones are turned if those of its other stacks are."""
        left = {factors: list(fits) for factors, fits in options.items()}
        turned: set[bool] = set()
        while left:
            factors = min(left, key=lambda other: _doubt(left[other]))
            fits = left.pop(factors)
            parameters = {fit.parameter for fit in fits}
            if len(parameters) != 1:
                count = "several parameters" if fits else "no parameter"
                listed = ", ".join(sorted(parameters) or self.parameters(factors))
                self.note(f"the factors of '{factors.module}' fit {count} of the base ({listed}), by their shapes")
                continue
            fit = fits[0] if len(fits) == 1 else self.decided(fits, turned)
            if fit is None:
                continue
            turned.add(fit.turned)
            self.add_to_stack(fit)
            left = {other: _without(options, fit.parameter) for other, options in left.items()}

    def decided(self, fits: Sequence[Fit], turned: set[bool]) -> Fit | None:
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

    def fitting(self, factors: Factors, parameter: str) -> list[Fit]:
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

    def add_to_stack(self, fit: Fit) -> None:
        self.stacks[fit.parameter] = fit
        if fit.spread is not None:
            for name, expert, row in fit.spread.pieces():
                self.add_to_piece(fit, Edit(name, expert=expert, first_row=row))
        elif fit.name is not None:
            self.add_to_piece(fit, self.edit(fit.name))

    def add_to_piece(self, fit: Fit, edit: Edit) -> None:
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
        if not self.edits:
            return
        named = filter(self.is_named, self.base.tensors)
        lacking = [name for name in named if name not in self.edits]
        if lacking:
            shown = _first_of(lacking)
            yield f"the adapter's config names {shown}, for which it holds nothing: is it complete?"

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
        if self.is_wrapped(edit):
            message = f"changes '{edit.name}', which both sides of the model read past PEFT's wrapper: without effect"
            self.note(message, "train it without that module, or its rows with trainable_token_indices")

    def is_wrapped(self, edit: Edit) -> bool:
        """Say whether PEFT changes a tensor by a wrapper around its module, not in its place."""
        if edit.factors or edit.change is not None:
            return True
        return edit.full is not None and not self.is_in_place(edit.name)

    def unread(self) -> Iterator[str]:
        """Say which matrices transformers reads past an adapter: PEFT computes without their changes."""
        words = hint(self.base.config, "read_past_adapters")
        unread = []
        for edit in self.edits.values():
            is_adapted = edit.factors or edit.change is not None
            if is_adapted and names_one_of(edit.name.removesuffix(".weight"), words):
                unread.append(edit.name)
        if unread:
            yield (
                f"transformers reads {_first_of(unread)} past an adapter on it, if the model is not quantised: PEFT "
                "then computes without this change, and the result has it"
            )

    def is_named(self, name: str) -> bool:
        """Say whether a config lists a matrix of the base among its targets, with patterns taken for no names."""
        config, module = self.adapter.config, name.removesuffix(".weight")
        is_matrix = module != name and len(self.base.tensors[name].shape) == 2
        if config.target_modules is None or not is_matrix:
            return False
        return targets(config, module) and self.structure.of(name).role in ("linear", "embedding", "head")

    def is_in_place(self, name: str) -> bool:
        """Say whether a whole tensor takes the place of the base's own, as PEFT loads what it has no wrapper for.

        A head that is tied to it then changes with it; of a saved module it does not.
        """
        if self.adapter.config.kind is not None:
            return False
        own = [stored.removesuffix(".weight") for stored in self.adapter.full if self.called.get(stored) == name]
        saved = self.adapter.config.modules_to_save
        return not any(names_one_of(module, saved) for module in own)

    def untie(self) -> dict[str, Any]:
        """Give a tied head a matrix of its own where only one of the two changes. Returns what the config then says."""
        tie = self.tie
        if tie is None or tie.state not in ("tied", "stored twice"):
            return {}
        edit = self.edits.get(tie.embedding)
        is_settled = bool(self.problems) or self.adapter.config.ties_weights
        if edit is not None and self.is_wrapped(edit) and not is_settled:
            head = head_name(tie, self.base.config)
            has_decoder = any(spot.module == "decoder" for spot in self.structure)
            if head is None or has_decoder:
                message = f"changes '{tie.embedding}' alone, which the base ties to a head of another function"
                self.note(message, "untie the base first")
                return {}
            self.copies.setdefault(head, tie.embedding)
            self.keep_head(head, edit)
        if not self.copies:
            return {}
        self.notes.append(
            "the adapter changes only one of embedding and head, which the base ties: the result has both"
        )
        return untied(self.base.config)

    def keep_head(self, head: str, embedding: Edit) -> None:
        """Let a head go on reading from the embedding as it was before the factors, tokens added."""
        has_factors = embedding.factors or embedding.change
        if head in self.edits or embedding.full is None or not has_factors:
            return
        self.edits[head] = Edit(head, full=embedding.full)
        if embedding.name in self.resized:
            self.resized[head] = self.resized[embedding.name]


def _doubt(fits: Sequence[Fit]) -> tuple[int, int]:
    """Count how many parameters factors may be for, then in how many orientations."""
    return len({fit.parameter for fit in fits}), len(fits)


def _without(fits: Sequence[Fit], parameter: str) -> list[Fit]:
    return [fit for fit in fits if fit.parameter != parameter]


def _first_of(names: Sequence[str]) -> str:
    """Show the first of some names, and count the others."""
    count = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"'{names[0]}'{count}"


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
    holds_tensors = adapter.full or adapter.tokens
    if holds_tensors or not adapter.factors:
        return False
    return not any(map(adapter.is_set, adapter.factors.values()))


def _prefixes(name: str, tensors: Mapping[str, TensorSpec]) -> list[tuple[str, str]]:
    """Return pairs of prefixes, the name's own and a base's, under which a name may be one of the base's."""
    parts = name.split(".")
    pairs: dict[tuple[str, str], None] = {}
    for count in range(min(MOST_PARTS, len(parts) - 2) + 1):
        if any(part.isdecimal() for part in parts[:count]):
            break
        rest = ".".join(parts[count:])
        own = name[: len(name) - len(rest)]
        for stored in tensors:
            if stored == rest or stored.endswith(f".{rest}"):
                pairs[own, stored[: len(stored) - len(rest)]] = None
        if pairs:
            break
    return list(pairs)


def _renamed(name: str, pair: tuple[str, str]) -> str:
    own, theirs = pair
    return theirs + name[len(own) :] if name.startswith(own) else ""
