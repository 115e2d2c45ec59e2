"""Reads from the names and shapes of an adapter's tensors which of them is what, as PEFT names them."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from cuvee.adapters.changes import Change, FactorKind, Factors, Tokens, as_matrix, kernel_of
from cuvee.adapters.config import AdapterConfig, targets
from cuvee.adapters.factor_forms import PLAIN, Form
from cuvee.adapters.kind import MODULES, Kind
from cuvee.adapters.patterns import names_one_of
from cuvee.checkpoint import TensorSource
from cuvee.checkpoint.dtypes import MERGEABLE
from cuvee.errors import CheckpointError, CuveeError

OUTER = "base_model."
PREFIX = f"{OUTER}model."

MOST_NUMBERS = 1 << 31
"""Numbers of a factor that is written out."""

INTEGERS: Mapping[str, np.dtype[Any]] = {"I32": np.dtype("<i4"), "I64": np.dtype("<i8")}
"""Types of places in a matrix, by their name in a header."""

_LINEAR = re.compile(r"^(?P<module>.+)\.lora_(?P<side>[AB])\.(?P<what>weight|bias)$")
_EMBEDDING = re.compile(r"^(?P<module>.+)\.lora_embedding_(?P<side>[AB])$")
_MAGNITUDE = re.compile(r"^(?P<module>.+)\.lora_magnitude_vector(\.weight)?$")
_DIAGONAL = re.compile(r"^(?P<module>.+)\.lora_diag$")
_OF_TRAINING = re.compile(r"\.(lora_velora_embed|lora_monteclora_sampler)(\.|$)")
"""What variants store for the training alone."""

_TOKENS = re.compile(r"^(?P<module>.+?)(\.token_adapter)?\.trainable_tokens_delta$")
_NAMED = re.compile(
    r"\.(?P<what>lora_[AB]|lora_embedding_[AB]|lora_magnitude_vector|lora_diag|trainable_tokens_delta|modules_to_save)"
    r"\.(?P<name>[^.]+)(?P<rest>\.(weight|bias))?$"
)
"""How a state dict has them that was saved as it was, with the adapter's name within."""

OF_ADAPTER = re.compile(r"\.(lora_[a-zA-Z_]+|trainable_tokens_delta|modules_to_save)(\.|$)")
"""Within the names of what LoRA adds to a model, and of what it puts in the place of a module."""

_OF_KOHYA = re.compile(
    r"^lora_(unet|te\d?|transformer)_.+\.(lora_(down|up)\.weight|alpha|dora_scale|hada_w\w+|lokr_w\w+)$"
)
"""Names of diffusion models' adapters: of modules, with underscores for dots."""

_SAVED = re.compile(r"^(?P<module>.+)\.modules_to_save\.(?P<parameter>[^.]+)$")
_ORIGINAL = re.compile(r"^(?P<module>.+)\.original_module\.(?P<parameter>[^.]+)$")
_FROZEN = re.compile(r"\.(token_adapter\.)?base_layer\.")
_ODD = re.compile(r"\.(lora_|token_adapter|modules_to_save|original_module)")


