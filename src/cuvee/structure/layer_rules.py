"""The facts that a config states of each layer of a stack, by the rules of its family, and how to state others.

The rules are lines of `layer_rules.json`, each with its source in transformers. A line of a family has `rules`, none if
its layers are all alike, and where needed `blocks` (tensors outside the layers with a block for each layer, and the
axis on which they lie) and `counts` (lists whose length is the number of layers). A rule has

- `list`: the key of a list with an entry for each layer, which goes before the rule; or `fact`: the fact's name;
- `says`: the value for layer `i` of `n`, from keys of the config, `defaults` for those that it lacks;
- `forced`: the value that the loader puts in place of a `value` of the list;
- `needs`: a value without which the loader takes no model;
- `write`: the keys that say the `values` of all layers; or `vary`: the keys of which numbers are tried, as far as
  they are `valid`;
- `refers`: the values are themselves numbers of layers.

Besides, a list as long as the stack has an entry for each layer, and a dictionary of numbers some of them; in a known
family only where its key speaks of layers.
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from cuvee.structure.expression import ExpressionError, evaluate, names_in

DEPTH_KEYS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
"""Where a config.json may have its layer count."""

NOT_BY_LAYER = ("architectures", "bos_token_id", "eos_token_id", "id2label", "pad_token_id", "time_step_limit")
"""Lists and dictionaries in a config.json that say nothing of layers, even where they are as long as the stack."""

SAME = {
    "mamba": "linear_attention",
    "attention": "full_attention",
    "deepseek_sparse_attention": "indexed_attention",
}
"""Older words for kinds of layers, as transformers replaces them (configuration_utils.py, _LEGACY_LAYER_TYPE_REMAP)."""

MOST_SHOWN = 12
"""Values in a message."""

MOST_TRIED = 256
"""The largest period or offset that is looked for."""

_OF_LAYERS = re.compile(
    r"layer|period|interval|offset|every|pattern|freq|sparse_step|first_k|block_type|idx|indices|indexes|window|shared"
)
_NOT_OF_LAYERS = re.compile(
    r"layer_?norm|layer_?drop|layer_?scale|dropout|hidden_layers$|^n_layers?$|num_layers$|max_window|eps|use_|initializer"
)


@dataclass(frozen=True)
class Rule:
    """A rule, as the file has it."""

    fact: str
    says: str
    has_list: bool
    forced: str | None = None
    needs: str | None = None
    write: Mapping[str, str] = field(default_factory=dict)
    vary: tuple[str, ...] = ()
    valid: str = "True"
    defaults: Mapping[str, Any] = field(default_factory=dict)
    refers: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of a config that the rule reads."""
        keys = [self.fact] if self.has_list else []
        keys += [name for name in names_in(self.says) if name not in ("i", "n")]
        return tuple(dict.fromkeys(keys))


@dataclass(frozen=True)
class Family:
    """The rules of a family. `is_known` is false for a family that has no line."""

    is_known: bool
    rules: tuple[Rule, ...] = ()
    blocks: Mapping[str, int] = field(default_factory=dict)
    counts: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class Facts:
    """Facts of layers: under each fact's name a value for each layer. `refers` are the facts that name layers."""

    values: Mapping[str, tuple[Any, ...]]
    refers: frozenset[str]

    def of(self, layer: int) -> dict[str, Any]:
        """Return the facts of a layer, but for those that refer to other layers."""
        own = [fact for fact in self.values if fact not in self.refers]
        return {fact: self.values[fact][layer] for fact in own}


class UnwritableError(ValueError):
    """No config of a family states the wanted layers. `fact` is the first fact that cannot be stated."""

    def __init__(self, fact: str, message: str) -> None:
        super().__init__(message)
        self.fact = fact


def family_of(config: Mapping[str, Any]) -> Family:
    """Return the rules for a config of a single stack, by its model type."""
    return families().get(str(config.get("model_type")), Family(False))


def depth_said(config: Mapping[str, Any]) -> int | None:
    """Return how many layers a config says that there are; None if it does not."""
    for key in DEPTH_KEYS:
        if type(config.get(key)) is int:
            return int(config[key])
    for key in family_of(config).counts:
        if isinstance(config.get(key), list | str):
            return len(config[key])
    return None


