"""A config.json in GGUF's words. Settings that llama.cpp would compute otherwise than transformers are refused by name.

`gguf_config.jsonl` has a line for every key of a config.json that is known, by the types of models that have it:

- `written`: the GGUF key, without the architecture's name, that says it.
- `allowed`: the only values that llama.cpp computes. It reads no key for it.
- `rule`: the function below that decides.
- `free`: it changes nothing that is computed.
- `absent`: the value that transformers takes where the config has no such key. `source`: where llama.cpp has it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cuvee.errors import CheckpointError
from cuvee.foreign.gguf_names import WINDOW_PATTERN, Family
from cuvee.foreign.gguf_rotation import FULL, WINDOW, Rotation, rotation_to_gguf

FLOATS = (
    "attention.layer_norm_rms_epsilon", "attn_logit_softcapping", "final_logit_softcapping", "attention.scale",
    "embedding_scale", "residual_scale", "logit_scale",
)  # fmt: skip
"""Keys whose values GGUF holds as floats; those of rotary embeddings apart, the others are whole numbers."""


@dataclass(frozen=True)
class ConfigKey:
    """A key of config.json, and how GGUF files of some types state it."""

    key: str
    types: tuple[str, ...] | None
    absent: Any
    written: str | None
    allowed: tuple[Any, ...] | None
    rule: str | None
    source: str

    def is_of(self, model_type: str) -> bool:
        return self.types is None or model_type in self.types


@dataclass(frozen=True)
class _Model:
    """A config, with transformers' own values where it has none, and the family and place that errors name."""

    values: Mapping[str, Any]
    known: Family
    where: str

    def refusal(self, key: str, computed: str) -> CheckpointError:
        message = f"config.json: '{key}' is {_shortened(self.values.get(key))}, and llama.cpp computes {computed}"
        hint = f"a GGUF file of the type '{self.known.key}' cannot say it: the export would be another model"
        return CheckpointError(message, where=self.where, hint=hint)

    @property
    def layers(self) -> int:
        return int(self.values["num_hidden_layers"])

    @property
    def window_covers_context(self) -> bool:
        """Whether no token of the model's own context lies outside the window."""
        window = self.values.get("sliding_window")
        if window is None:
            return True
        return type(window) is int and window >= self.values["max_position_embeddings"]


@dataclass(frozen=True)
class GgufSettings:
    """A GGUF file's settings of a model, by whole keys, and the factors of its frequencies if there are any."""

    settings: Mapping[str, Any]
    rotation: Rotation


@cache
def config_keys() -> tuple[ConfigKey, ...]:
    """Return the list of known keys."""
    text = (Path(__file__).parent / "gguf_config.jsonl").read_text(encoding="utf-8")
    return tuple(_config_key(json.loads(line)) for line in text.splitlines())


def _config_key(entry: Mapping[str, Any]) -> ConfigKey:
    types, allowed = entry["types"], entry.get("allowed")
    return ConfigKey(
        key=entry["key"],
        types=None if types == "*" else tuple(types),
        absent=entry.get("absent"),
        written=entry.get("written"),
        allowed=None if allowed is None else tuple(allowed),
        rule=entry.get("rule"),
        source=entry["source"],
    )


def model_settings(config: Mapping[str, Any], known: Family, place: Path) -> GgufSettings:
    """Return GGUF's settings of a model. Raises CheckpointError for settings that GGUF cannot state."""
    keys = {entry.key: entry for entry in config_keys() if entry.is_of(known.model_type)}
    _check_known(config, keys, known, place)
    values = {key: config.get(key, entry.absent) for key, entry in keys.items()}
    values["num_key_value_heads"] = values["num_key_value_heads"] or values["num_attention_heads"]
    model = _Model(values, known, str(place))
    for key in ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads"):
        if type(values[key]) is not int or values[key] < 1:
            raise CheckpointError(f"config.json has no '{key}', which a GGUF file needs", where=str(place))
    values["head_dim"] = values["head_dim"] or values["hidden_size"] // values["num_attention_heads"]
    settings: dict[str, Any] = {}
    for entry in keys.values():
        settings |= _said(entry, model)
    rotation = _rotation(keys, model)
    settings |= rotation.settings
    for key in ("attention.key_length", "attention.value_length", "rope.dimension_count"):
        settings[key] = values["head_dim"]
    return GgufSettings({f"{known.key}.{key}": value for key, value in settings.items()}, rotation)


def _check_known(config: Mapping[str, Any], keys: Mapping[str, ConfigKey], known: Family, place: Path) -> None:
    """Raise CheckpointError for keys that are not in the list: any of them may change what the model computes."""
    unknown = []
    for key, value in config.items():
        is_comment = value is None or key.startswith("_")
        if key not in keys and not is_comment:
            unknown.append(key)
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        message = f"config.json: '{unknown[0]}'{more} is not known for {known.model_type} models"
        hint = "llama.cpp would run the model without it; take it out of config.json if transformers does not read it"
        raise CheckpointError(message, where=str(place), hint=hint)


def _said(entry: ConfigKey, model: _Model) -> dict[str, Any]:
    """Check a value, and return the settings that state it in the file."""
    value = model.values[entry.key]
    if entry.rule is not None:
        return RULES[entry.rule](entry, model)
    if entry.allowed is not None:
        if not any(_is_same(value, allowed) for allowed in entry.allowed):
            raise model.refusal(entry.key, " or ".join(_shortened(allowed) for allowed in entry.allowed))
        return {}
    if entry.written is None:
        return {}
    return {entry.written: _number(entry, value, model)}


