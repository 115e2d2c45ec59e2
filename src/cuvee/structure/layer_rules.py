"""What a config says of each layer of a stack, by the rules of its family; and how it says so of other layers.

The rules are lines of `layer_rules.json`, each with its source in transformers. A line of a family has `rules`, none if
its layers are all alike, and where needed `blocks` (tensors outside the layers with a block for each layer, and the
axis on which they lie) and `counts` (lists whose length is the number of layers). A rule has

- `list`: the key of a list with an entry for each layer, which goes before the rule; or `fact`: a name for what is
  said;
- `says`: the value for layer `i` of `n`, from keys of the config, `defaults` for those that it lacks;
- `forced`: what the loader makes of a `value` that the list has;
- `needs`: a value without which the loader takes no model;
- `write`: the keys that say the `values` of all layers; or `vary`: the keys whose values are looked for, and of them
  those that are `valid`;
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
    """One rule, as the file has it."""

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
        own = (self.fact,) if self.has_list else ()
        return tuple(dict.fromkeys([*own, *(name for name in names_in(self.says) if name not in ("i", "n"))]))


@dataclass(frozen=True)
class Family:
    """The rules of a family. `is_known` is false for one of which there is no line."""

    is_known: bool
    rules: tuple[Rule, ...] = ()
    blocks: Mapping[str, int] = field(default_factory=dict)
    counts: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class Facts:
    """What is known of each layer: under the fact's name a value for each. `refers` are those that name layers."""

    values: Mapping[str, tuple[Any, ...]]
    refers: frozenset[str]

    def of(self, layer: int) -> dict[str, Any]:
        """Return what is said of one layer, but for what refers to other layers."""
        return {fact: values[layer] for fact, values in self.values.items() if fact not in self.refers}


class UnwritableError(ValueError):
    """No config says of the layers what it should. `fact` is what cannot be said."""

    def __init__(self, fact: str, message: str) -> None:
        super().__init__(message)
        self.fact = fact


def family_of(config: Mapping[str, Any]) -> Family:
    """Return the rules for a config of one stack, by its model type."""
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
    """Say what a config says of each of its layers. Raises ExpressionError if its values do not fit the rules."""
    rules = family_of(config).rules
    values = {key: _entries(config[key], depth) for key in _by_layer(config, depth)}
    for rule in rules:
        values[rule.fact] = tuple(_by_rule(rule, config, values, depth))
    return Facts(values, frozenset(rule.fact for rule in rules if rule.refers))


