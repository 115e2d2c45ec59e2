"""`adapter_config.json` against a whitelist: what changes the mathematics is understood or refused by its name.

The file comes from strangers, and PEFT would import modules that it names. Here it is data: nothing in it is imported,
executed or opened. A key that is not known is refused unless its value switches it off.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cuvee.adapters.catalogue import kinds
from cuvee.adapters.factor_forms import Blocks, Form
from cuvee.adapters.kind import Kind, is_count, is_number, is_plain, is_text
from cuvee.adapters.patterns import Ends, Patterns, names_one_of, read_pattern
from cuvee.adapters.refused import LOST_STARTS, REFUSED, SWITCHES
from cuvee.documents.shown import shown
from cuvee.errors import CheckpointError, CuveeError, several

CONFIG = "adapter_config.json"
MAX_BYTES = 1_000_000
MAX_RANK = 1 << 20
MAX_SPANS = 1000
MAX_LAYERS = 10_000
_BLOCK_KEYS = ("target_modules_bd_a", "target_modules_bd_b", "nblocks", "match_strict")

LORA_KEYS = (
    "task_type", "peft_version", "inference_mode", "lora_dropout", "qalora_group_size", "loftq_config", "eva_config",
    "runtime_config", "corda_config", "lora_ga_config", "revision", "ensure_weight_tying", "base_model_name_or_path",
    "peft_type", "r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "bias",
    "lora_bias", "target_modules", "exclude_modules", "modules_to_save", "layers_to_transform", "layers_pattern",
    "target_parameters", "trainable_token_indices", "init_lora_weights", "auto_mapping", "megatron_core",
    "use_qalora", "use_bdlora", "kasa_config", "monteclora_config", "velora_config", "layer_replication",
)  # fmt: skip
"""Keys that are read here, or that say nothing about what the finished adapter computes."""

_UNUSED = (
    "loftq_config", "eva_config", "runtime_config", "corda_config", "lora_ga_config", "monteclora_config",
    "velora_config",
)  # fmt: skip
"""Keys of the training: MonteCLoRA (arXiv:2411.04358) and VeLoRA (arXiv:2405.17991) compute W + s B A in the end."""

_ONE_OF = ("use_dora", "use_bdlora", "kasa_config", "monteclora_config", "velora_config", "use_qalora")
"""Switches of variants that PEFT takes one at a time."""

_COMMON = (
    "task_type", "peft_version", "inference_mode", "revision", "base_model_name_or_path", "peft_type", "auto_mapping",
    "target_modules", "exclude_modules", "modules_to_save", "layers_to_transform", "layers_pattern", "bias",
    "fan_in_fan_out", "init_weights",
)  # fmt: skip
"""Keys of every kind besides LoRA, next to its own."""

_PLAIN_STARTS = ("gaussian", "eva", "orthogonal", "mica")
_STARTS = ("pissa", "olora")
"""Initialisations that take a part out of the base which follows from the base alone."""


@dataclass(frozen=True)
class AdapterConfig:
    """What an adapter's config says of its mathematics. Names of modules are those inside the base model.

    `kind` is None for LoRA; the `settings` are those of another kind. `start` names what LoRA takes out of the base,
    and `has_diagonal` says that there are numbers between A and B, as in KaSA.
    `layer_spans` are [first, last) layers of the base, which stand one behind the other in the adapter's.
    """

    where: str
    base: str | None
    task_type: str | None
    rank: int
    alpha: float
    rslora: bool
    dora: bool
    rank_pattern: Patterns[int]
    alpha_pattern: Patterns[float]
    fan_in_fan_out: bool
    bias: str
    lora_bias: bool
    target_modules: tuple[str, ...] | None
    exclude_modules: tuple[str, ...]
    modules_to_save: tuple[str, ...]
    layers: tuple[int, ...]
    layers_pattern: Patterns[bool]
    target_parameters: tuple[str, ...]
    token_indices: Mapping[str, tuple[int, ...]]
    ties_weights: bool
    peft_version: str | None = None
    kind: Kind | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    setting_patterns: Mapping[str, Patterns[float]] = field(default_factory=dict)
    start: str | None = None
    has_diagonal: bool = False
    blocks: Blocks = field(default_factory=Blocks)
    pooled: int = 1
    layer_spans: tuple[tuple[int, int], ...] = ()

    def form_of(self, module: str) -> Form:
        """Return how the factors of a module are stored."""
        side = self.blocks.side(module)
        return Form(side, self.blocks.count if side else 1, self.pooled)

    def settings_of(self, module: str) -> dict[str, Any]:
        """Return what a kind's keys say for one module, where patterns may give it other values."""
        own = dict(self.settings)
        for key, patterns in self.setting_patterns.items():
            own[key] = patterns.value(module, own[key])
        return own

    def rank_of(self, module: str) -> int:
        """Return the rank that the factors of a module, or of a parameter of one, must have."""
        return self.rank_pattern.value(module, self.rank)

    def scale_of(self, module: str) -> float:
        """Return the number by which B A is multiplied: alpha / r, or with rsLoRA alpha / sqrt(r)."""
        rank, alpha = self.rank_of(module), self.alpha_pattern.value(module, self.alpha)
        return alpha / math.sqrt(rank) if self.rslora else alpha / rank


