"""An adapter's folder: its config, and which tensor of its file is what. Numbers are read when they are asked for."""

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cuvee.adapters.config import CONFIG, AdapterConfig, read_config, targets
from cuvee.adapters.factor_forms import PLAIN, Form
from cuvee.adapters.kind import MODULES, Kind
from cuvee.adapters.mlx import WEIGHTS as MLX_WEIGHTS
from cuvee.adapters.mlx import MlxAdapter, mlx_config
from cuvee.adapters.patterns import names_one_of
from cuvee.checkpoint import TensorSource, open_checkpoint
from cuvee.checkpoint.dtypes import MERGEABLE, NUMPY
from cuvee.errors import CheckpointError, CuveeError, first_of_several

WEIGHTS = "adapter_model.safetensors"
OLD_WEIGHTS = "adapter_model.bin"
INDEX = f"{WEIGHTS}.index.json"
"""The index of an adapter in several files, which PEFT itself does not load."""

OUTER = "base_model."
PREFIX = f"{OUTER}model."
MOST_SHOWN = 8
MOST_NUMBERS = 1 << 31
"""Numbers of a factor that is written out."""

INTEGERS: Mapping[str, np.dtype[Any]] = {"I32": np.dtype("<i4"), "I64": np.dtype("<i8")}
"""Types of places in a matrix, by their name in a header."""

CONVOLUTIONS = (3, 4, 5)
"""Numbers of axes that weights of convolutions have."""

PIECE = 1 << 20
"""Numbers of an adapter that are read at once where not all of them are needed."""

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

FactorKind = Literal["linear", "embedding", "parameter"]


@dataclass(frozen=True)
class Factors:
    """One module's factors: W + scale B A, with A [rank, in] and B [out, rank], by the names of the stored tensors.

    Those of an embedding are stored for its transpose; those of a stack of `experts` lie in A and B together. `nested`
    counts the parameters of the same module that were wrapped after this one. `diagonal` are numbers between B and A,
    and `start` names what the training took out of W. Those of a convolution have its `kernel`, the axes of W after its
    outputs: they are one axis of inputs here, as PEFT's B is a convolution of one element.
    """

    module: str
    kind: FactorKind
    rank: int
    scale: float
    first: str
    second: str
    bias: str | None = None
    magnitude: str | None = None
    experts: int = 1
    nested: int = 0
    form: Form = PLAIN
    diagonal: str | None = None
    start: str | None = None
    kernel: tuple[int, ...] = ()


@dataclass(frozen=True)
class Change:
    """What an adapter of another kind than LoRA holds for a module: parts by their stored names, and its settings."""

    module: str
    kind: str
    parts: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Tokens:
    """New rows of an embedding: those of some tokens."""

    module: str
    indices: tuple[int, ...]
    stored: str