class TensorNames:
    """Reads the names of an adapter's tensors and notes problems instead of stopping at the first."""

    def __init__(self, name: str, config: AdapterConfig, source: TensorSource) -> None:
        self.where = name
        self.config = config
        self.source = source
        self.problems: list[CuveeError] = []
        self.full: dict[str, str] = {}
        self.tokens: dict[str, Tokens] = {}
        self.parts: dict[str, dict[str, str]] = {}
        self.shared: dict[str, str] = {}
        has_prefix = any(name.startswith(PREFIX) for name in source.tensors)
        self.prefix = PREFIX if has_prefix else ""
        """The start of all names: nothing in a state dict of the model within PEFT's own."""
        self.adapter_names = _adapter_names(source.tensors)
        if len(self.adapter_names) > 1:
            shown = ", ".join(sorted(self.adapter_names))
            self.note(f"holds several adapters ({shown})", "save one of them with PEFT's save_pretrained")
            return
        foreign = next(filter(_OF_KOHYA.match, source.tensors), None)
        if foreign is not None:
            message = (
                f"'{foreign}' is named as kohya's scripts do, with underscores that do not tell which module it is of"
            )
            self.note(message, "convert it to PEFT's names where it was trained")
            return
        for stored in source.tensors:
            self.sort(stored)

    @property
    def kind_name(self) -> str:
        return "LoRA" if self.config.kind is None else self.config.kind.name

    def note(self, message: str, hint: str | None = None) -> None:
        self.problems.append(CheckpointError(message, where=self.where, hint=hint))

    def sort(self, stored: str) -> None:
        """Note a tensor by its name, or the reason why the adapter cannot have it."""
        name = self.plain_name(stored).removeprefix(PREFIX)
        if self.is_of_kind(name, stored) or not self.is_weight(stored):
            return
        if self.is_of_module(name, stored) or _OF_TRAINING.search(name):
            return
        plain = _FROZEN.sub(".", name)
        if match := _TOKENS.match(name):
            self.new_rows(match["module"], stored)
        elif match := _SAVED.match(name):
            # PEFT itself loads the tensor without `modules_to_save` in its name, where there is one.
            self.full.setdefault(f"{match['module']}.{match['parameter']}", stored)
        elif match := _ORIGINAL.match(name):
            self.original(f"{match['module']}.{match['parameter']}", stored)
        elif _ODD.search(plain):
            self.note(f"'{stored}' is nothing that a {self.kind_name} adapter is known to have")
        else:
            self.full[plain] = stored

    def is_weight(self, stored: str) -> bool:
        """Say whether a tensor is a weight under PEFT's prefix; note it if it is not."""
        spec = self.source.tensors[stored]
        if not stored.startswith(self.prefix):
            self.note(f"'{stored}' does not begin with '{PREFIX}'", "was it saved with PEFT's save_pretrained?")
            return False
        if spec.dtype not in MERGEABLE:
            self.note(f"'{stored}' holds {spec.dtype}, which is no weight")
            return False
        if spec.elements == 0:
            self.note(f"'{stored}' is empty: shards were not gathered when it was saved")
            return False
        return True

    def is_of_module(self, name: str, stored: str) -> bool:
        """Note a factor, its bias, lengths or diagonal with its module; say whether the tensor is any of these."""
        if match := _LINEAR.match(name):
            word = "" if match["what"] == "weight" else " bias"
            self.part(match["module"], match["side"] + word, stored)
            return True
        if match := _EMBEDDING.match(name):
            self.part(match["module"], "embedding " + match["side"], stored)
            return True
        if match := _MAGNITUDE.match(name):
            self.part(match["module"], "magnitude", stored)
            return True
        match = _DIAGONAL.match(name)
        if match is not None and self.config.has_diagonal:
            self.part(match["module"], "diagonal", stored)
            return True
        return False

    def is_of_kind(self, name: str, stored: str) -> bool:
        """Note a tensor if only another kind than LoRA has it; say whether it was noted."""
        kind = self.config.kind
        if kind is None:
            return False
        outer = name.removeprefix(OUTER)
        if kind.is_shared(outer):
            self.shared[outer] = stored
            return True
        for part in kind.parts | set(kind.ignored):
            if name.endswith(f".{part}") and stored.startswith(self.prefix):
                if part in kind.parts:
                    self.kind_part(name.removesuffix(f".{part}"), part, stored)
                return True
        if kind.whole is None or "trainable_tokens_delta" in name:
            return False
        if f".{kind.whole}." in name:
            self.full[name.replace(f".{kind.whole}.", ".").replace(".base_layer.", ".")] = stored
            return True
        return False

    def kind_part(self, module: str, part: str, stored: str) -> None:
        spec = self.source.tensors[stored]
        if spec.elements == 0:
            self.note(f"'{stored}' is empty: shards were not gathered when it was saved")
        elif spec.dtype not in MERGEABLE and spec.dtype not in INTEGERS:
            self.note(f"'{stored}' holds {spec.dtype}, which is no weight")
        else:
            self.part(module, part, stored)

    def changes(self) -> dict[str, Change]:
        """Return each module's parts and settings, of another kind than LoRA."""
        kind = self.config.kind
        if kind is None:
            return {}
        lacking = next((name for name in kind.shared if name not in self.shared), None)
        if kind.of_module is None and lacking is not None:
            self.note(f"has no '{lacking}', which all modules of a {kind.name} adapter share")
            return {}
        changes = {}
        for module, parts in self.parts.items():
            if not targets(self.config, module):
                self.note(f"holds parts for '{module}', which its config does not target: PEFT would leave them out")
                continue
            shared = self.shared_of(kind, module)
            if shared is None:
                continue
            listed = tuple(sorted({**parts, **shared}.items()))
            settings = tuple(sorted(self.settings_of(kind, module).items()))
            changes[module] = Change(module, kind.name, listed, settings)
        if not changes and self.holds_nothing_else:
            self.note(f"holds nothing of a {kind.name} adapter")
        return changes

    @property
    def holds_nothing_else(self) -> bool:
        """Whether there are no tensors beside those of modules, and no problem explains why."""
        return not (self.full or self.tokens or self.problems)

    def shared_of(self, kind: Kind, module: str) -> dict[str, str] | None:
        """Return the stored names of a module's shared tensors, by part; note a module that lacks any."""
        if kind.of_module is None:
            return self.shared
        own = kind.of_module(module, self.shared)
        parts = {part.partition(".")[0] for part in own}
        lacking = [name for name in kind.shared if name not in parts]
        if lacking:
            hint = "was it saved with save_projection?"
            self.note(f"has no '{lacking[0]}' for '{module}', which modules of a {kind.name} adapter share", hint)
            return None
        return {part: self.shared[name] for part, name in own.items()}

    def settings_of(self, kind: Kind, module: str) -> dict[str, Any]:
        settings = self.config.settings_of(module)
        return settings if kind.of_module is None else {**settings, MODULES: len(self.parts)}

    def plain_name(self, stored: str) -> str:
        """Return the name without that of the adapter, if it is one of a saved state dict."""
        match = _NAMED.search(stored)
        if match is None or match["name"] not in self.adapter_names:
            return stored
        return stored[: match.start()] + f".{match['what']}{match['rest'] or ''}"

    def original(self, name: str, stored: str) -> None:
        """Pass over the frozen weights that a saved module replaces. Alone they would say nothing of the adapter."""
        module, _, parameter = name.rpartition(".")
        saved = (f"{self.prefix}{module}.modules_to_save.{parameter}", self.prefix + name)
        if not any(self.plain_name(other) in saved for other in self.source.tensors):
            self.note(f"'{stored}' is what a saved module replaces, and that module is not there")

    def part(self, module: str, what: str, stored: str) -> None:
        self.parts.setdefault(module, {})[what] = stored

    def new_rows(self, module: str, stored: str) -> None:
        indices = self.tokens_of(module)
        rows = self.source.tensors[stored].shape
        if len(rows) != 2 or rows[0] != len(indices):
            self.note(f"'{stored}' has shape {list(rows)}, and the config names {len(indices)} tokens")
        self.tokens[module] = Tokens(module, indices, stored)

    def tokens_of(self, module: str) -> tuple[int, ...]:
        """Return the tokens that the config names for a module: those of a key without a name are for every module."""
        by_module = self.config.token_indices
        for key, indices in by_module.items():
            if not key or names_one_of(module, [key]):
                return indices
        if len(by_module) == 1:
            # A tied head has the rows of its embedding, under a name that the config does not have.
            return next(iter(by_module.values()))
        return ()

    def factors(self) -> dict[str, Factors]:
        if self.config.kind is not None:
            return {}
        by_module = {}
        for module, parts in self.parts.items():
            if self.repeats_embedding(module, parts):
                continue
            factors = self.factors_of(module, parts)
            if factors is not None:
                by_module[module] = factors
        if not by_module and self.holds_nothing_else:
            self.note("holds no factors and no other tensors")
        return by_module

    def factors_of(self, module: str, parts: Mapping[str, str]) -> Factors | None:
        """Return a module's factors; None with a note where they do not fit each other or the config."""
        embeds = "embedding A" in parts or "embedding B" in parts
        prefix = "embedding " if embeds else ""
        first, second = parts.get(f"{prefix}A"), parts.get(f"{prefix}B")
        if first is None or second is None:
            lacking = "A" if first is None else "B"
            self.note(f"'{module}' has no lora_{lacking}")
            return None
        unwrapped, nested = _unwrapped(module)
        kind = self.factor_kind(unwrapped, embeds=embeds)
        is_targeted = not nested and targets(self.config, module)
        if kind != "parameter" and not is_targeted:
            self.note(f"holds factors for '{module}', which its config does not target: PEFT would leave them out")
            return None
        shapes = [self.source.tensors[name].shape for name in (first, second)]
        kernel = kernel_of(*shapes) if kind == "linear" else ()
        has_matrices = all(len(shape) == 2 for shape in shapes)
        if not kernel and not has_matrices:
            listed = " and ".join(str(list(shape)) for shape in shapes)
            self.note(f"the factors of '{module}' have shapes {listed}: neither of a matrix nor of a convolution")
            return None
        form = self.config.form_of(unwrapped)
        if not self.defines_variant(form, kind, kernel):
            self.note(f"'{module}' is no linear map, for which PEFT defines no such variant of LoRA")
            return None
        shapes = [as_matrix(shape) for shape in shapes]
        if form != PLAIN:
            shapes = [self.plain_shape(form, side, shape) for side, shape in zip("AB", shapes, strict=True)]
        rank, rows = self.config.rank_of(unwrapped), shapes[0][0]
        # The rank of a parameter may be another once its name is known: see `for_parameter`.
        has_rank = kind == "parameter" or rows == rank
        if not has_rank or shapes[1][1] != rows:
            message = f"the factors of '{module}' have shapes {list(shapes[0])} and {list(shapes[1])}, and its rank is"
            self.note(f"{message} {rank} by the config", "r, rank_pattern and the tensors must agree")
            return None
        self.check_extras(module, parts, rank)
        return Factors(
            module,
            kind,
            rank,
            self.config.scale_of(unwrapped),
            first,
            second,
            bias=parts.get("B bias"),
            magnitude=parts.get("magnitude"),
            experts=rows // rank if rows % rank == 0 else 1,
            nested=nested,
            form=form,
            diagonal=parts.get("diagonal"),
            start=None if embeds else self.config.start,
            kernel=kernel,
        )

    def factor_kind(self, unwrapped: str, *, embeds: bool) -> FactorKind:
        if embeds:
            return "embedding"
        return "parameter" if self.is_of_parameters(unwrapped) else "linear"

    def defines_variant(self, form: Form, kind: FactorKind, kernel: tuple[int, ...]) -> bool:
        """Say whether PEFT defines the config's form and start of factors for a module of this kind."""
        if form == PLAIN and self.config.start is None:
            return True
        if kind == "embedding":
            return form == PLAIN and not self.config.has_diagonal
        return kind == "linear" and not kernel

    def check_extras(self, module: str, parts: Mapping[str, str], rank: int) -> None:
        """Note DoRA's lengths, a bias and KaSA's diagonal where config and tensors do not agree on them."""
        magnitude, diagonal = parts.get("magnitude"), parts.get("diagonal")
        if self.config.dora != (magnitude is not None):
            has = "has" if magnitude else "lacks"
            self.note(f"'{module}' {has} a lora_magnitude_vector, and use_dora is {str(self.config.dora).lower()}")
        if "B bias" in parts and not self.config.lora_bias:
            self.note(f"'{module}' has a bias beside lora_B, and lora_bias is false")
        has_diagonal = diagonal is not None and self.source.tensors[diagonal].shape == (rank,)
        if self.config.has_diagonal and not has_diagonal:
            self.note(f"'{module}' has no lora_diag of {rank} numbers, which KaSA puts between B and A")

    def plain_shape(self, form: Form, side: str, stored: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the factor that a stored matrix stands for; note a matrix that is too large."""
        shape = form.shape(side, (stored[0], stored[1]))
        if not form.fits(side, (stored[0], stored[1])) or shape[0] * shape[1] > MOST_NUMBERS:
            self.note(f"a factor {side} of shape {list(stored)} is not of {form.count} blocks and {form.pooled} inputs")
            return stored
        return shape

    def repeats_embedding(self, module: str, parts: Mapping[str, str]) -> bool:
        """Say whether factors are those of an embedding once more: PEFT saves them for a head that it ties to it."""
        if not self.config.ties_weights or targets(self.config, module):
            return False
        if not {"A", "B"} <= set(parts):
            return False
        own = [self.source.tensors[parts[side]].shape for side in "AB"]
        for other in self.parts.values():
            if not {"embedding A", "embedding B"} <= set(other):
                continue
            shapes = [self.source.tensors[other[f"embedding {side}"]].shape for side in "BA"]
            if own == [shape[::-1] for shape in shapes]:
                return True
        return False

    def is_of_parameters(self, module: str) -> bool:
        """Say whether a module is one of whose parameters `target_parameters` names one.

        A name alone, as PEFT writes for adapters that it converted, may be of any module that is not targeted itself.
        """
        owners = [name.rpartition(".")[0] for name in self.config.target_parameters]
        if any(names_one_of(module, [owner]) for owner in owners if owner):
            return True
        return "" in owners and not targets(self.config, module)


def _adapter_names(tensors: Iterable[str]) -> set[str]:
    """Return the names of adapters that stand within the names of tensors: none where PEFT has saved them."""
    names = set()
    for match in filter(None, map(_NAMED.search, tensors)):
        if match["rest"] or match["name"] not in ("weight", "bias"):
            names.add(match["name"])
    return names


def _unwrapped(module: str) -> tuple[str, int]:
    """Return a module's name without the wrappers around it, and how many were around the innermost."""
    parts = module.split(".")
    nested = parts.count("base_layer")
    return ".".join(part for part in parts if part != "base_layer"), nested