def read_config(path: Path) -> AdapterConfig:
    """Read a config file. Raises CheckpointError that names every key that cannot be followed."""
    return parse_object(read_json(path), str(path))


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a config file. Raises CheckpointError for a file that is too large, or no JSON object."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CheckpointError(f"{CONFIG} is larger than {MAX_BYTES} bytes", where=str(path))
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"cannot read {CONFIG}: {error}", where=str(path)) from error
    return _object(text, str(path))


def parse_config(text: str, where: str) -> AdapterConfig:
    """Read a config from text. Raises CheckpointError that names every key that cannot be followed."""
    return parse_object(_object(text, where), where)


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        data = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"not JSON: {error}", where=where) from error
    if not isinstance(data, dict):
        raise CheckpointError("expected a JSON object", where=where)
    return data


def parse_object(data: Mapping[str, Any], where: str) -> AdapterConfig:
    """Read a config from its JSON object. Raises CheckpointError that names every key that cannot be followed."""
    reader = _Reader(data, where)
    config = reader.config()
    if reader.problems:
        raise several(reader.problems)
    return config


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key appears twice")
    return found


class _Reader:
    """Reads the keys of one config and notes problems instead of stopping at the first."""

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        self.data = data
        self.where = where
        self.problems: list[CuveeError] = []

    def note(self, message: str, hint: str | None = None) -> None:
        self.problems.append(CheckpointError(message, where=self.where, hint=hint))

    def config(self) -> AdapterConfig:
        kind = self.kind()
        if self.problems:
            return self.plain()
        self.check_keys(kind)
        self.check_imports()
        if kind is not None:
            return self.of_kind(kind)
        self.check_variants()
        return self.plain()

    def of_kind(self, kind: Kind) -> AdapterConfig:
        """Read the config of another kind than LoRA."""
        settings, patterns = {}, {}
        for name, key in kind.keys.items():
            settings[name] = self.take(name, key.default, key.fits, key.expected)
            if key.pattern is not None:
                patterns[name] = self.patterns(key.pattern, key.fits, float)
        start = self.take("init_weights", True, _is_start, "true, false or a word")
        # Other kinds than LoRA have words of their own for `bias`.
        of_lora = [key for key in _COMMON if key != "bias"]
        common = _Reader({key: self.data[key] for key in of_lora if key in self.data}, self.where)
        config = common.plain()
        self.problems += common.problems
        if "token_indices" in kind.keys:
            config = replace(config, token_indices=self.token_indices("token_indices"))
        reason = None if self.problems else kind.refusal(settings)
        if reason is not None:
            self.note(f"this {kind.name} adapter cannot be used: {reason}")
        self.take("bias", "none", _is_bias, "a word")
        if "init_weights" in kind.keys:
            settings["init_weights"] = start
        return replace(config, kind=kind, settings=settings, setting_patterns=patterns)

    def plain(self) -> AdapterConfig:
        """Read the keys of LoRA."""
        bias = self.take("bias", "none", lambda v: v in ("none", "all", "lora_only"), "none, all or lora_only")
        return AdapterConfig(
            where=self.where,
            base=self.take("base_model_name_or_path", None, is_text, "a model's name") or None,
            task_type=self.take("task_type", None, is_text, "a kind of task"),
            rank=self.take("r", 8, _is_rank, "a rank of at least 1"),
            alpha=float(self.take("lora_alpha", 8, is_number, "a number")),
            rslora=self.switch("use_rslora"),
            dora=self.switch("use_dora"),
            rank_pattern=self.patterns("rank_pattern", _is_rank, int),
            alpha_pattern=self.patterns("alpha_pattern", is_number, float),
            fan_in_fan_out=self.switch("fan_in_fan_out"),
            bias=bias,
            lora_bias=self.switch("lora_bias"),
            target_modules=self.names_unless_pattern("target_modules"),
            exclude_modules=self.names_unless_pattern("exclude_modules") or (),
            modules_to_save=self.names("modules_to_save"),
            layers=self.layers(),
            layers_pattern=self.layers_pattern(),
            target_parameters=self.names("target_parameters"),
            token_indices=self.token_indices(),
            ties_weights=self.switch("ensure_weight_tying"),
            peft_version=self.take("peft_version", None, is_text, "a version"),
            start=self.start(),
            has_diagonal=bool(self.data.get("kasa_config")),
            blocks=self.blocks(),
            pooled=self.pooled(),
            layer_spans=self.layer_spans(),
        )

    def kind(self) -> Kind | None:
        """Return the kind that the config names, None for LoRA. One that is refused is one problem."""
        name = self.data.get("peft_type")
        if name == "LORA":
            return None
        if not isinstance(name, str):
            self.note("found no peft_type", "expected the config of an adapter as PEFT writes it")
            return None
        if name in REFUSED:
            self.note(f"adapters of the kind {shown(name)} cannot be used: {REFUSED[name]}")
            return None
        found = kinds().get(name)
        if found is None:
            self.note(f"the kind of adapter {shown(name)} is not known", "merge it with PEFT, then use the model")
        return found

    def check_keys(self, kind: Kind | None) -> None:
        """Note keys that are set and not known. A value that switches a key off counts as no value."""
        keys = LORA_KEYS if kind is None else (*_COMMON, *_keys_of(kind))
        unsupported = SWITCHES if kind is None else {}
        for key, value in self.data.items():
            if value in (None, False, [], {}):
                continue
            if key in unsupported:
                self.note(f"{shown(key)} is set: {unsupported[key]}, which is not supported")
            elif key not in keys:
                self.note(f"the key {shown(key)} is not known, and it is set to {shown(value)}")

    def check_imports(self) -> None:
        """Note what PEFT would import."""
        if self.data.get("megatron_core") not in (None, "megatron.core"):
            self.note(f"'megatron_core' names a module to import: {shown(self.data['megatron_core'])}")
        if not _is_plain_mapping(self.data.get("auto_mapping")):
            self.note(f"'auto_mapping' names a module to import: {shown(self.data['auto_mapping'])}")

    def check_variants(self) -> None:
        """Note several variants at once, and settings of the training that are no plain data."""
        for key in _UNUSED:
            self.take(key, None, _are_settings, "plain settings by name")
        self.switch("inference_mode")
        self.take("revision", None, is_text, "a revision")
        self.take("lora_dropout", 0, is_number, "a number")
        self.take("kasa_config", {}, _are_numbers, "numbers of the training")
        chosen = [key for key in _ONE_OF if self.data.get(key)]
        if len(chosen) > 1:
            self.note(f"{' and '.join(chosen)} are set together, whose function PEFT does not define")

    def start(self) -> str | None:
        """Return what the training took out of the base; note an initialisation where nothing tells what it was."""
        start = self.data.get("init_lora_weights", True)
        word = start.lower() if isinstance(start, str) else ""
        takes_weakest = bool(self.data.get("kasa_config"))
        if takes_weakest and word in _STARTS:
            self.note(f"init_lora_weights is {shown(start)} and kasa_config is set, which take from the base in turn")
        is_switch = start is None or isinstance(start, bool)
        if is_switch or word in _PLAIN_STARTS:
            return "kasa" if takes_weakest else None
        if word in _STARTS:
            return word
        lost = next((reason for key, reason in LOST_STARTS.items() if word.startswith(key)), None)
        if lost is None:
            self.note(f"init_lora_weights is {shown(start)}, which is not known")
            return None
        hint = "convert it where it was trained: save_pretrained(..., path_initial_model_for_weight_conversion=...)"
        self.note(f"init_lora_weights is {shown(start)}: {lost}", hint)
        return None

    def blocks(self) -> Blocks:
        """Read which factors are block-diagonal."""
        value = self.take("use_bdlora", {}, _are_blocks, "lists of names and a number of blocks")
        if not value:
            return Blocks()
        of_a, of_b = value.get("target_modules_bd_a"), value.get("target_modules_bd_b")
        return Blocks(tuple(of_a or ()), tuple(of_b or ()), value.get("nblocks", 1))

    def pooled(self) -> int:
        """Read how many inputs share a column of A."""
        size = int(self.take("qalora_group_size", 16, is_count, "a whole number of at least 1"))
        return size if self.switch("use_qalora") else 1

    def layer_spans(self) -> tuple[tuple[int, int], ...]:
        """Read which layers of the base stand one behind the other."""
        value = self.take("layer_replication", [], _are_spans, "pairs of a first layer and the one behind the last")
        return tuple((first, last) for first, last in value)

    def take(self, key: str, default: Any, fits: Callable[[Any], bool], expected: str) -> Any:
        value = self.data.get(key)
        if value is None:
            return default
        if not fits(value):
            self.note(f"'{key}': expected {expected}, found {shown(value)}")
            return default
        return value

    def switch(self, key: str) -> bool:
        return bool(self.take(key, False, lambda value: isinstance(value, bool), "true or false"))

    def names(self, key: str) -> tuple[str, ...]:
        value = self.take(key, [], _are_texts, "a list of names")
        return tuple([value] if isinstance(value, str) else value)

    def names_unless_pattern(self, key: str) -> tuple[str, ...] | None:
        """Read a list of names. A pattern in its place says nothing that the tensors do not say: it is not tried."""
        value = self.take(key, None, _are_texts, "a list of names, or a pattern")
        return tuple(value) if isinstance(value, list) else None

    def pattern(self, key: str, text: str) -> Ends:
        try:
            return read_pattern(text)
        except ValueError as error:
            self.note(f"'{key}': {error}")
            return lambda name, starts: frozenset()

    def patterns(self, key: str, fits: Callable[[Any], bool], kind: Callable[[Any], Any]) -> Patterns[Any]:
        value = self.take(key, {}, lambda v: isinstance(v, dict) and all(map(fits, v.values())), "names with numbers")
        return Patterns(tuple((self.pattern(key, name), kind(number)) for name, number in value.items()))

    def layers(self) -> tuple[int, ...]:
        value = self.take("layers_to_transform", [], _are_layers, "a layer's number, or a list of them")
        return (value,) if isinstance(value, int) else tuple(value)

    def layers_pattern(self) -> Patterns[bool]:
        """Read how the lists are called in which layers have their numbers."""
        lists = self.names("layers_pattern")
        return Patterns(tuple((self.pattern("layers_pattern", name), True) for name in lists))

    def token_indices(self, key: str = "trainable_token_indices") -> Mapping[str, tuple[int, ...]]:
        value = self.take(key, {}, _are_token_indices, "numbers of tokens, by module or alone")
        listed = {"": value} if isinstance(value, list) else value
        return {module: tuple(indices) for module, indices in listed.items()}