def facts(config: Mapping[str, Any], depth: int) -> Facts:
    """Read the facts of each layer from a config. Raises ExpressionError if its values do not fit the rules."""
    values = {key: _entries(config[key], depth) for key in _by_layer(config, depth)}
    refers = set()
    for rule in family_of(config).rules:
        values[rule.fact] = tuple(_by_rule(rule, config, values, depth))
        if rule.refers:
            refers.add(rule.fact)
    return Facts(values, frozenset(refers))


def rewritten(
    config: Mapping[str, Any], depth: int, wanted: Mapping[str, Sequence[Any]], layers: int
) -> dict[str, Any]:
    """Return the changes after which a config of `depth` layers states the `wanted` facts of `layers` layers.

    They change as few keys as can be. Raises UnwritableError for the first fact that cannot be stated.
    """
    changes: dict[str, Any] = {key: layers for key in DEPTH_KEYS if config.get(key) == depth}
    for key in _by_layer(config, depth):
        changes[key] = _entries_written(config[key], wanted[key])
    for rule in family_of(config).rules:
        if not rule.refers:
            changes |= _written(rule, {**config, **changes}, wanted, layers)
    return changes


def unexplained(config: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """Return the keys of a family without rules that seem to say something of layers, with their values."""
    explained = set(_by_layer(config, depth))
    if "layer_types" in explained:
        explained |= {key for key in config if "window" in key}
    seeming = {}
    for key, value in config.items():
        if key not in explained and _seems_of_layers(key, value):
            seeming[key] = value
    return seeming


def _seems_of_layers(key: str, value: Any) -> bool:
    if not _OF_LAYERS.search(key) or _NOT_OF_LAYERS.search(key):
        return False
    is_empty = value in (None, False, [], {})
    return not is_empty and not isinstance(value, float)


def stale(config: Mapping[str, Any], changes: Mapping[str, Any], layers: int) -> list[str]:
    """List the keys from which a loader that does not know a written list would derive other layers."""
    read: dict[str, None] = {}
    for rule in family_of(config).rules:
        is_written = rule.has_list and rule.fact in changes
        if is_written and _is_misread(rule, config, changes, layers):
            read |= dict.fromkeys(rule.keys)
    unchanged = config.keys() - changes.keys()
    return [key for key in read if key in unchanged]


def _is_misread(rule: Rule, config: Mapping[str, Any], changes: Mapping[str, Any], layers: int) -> bool:
    """Say whether the other keys of a rule give other layers than its written list."""
    without_list = {**config, **changes}
    written = without_list.pop(rule.fact)
    try:
        derived = facts(without_list, layers).values[rule.fact]
    except ExpressionError:
        return False  # only the list states them
    return list(map(_word, derived)) != list(map(_word, written))


def _by_rule(rule: Rule, config: Mapping[str, Any], others: Mapping[str, Any], depth: int) -> Iterator[Any]:
    """Yield the value of a rule's fact for each layer; `others` are the facts that the rule may use."""
    entries = _listed(rule, config)
    if entries and len(entries) < depth:
        raise ExpressionError(f"'{rule.fact}' has {len(entries)} entries for {depth} layers")
    others = {fact: values for fact, values in others.items() if fact != rule.fact}
    names = {**rule.defaults, **config, **others, "n": depth}
    for i in range(depth):
        value = _word(entries[i]) if entries else evaluate(rule.says, {**names, "i": i})
        if rule.forced is not None:
            value = evaluate(rule.forced, {"value": value, "i": i, "n": depth})
        yield value


def _listed(rule: Rule, config: Mapping[str, Any]) -> list[Any]:
    """Return the entries that a config lists for a rule, none where it has no such list."""
    entries = config.get(rule.fact) if rule.has_list else None
    return entries if isinstance(entries, list) else []


def _written(rule: Rule, config: Mapping[str, Any], wanted: Mapping[str, Sequence[Any]], layers: int) -> dict[str, Any]:
    """Return the first changes with which a rule states the wanted fact: none, or those of `write` or `vary`."""
    values = wanted[rule.fact]
    if rule.needs is not None and rule.needs not in values:
        raise UnwritableError(rule.fact, f"'{rule.fact}' needs a layer of '{rule.needs}' at the least")
    for changes in _attempts(rule, config, values, layers):
        if _states(rule, {**config, **changes}, wanted, layers):
            return changes
    stated = []
    for key in rule.keys:
        if key in config:
            stated.append(f"{key}: {config[key]}")
    keys = ", ".join(stated) or "the family"
    message = f"'{rule.fact}' would have to be {_shown(values)}"
    raise UnwritableError(rule.fact, f"{message}, which {keys} does not give for {layers} layers")


def _states(rule: Rule, config: Mapping[str, Any], wanted: Mapping[str, Sequence[Any]], layers: int) -> bool:
    """Say whether a rule reads the wanted fact from a config."""
    values = _by_rule(rule, config, wanted, layers)
    try:
        return all(value == other for value, other in zip(values, wanted[rule.fact], strict=True))
    except ExpressionError:
        return False


def _attempts(rule: Rule, config: Mapping[str, Any], values: Sequence[Any], layers: int) -> Iterator[dict[str, Any]]:
    """Yield changes that may state the values, the smallest first."""
    if not _listed(rule, config):
        yield {}
    if rule.has_list:
        yield {rule.fact: list(values)}
    if rule.write:
        names = {"values": list(values), "n": layers}
        with suppress(ExpressionError):  # such as the first of no layers
            yield {key: evaluate(text, names) for key, text in rule.write.items()}
    if rule.vary:
        numbers = range(1 + min(layers, MOST_TRIED))
        for combination in itertools.product(numbers, repeat=len(rule.vary)):
            changes = dict(zip(rule.vary, combination, strict=True))
            if evaluate(rule.valid, changes):
                yield changes


def _by_layer(config: Mapping[str, Any], depth: int) -> list[str]:
    """List the keys whose value is a list with an entry for each layer, or a dictionary with entries of some.

    Keys that the family's rules read or write are left to the rules; of a known family's other keys, only those count
    that speak of layers.
    """
    family = family_of(config)
    of_rules: set[str] = set()
    for rule in family.rules:
        of_rules |= {*rule.keys, *rule.write, *rule.vary}
    keys = []
    for key, value in config.items():
        speaks_of_layers = "layer" in key or not family.is_known
        if key in of_rules or not speaks_of_layers:
            continue
        if _is_by_layer(key, value, depth):
            keys.append(key)
    return keys


def _is_by_layer(key: str, value: Any, depth: int) -> bool:
    if key in NOT_BY_LAYER or not value:
        return False
    if isinstance(value, dict):
        layers = set(map(str, range(depth)))
        return layers.issuperset(value)
    if not isinstance(value, list) or len(value) != depth:
        return False
    return value != list(range(depth))


def _entries(value: Any, depth: int) -> tuple[Any, ...]:
    if isinstance(value, dict):
        return tuple(value.get(str(i)) for i in range(depth))
    return tuple(map(_word, value))


def _entries_written(before: Any, wanted: Sequence[Any]) -> Any:
    if not isinstance(before, dict):
        return list(wanted)
    return {str(i): value for i, value in enumerate(wanted) if value is not None}


def _word(value: Any) -> Any:
    return SAME.get(value, value) if isinstance(value, str) else value


def _shown(values: Sequence[Any]) -> str:
    """Show values shortly: where they are true, or the first of them."""
    if all(isinstance(value, bool) for value in values):
        layers = [i for i, value in enumerate(values) if value]
        return f"true of layers {layers} only"
    if len(values) <= MOST_SHOWN:
        return str(list(values))
    shown = str(list(values[:MOST_SHOWN])).removesuffix("]")
    return f"{shown}, ...]"


@cache
def families() -> Mapping[str, Family]:
    """Return the rules of all families, by model type."""
    lines = json.loads((Path(__file__).parent / "layer_rules.json").read_text(encoding="utf-8"))
    return {name: _family(line) for name, line in lines.items()}


def _family(line: Mapping[str, Any]) -> Family:
    rules = tuple(_rule(written) for written in line["rules"])
    return Family(True, rules, line.get("blocks", {}), tuple(line.get("counts", ())), line["source"])


def _rule(written: Mapping[str, Any]) -> Rule:
    return Rule(
        fact=written.get("list") or written["fact"],
        says=written["says"],
        has_list="list" in written,
        forced=written.get("forced"),
        needs=written.get("needs"),
        write=written.get("write", {}),
        vary=tuple(written.get("vary", ())),
        valid=written.get("valid", "True"),
        defaults=written.get("defaults", {}),
        refers=written.get("refers", False),
    )