def _is_same(value: Any, allowed: Any) -> bool:
    """Compare so that 1 is 1.0 and not True."""
    return bool(value == allowed) and isinstance(value, bool) == isinstance(allowed, bool)


def _number(entry: ConfigKey, value: Any, model: _Model) -> float | int:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or value <= 0:
        raise model.refusal(entry.key, "with a positive number")
    if entry.written in FLOATS:
        return float(value)
    if value != int(value):
        raise model.refusal(entry.key, "with a positive number")
    return int(value)


def _rotation(keys: Mapping[str, ConfigKey], model: _Model) -> Rotation:
    bases = {key: keys[key].absent for key in ("rope_theta", "rope_local_base_freq") if key in keys}
    return rotation_to_gguf(model.values, model.known, bases, model.where)


def _heads_fill_hidden(entry: ConfigKey, model: _Model) -> dict[str, Any]:
    width = model.values["hidden_size"] / model.values["num_attention_heads"]
    if model.values["head_dim"] != width:
        raise model.refusal("head_dim", f"hidden_size / num_attention_heads, {width:g}")
    return {}


def _window_over_context(entry: ConfigKey, model: _Model) -> dict[str, Any]:
    if not model.window_covers_context:
        raise model.refusal("sliding_window", f"over the whole context ({model.values['max_position_embeddings']})")
    return {}


def _window_by_switch(entry: ConfigKey, model: _Model) -> dict[str, Any]:
    values = model.values
    if not values["use_sliding_window"] or model.window_covers_context or values["layer_types"] is not None:
        return {}
    if values.get("max_window_layers", 0) < model.layers:
        raise model.refusal("use_sliding_window", "over the whole context in every layer")
    return {}


def _full_attention(entry: ConfigKey, model: _Model) -> dict[str, Any]:
    types = set(map(str, model.values["layer_types"] or ()))
    allowed = {FULL}
    if model.values.get("sliding_window") is not None and model.window_covers_context:
        allowed.add(WINDOW)
    if types - allowed:
        raise model.refusal("layer_types", f"'{FULL}' in every layer")
    return {}


def _window_layers(entry: ConfigKey, model: _Model) -> dict[str, Any]:
    """Say which layers have a window. A file must have some that do, or a window of 0 if none has."""
    if entry.key != "layer_types":
        return {}
    pattern = window_layers(model.values, model.known)
    if pattern is None or len(pattern) != model.layers:
        raise model.refusal("layer_types", f"'{FULL}' or '{WINDOW}' in each of {model.layers} layers")
    if not any(pattern):
        raise model.refusal("layer_types", f"'{WINDOW}' in at least one layer")
    return {WINDOW_PATTERN: pattern}


def window_layers(values: Mapping[str, Any], known: Family) -> list[bool] | None:
    """Return for each layer whether it has a window; None if the config names other kinds."""
    types = values["layer_types"]
    if types is not None:
        if not all(layer_type in (FULL, WINDOW) for layer_type in types):
            return None
        return [layer_type == WINDOW for layer_type in types]
    period = values.get("sliding_window_pattern", known.window_period)
    if type(period) is not int or period < 1:
        return None
    return [bool((layer + 1) % period) for layer in range(values["num_hidden_layers"])]


def _query_scale(entry: ConfigKey, model: _Model) -> dict[str, Any]:
    values = model.values
    width, computed = values["head_dim"], "head_dim"
    if model.layers == model.known.largest:
        width, computed = values["hidden_size"] // values["num_attention_heads"], "hidden_size / num_attention_heads"
    if values["query_pre_attn_scalar"] != width:
        raise model.refusal("query_pre_attn_scalar", f"with {computed}, {width}")
    return {}


def _optional(entry: ConfigKey, model: _Model) -> dict[str, Any]:
    value = model.values[entry.key]
    if value is None or entry.written is None:
        return {}
    return {entry.written: _number(entry, value, model)}


def _every_fourth_unrotated(entry: ConfigKey, model: _Model) -> dict[str, Any]:
    rotated = model.values["no_rope_layers"]
    if rotated is None and model.values["no_rope_layer_interval"] == 4:
        return {}
    if rotated != [int((layer + 1) % 4 != 0) for layer in range(model.layers)]:
        raise model.refusal(entry.key, "every fourth layer without rotation")
    return {}


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _experts(entry: ConfigKey, model: _Model) -> dict[str, Any]:
    """Say how many experts there are. A config may call them by either key."""
    counts = {model.values.get(key) for key in ("num_experts", "num_local_experts")} - {None}
    if len(counts) > 1 or not all(map(_is_count, counts)):
        raise model.refusal(entry.key, "with one number of experts")
    return {"expert_count": model.known.experts_of(model.values)}


def _elsewhere(entry: ConfigKey, model: _Model) -> dict[str, Any]:
    """Leave the value to others: the rotary embedding is stated by several keys, and ties need the tensors."""
    return {}


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


RULES: Mapping[str, Callable[[ConfigKey, _Model], dict[str, Any]]] = {
    "heads_fill_hidden": _heads_fill_hidden,
    "window_over_context": _window_over_context,
    "window_by_switch": _window_by_switch,
    "full_attention": _full_attention,
    "window_layers": _window_layers,
    "query_scale": _query_scale,
    "optional": _optional,
    "every_fourth_unrotated": _every_fourth_unrotated,
    "experts": _experts,
    "rotation": _elsewhere,
    "tie": _elsewhere,
}