def _keys_of(kind: Kind) -> tuple[str, ...]:
    return (*kind.keys, *(key.pattern for key in kind.keys.values() if key.pattern is not None))


def targets(config: AdapterConfig, module: str) -> bool:
    """Say whether a config targets a module, as PEFT does. Where it has patterns for names, it is taken to."""
    if names_one_of(module, config.exclude_modules):
        return False
    if config.target_modules is None:
        return True
    if not names_one_of(module, config.target_modules):
        return False
    return not config.layers or _layer(module, config.layers_pattern) in config.layers


def _layer(module: str, lists: Patterns[bool]) -> int | None:
    """Return the number of the layer that a module is in: the first after a list's name, or after any two names."""
    words = module.split(".")
    for i, word in enumerate(words[1:-1], start=1):
        list_name = ".".join(words[:i])
        is_list = lists.value(list_name, False) if lists.entries else i > 1
        if word.isdecimal() and is_list:
            return int(word)
    return None


def _is_plain_mapping(value: Any) -> bool:
    """Say whether `auto_mapping` is what PEFT writes for a model of transformers: it is not used here at all."""
    if value is None:
        return True
    if not isinstance(value, dict) or set(value) - {"base_model_class", "parent_library", "unsloth_fixed"}:
        return False
    library, name = value.get("parent_library"), value.get("base_model_class")
    if not isinstance(library, str) or not isinstance(name, str):
        return False
    is_transformers = library.startswith("transformers.models.") and name.isidentifier()
    return is_transformers and isinstance(value.get("unsloth_fixed", True), bool)