def rewritten(
    config: Mapping[str, Any], depth: int, wanted: Mapping[str, Sequence[Any]], layers: int
) -> dict[str, Any]:
    """Return the changes after which a config of `depth` layers says of its `layers` layers what is wanted.

    As little is changed as can be. Raises UnwritableError for the first fact that cannot be said.
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
    by_layer = set(_by_layer(config, depth))
    windows = {key for key in config if "window" in key} if "layer_types" in by_layer else set()
    return {
        key: value
        for key, value in config.items()
        if _OF_LAYERS.search(key)
        and not _NOT_OF_LAYERS.search(key)
        and key not in by_layer | windows
        and value not in (None, False, [], {})
        and not isinstance(value, float)
    }


def stale(config: Mapping[str, Any], changes: Mapping[str, Any], layers: int) -> list[str]:
    """List the keys from which a loader that does not know a written list would derive other layers."""
    keys: list[str] = []
    for rule in family_of(config).rules:
        if not (rule.has_list and rule.fact in changes):
            continue
        without = {key: value for key, value in {**config, **changes}.items() if key != rule.fact}
        try:
            derived = facts(without, layers).values[rule.fact]
        except ExpressionError:
            continue  # nothing but the list says it
        if list(map(_word, derived)) != list(map(_word, changes[rule.fact])):
            keys += [key for key in rule.keys if key in without and key not in changes and key != rule.fact]
    return list(dict.fromkeys(keys))


def _by_rule(rule: Rule, config: Mapping[str, Any], others: Mapping[str, Any], depth: int) -> Iterator[Any]:
    """Give what a rule says of each layer; `others` are the facts that it may use."""
    written = config.get(rule.fact) if rule.has_list else None
    listed: list[Any] = written if isinstance(written, list) else []
    if listed and len(listed) < depth:
        raise ExpressionError(f"'{rule.fact}' has {len(listed)} entries for {depth} layers")
    others = {fact: values for fact, values in others.items() if fact != rule.fact}
    names = {**rule.defaults, **config, **others, "n": depth}
    for i in range(depth):
        value = _word(listed[i]) if listed else evaluate(rule.says, {**names, "i": i})
        yield value if rule.forced is None else evaluate(rule.forced, {"value": value, "i": i, "n": depth})


def _written(rule: Rule, config: Mapping[str, Any], wanted: Mapping[str, Sequence[Any]], layers: int) -> dict[str, Any]:
    """Return the changes with which one rule says what is wanted: none, or those of `write`, or the first found."""
    values = wanted[rule.fact]
    if rule.needs is not None and rule.needs not in values:
        raise UnwritableError(rule.fact, f"'{rule.fact}' needs a layer of '{rule.needs}' at the least")
    for changes in _attempts(rule, config, values, layers):
        try:
            said = _by_rule(rule, {**config, **changes}, wanted, layers)
            if all(value == other for value, other in zip(said, values, strict=True)):
                return changes
        except ExpressionError:
            continue
    keys = ", ".join(f"{key}: {config.get(key, rule.defaults.get(key))}" for key in rule.keys if key in config)
    message = f"'{rule.fact}' would have to be {_shown(values)}"
    raise UnwritableError(rule.fact, f"{message}, which {keys or 'the family'} does not give for {layers} layers")


def _attempts(rule: Rule, config: Mapping[str, Any], values: Sequence[Any], layers: int) -> Iterator[dict[str, Any]]:
    if not (rule.has_list and isinstance(config.get(rule.fact), list) and config[rule.fact]):
        yield {}
    if rule.has_list:
        yield {rule.fact: list(values)}
    if rule.write:
        with suppress(ExpressionError):  # such as the first of no layers
            yield {key: evaluate(text, {"values": list(values), "n": layers}) for key, text in rule.write.items()}
    ranges = [range(1 + min(layers, MOST_TRIED))] * len(rule.vary)
    for chosen in itertools.product(*ranges) if rule.vary else ():
        changes = dict(zip(rule.vary, chosen, strict=True))
        if evaluate(rule.valid, changes):
            yield changes


def _by_layer(config: Mapping[str, Any], depth: int) -> list[str]:
    """List the keys whose value is a list with an entry for each layer, or a dictionary with entries of some.

    What the family's rules read or write is theirs alone.
    """
    family = family_of(config)
    theirs = {key for rule in family.rules for key in (*rule.keys, *rule.write, *rule.vary)}
    keys = [key for key in config if key not in theirs and (not family.is_known or "layer" in key)]
    return [key for key in keys if _is_by_layer(key, config[key], depth)]


def _is_by_layer(key: str, value: Any, depth: int) -> bool:
    if key in NOT_BY_LAYER:
        return False
    if isinstance(value, dict):
        return bool(value) and all(number.isdecimal() and int(number) < depth for number in value)
    is_numbers_of_layers = value == list(range(depth))
    return isinstance(value, list) and len(value) == depth and not is_numbers_of_layers


def _entries(value: Any, depth: int) -> tuple[Any, ...]:
    if isinstance(value, dict):
        return tuple(value.get(str(i)) for i in range(depth))
    return tuple(map(_word, value))


def _entries_written(before: Any, wanted: Sequence[Any]) -> Any:
    if isinstance(before, dict):
        return {str(i): value for i, value in enumerate(wanted) if value is not None}
    return list(wanted)


def _word(value: Any) -> Any:
    return SAME.get(value, value) if isinstance(value, str) else value


def _shown(values: Sequence[Any]) -> str:
    """Show values shortly: where they are true, or all of them."""
    if all(isinstance(value, bool) for value in values):
        return f"true of layers {[i for i, value in enumerate(values) if value]} only"
    return str(list(values)) if len(values) <= 12 else f"{str(list(values[:12]))[:-1]}, ...]"


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