class Adapter:
    """An adapter. `full` are tensors that replace the base's, by the base's name for them.

    `factors` are LoRA's by their modules, and `changes` those of another kind.
    """

    def __init__(self, name: str, config: AdapterConfig, source: TensorSource, folder: Path | None = None) -> None:
        self.name = name
        self.config = config
        self.source = source
        self.folder = folder
        reader = _Names(name, config, source)
        self.factors: Mapping[str, Factors] = reader.factors()
        self.changes: Mapping[str, Change] = reader.changes()
        self.full: Mapping[str, str] = reader.full
        self.tokens: Mapping[str, Tokens] = reader.tokens
        if reader.problems:
            raise first_of_several(reader.problems, MOST_SHOWN, name)

    def shape(self, factors: Factors) -> tuple[int, int]:
        """Return the shape of the change as it is stored in a base: [out, in], of an embedding [tokens, width]."""
        first, second = (as_matrix(self.source.tensors[name].shape) for name in (factors.first, factors.second))
        if factors.kind == "embedding":
            return first[1], second[0]
        return second[0], factors.form.shape("A", (first[0], first[1]))[1]

    def pair(self, factors: Factors) -> tuple[np.ndarray, np.ndarray]:
        """Read left [rows, rank] and right [rank, columns], whose product is the change: the scale is in the left."""
        first, second = self.read_matrix(factors.first), self.read_matrix(factors.second)
        if factors.kind == "embedding":
            left, right = first.T, second.T
        else:
            left, right = factors.form.plain("B", second), factors.form.plain("A", first)
        if factors.diagonal is not None:
            left = left * self.read(factors.diagonal)
        return np.ascontiguousarray(left * np.float32(factors.scale)), np.ascontiguousarray(right)

    def expert_pair(self, factors: Factors, expert: int) -> tuple[np.ndarray, np.ndarray]:
        """Read the pair of one expert, without the numbers of the others in memory."""
        rank, (rows, _) = factors.rank, self.source.tensors[factors.second].shape
        right = self.read_rows(factors.first, expert * rank, (expert + 1) * rank)
        left = np.empty((rows, rank), np.float32)
        step = max(1, PIECE // (rank * factors.experts))
        for low in range(0, rows, step):
            piece = self.read_rows(factors.second, low, min(low + step, rows))
            left[low : low + len(piece)] = piece.reshape(len(piece), rank, -1)[:, :, expert]
        return left * np.float32(factors.scale), right

    def expert_pairs(self, factors: Factors) -> list[tuple[np.ndarray, np.ndarray]]:
        """Read the pairs of the experts that lie in one pair of factors: A by expert and rank, B by rank and expert."""
        count, (left, right) = factors.experts, self.pair(factors)
        firsts = right.reshape(count, factors.rank, -1)
        seconds = left.reshape(len(left), factors.rank, count)
        return [(np.ascontiguousarray(seconds[:, :, e]), firsts[e]) for e in range(count)]

    def for_parameter(self, factors: Factors, parameter: str) -> Factors | None:
        """Return the factors as those of one parameter, whose name decides rank and scale; None if they do not fit."""
        rank = self.config.rank_of(parameter)
        held = self.source.tensors[factors.first].shape[0]
        if held % rank:
            return None
        return replace(factors, rank=rank, experts=held // rank, scale=self.config.scale_of(parameter))

    def parts(self, change: Change) -> dict[str, np.ndarray]:
        """Read the parts of a change in float64, places as whole numbers."""
        return {part: self._part(stored) for part, stored in change.parts}

    def _part(self, stored: str) -> np.ndarray:
        spec = self.source.tensors[stored]
        if spec.dtype in MERGEABLE:
            return self.read(stored).astype(np.float64)
        raw = np.empty(spec.nbytes, np.uint8)
        self.source.read_into(stored, 0, [raw])
        return np.asarray(raw.view(INTEGERS[spec.dtype]).reshape(spec.shape))

    def change_shapes(self, change: Change) -> dict[str, tuple[int, ...]]:
        """Return the shapes of a module's own parts, by their names."""
        kind = self.config.kind
        shapes = {part: self.source.tensors[stored].shape for part, stored in change.parts}
        if kind is None:
            return shapes
        return {part: shape for part, shape in shapes.items() if not kind.is_shared(part)}

    def is_set(self, factors: Factors) -> bool:
        """Say whether a module's factors change anything: no B, with its bias and DoRA's lengths, may be zero then."""
        if factors.magnitude is not None or factors.start is not None:
            return True
        stored = [name for name in (factors.second, factors.bias) if name is not None]
        return factors.scale != 0 and any(map(self._has_numbers, stored))

    def _has_numbers(self, name: str) -> bool:
        shape = self.source.tensors[name].shape
        step = max(1, PIECE // max(int(np.prod(shape[1:])), 1))
        lows = range(0, shape[0], step)
        return any(self.read_rows(name, low, min(low + step, shape[0])).any() for low in lows)

    def read(self, name: str) -> np.ndarray:
        """Read a stored tensor as float32."""
        shape = self.source.tensors[name].shape
        if not shape:
            return self.read_rows(name, 0, 1).reshape(())
        return self.read_rows(name, 0, shape[0]).reshape(shape)

    def read_matrix(self, name: str) -> np.ndarray:
        """Read a stored factor as float32, with all axes after the first as one."""
        return self.read_rows(name, 0, self.source.tensors[name].shape[0])

    def read_rows(self, name: str, low: int, high: int) -> np.ndarray:
        """Read rows [low, high) of a stored tensor as float32 [rows, numbers of each]."""
        spec = self.source.tensors[name]
        rows = spec.shape[0] if spec.shape else 1
        size = spec.nbytes // rows
        raw = np.empty((high - low) * size, np.uint8)
        self.source.read_into(name, low * size, [raw])
        numbers = raw.view(NUMPY[spec.dtype]).reshape(high - low, -1).astype(np.float32)
        if not np.isfinite(numbers).all():
            raise CheckpointError(f"'{name}' holds numbers that are not finite", where=self.name)
        return numbers


def open_adapter(folder: Path, name: str | None = None) -> Adapter:
    """Open an adapter's folder by its config and headers. Raises CheckpointError that names what cannot be followed."""
    name = name or str(folder)
    if not folder.is_dir():
        raise CheckpointError("expected the folder of an adapter", where=name)
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"expected {CONFIG}, found none: is this an adapter?", where=name, hint=_inner(folder))
    if is_of_mlx([file.name for file in folder.iterdir()]):
        stored = open_checkpoint(folder / MLX_WEIGHTS)
        return Adapter(name, mlx_config(folder / CONFIG), MlxAdapter(stored, name, PREFIX), folder)
    return Adapter(name, read_config(folder / CONFIG), _open_weights(folder), folder)


def _inner(folder: Path) -> str | None:
    """Say which adapters are in a folder that is none itself, as PEFT saves several of one model."""
    names = sorted(inner.parent.name for inner in folder.glob(f"*/{CONFIG}"))
    return f"name one of the adapters in it: {', '.join(names[:MOST_SHOWN])}" if names else None


def is_of_mlx(files: Collection[str]) -> bool:
    """Say whether a folder with these files holds an adapter as mlx-lm writes it."""
    return MLX_WEIGHTS in files and not {WEIGHTS, OLD_WEIGHTS, INDEX} & set(files)


def _open_weights(folder: Path) -> TensorSource:
    if (folder / WEIGHTS).is_file():
        return open_checkpoint(folder / WEIGHTS)
    if (folder / INDEX).is_file():
        return open_checkpoint(folder)
    if (folder / OLD_WEIGHTS).is_file():
        from cuvee.foreign import open_files

        return open_files(folder / OLD_WEIGHTS)
    raise CheckpointError(f"expected {WEIGHTS}, found none", where=str(folder))


class _Names:
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


def as_matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the shape of a tensor as a matrix, with all axes after the first as one."""
    return shape[0], math.prod(shape[1:])


def kernel_of(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes after the outputs in a convolution's weight, by the shapes of A and B; nothing for others."""
    is_convolution = len(first) in CONVOLUTIONS and len(second) == len(first)
    return first[1:] if is_convolution and set(second[2:]) <= {1} else ()


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