def _is_start(value: Any) -> bool:
    return isinstance(value, bool) or is_text(value)


def _is_bias(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    return value in ("none", "all") or value.endswith("_only")


def _are_settings(value: Any) -> bool:
    if not isinstance(value, dict) or not all(map(is_text, value)):
        return False
    return all(map(_is_flat_or_none, value.values()))


def _is_flat_or_none(value: Any) -> bool:
    if value is None:
        return True
    return is_plain(value) and not isinstance(value, dict | list)


def _are_numbers(value: Any) -> bool:
    if not isinstance(value, dict) or not all(map(is_text, value)):
        return False
    return all(map(is_number, value.values()))


def _are_blocks(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) - set(_BLOCK_KEYS):
        return False
    is_counted = is_count(value.get("nblocks", 1))
    is_switched = isinstance(value.get("match_strict", True), bool)
    are_names = all(_are_names_or_none(value.get(key)) for key in _BLOCK_KEYS[:2])
    return is_counted and is_switched and are_names


def _are_names_or_none(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, list) and all(map(is_text, value))


def _are_spans(value: Any) -> bool:
    if not isinstance(value, list) or len(value) > MAX_SPANS:
        return False
    return all(map(_is_span, value))


def _is_span(value: Any) -> bool:
    if not isinstance(value, list) or [type(layer) for layer in value] != [int, int]:
        return False
    return bool(0 <= value[0] < value[1] <= MAX_LAYERS)


def _are_texts(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(is_text, value))
    return is_text(value)


def _is_rank(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MAX_RANK


def _are_layers(value: Any) -> bool:
    if isinstance(value, list):
        return all(type(layer) is int for layer in value)
    return type(value) is int


def _are_token_indices(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_are_tokens, value.values()))
    return _are_tokens(value)


def _are_tokens(value: Any) -> bool:
    if not isinstance(value, list) or not all(map(_is_token, value)):
        return False
    return len(set(value)) == len(value)


def _is_token(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 31
