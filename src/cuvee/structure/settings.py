"""Settings of two config.json that make models compute otherwise, though their tensors have the same shapes.

A setting that a config leaves out is the default of its family's config class: `config_defaults.json` has them, a line
for each model type, written by `tools/config_defaults.py`. Of other families only settings that both configs state are
compared.
"""

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from cuvee.structure.config import text_part
from cuvee.structure.expression import ExpressionError
from cuvee.structure.labels import KEYS as LABELS
from cuvee.structure.layer_rules import DEPTH_KEYS, depth_said, facts, family_of
from cuvee.structure.rope import KEYS as ROPE
from cuvee.structure.rope import rope_settings, spread

DEFAULTS = "config_defaults.json"
NOT_STATED = "not stated"
"""In place of a value that a config leaves out, where the family's default is not known."""

DERIVED = ("num_key_value_heads", "num_kv_heads", "head_dim")
"""Settings that follow from others where they are left out; `_derived` says how, if it knows those others."""

LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "model_max_length", "seq_length")
"""How long a text the model is meant for; where that decides anything, `rope_settings` has it."""

_SIZES = (
    "vocab_size", "padded_vocab_size", "hidden_size", "d_model", "n_embd", "embed_dim", "intermediate_size", "d_ff",
    "moe_intermediate_size", "type_vocab_size", "num_experts", "num_local_experts", "n_routed_experts", "num_channels",
    "encoder_layers", "decoder_layers", "encoder_ffn_dim", "decoder_ffn_dim", "ffn_dim", "kv_lora_rank", "q_lora_rank",
    "tie_word_embeddings",
)  # fmt: skip
"""The shapes of tensors say these, or the names of tensors that are there."""

_GENERATION = (
    "bad_words_ids", "begin_suppress_tokens", "diversity_penalty", "do_sample", "early_stopping",
    "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty", "forced_decoder_ids", "length_penalty",
    "max_length", "min_length", "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences",
    "remove_invalid_values", "repetition_penalty", "suppress_tokens", "temperature", "top_k", "top_p", "typical_p",
)  # fmt: skip
"""How texts are drawn: older configs have what generation_config.json has now."""

_IDLE = re.compile(
    # names, dates, versions
    r"^_|name_or_path|(^|_)path$|version|^(architectures|auto_map|model_type|custom_pipelines|prefix|license)$"
    r"|(^|_)(date|timestamp)(_|$)|(tokenizer|processor)_class|finetuning_task|task_specific_params|adapters$|^is_encoder_decoder$"
    # types of numbers, and how they are computed
    r"|dtype|bfloat16|fp16|fp32|bf16|upcast|attn_impl|flash|use_cache|chunk_size_feed_forward|torchscript|_kernels$"
    r"|^(output_(attentions|hidden_states|router_logits|scores|past)|(use_)?return_dict\w*|num_logits_to_keep)$"
    r"|pretraining_tp|tensor_parallel|^ep_size$|(quantization|compression|generation)_config|^pruned_heads$"
    # numbers of tokens
    r"|token_ids?$|token_index$|^(pad|bos|eos|sep|unk|cls|mask)_index$|_token$"
    # training
    r"|dropout|layer_?drop|drop_?path|drop_rate|pdrop$|drop_prob|initiali[sz]er|(^|_)init(_|$)|loss|^aux|_aux(_|$)"
    r"|gradient|label_smoothing|jitter|_cost$|spec_augment|^mask_(time|feature)_|^ctc_|denoising|_noise_|freeze"
    r"|eos_coefficient|focal_alpha|(class|mask|dice|bbox|giou|object)_weight$|(time_step|mamba_dt)_(min|max|floor)$"
    r"|rescale_prenorm_residual|^train_|_train(ing)?$"
    # shapes of tensors, and how many there are
    r"|(hidden|ffn|embed|embedding|proj|projection|output|inner)\w*_(size|dim)s?$|_rank$"
    r"|^num_(encoder|decoder|hidden)_layers$"
)
"""Keys that do not change the computation."""

_IDLE_KEYS = frozenset((*_SIZES, *_GENERATION, *DEPTH_KEYS, *LABELS))

_WINDOW = re.compile(r"(^|_)(sliding|attention|local)_?window|^window(_size)?$|^local_attention$")
_SEEN_THROUGH = re.compile("sliding|local|window")
"""Kinds of layers that have a window."""

_ACTIVATIONS = {
    "swish": "silu",
    "gelu_new": "tanh form of gelu",
    "gelu_fast": "tanh form of gelu",
    "gelu_pytorch_tanh": "tanh form of gelu",
    "gelu_python": "gelu",
}
"""Names of one and the same function (transformers' activations.py)."""

_CLOSE = 1e-6
"""Two numbers that differ by less are the same: some files have an eps in 32 bits."""


@dataclass(frozen=True)
class Difference:
    """A setting with two values. `changes`: the models compute otherwise because of it, as far as is known."""

    key: str
    own: Any
    theirs: Any
    changes: bool = True


@dataclass(frozen=True)
class _Family:
    """The defaults of a model type, the model types of its parts, and other names of settings."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Part:
    """A part of a config: the settings that its family reads, the settings of layers, and other keys `besides`.

    `unused` are settings of no effect, `derived` the values of some that are left out. `is_whole`: `settings` has all
    settings of the family, so that a missing setting is none.
    """

    settings: Mapping[str, Any]
    rope: Mapping[str, Any]
    layers: Mapping[str, tuple[Any, ...]]
    besides: Mapping[str, Any]
    unused: frozenset[str]
    derived: Mapping[str, Any]
    is_whole: bool


def decides(key: str) -> bool:
    """Say whether a key of a config can change the computation."""
    return _IDLE.search(key) is None and key not in _IDLE_KEYS


def differences(own: Mapping[str, Any], theirs: Mapping[str, Any], *, layers: bool = True) -> list[Difference]:
    """List the settings in which two models' configs differ, part by part; `layers` are the kinds of layers among them.

    Where only one config has its language model in a part, that part is compared with the whole of the other.
    """
    return list(_differences(own, theirs, "", "", layers))


def _differences(
    own: Mapping[str, Any], theirs: Mapping[str, Any], path: str, model_type: str, layers: bool
) -> Iterator[Difference]:
    """Yield the differences of two configs at a path; `model_type` is theirs where they state none."""
    own_key, their_key = text_part(own), text_part(theirs)
    if own_key is not None and their_key is None:
        text_type = _type_of_text(own, own_key)
        yield from _in_part(own[own_key], theirs, f"{path}{own_key}.", text_type, text_type, layers)
        return
    if their_key is not None and own_key is None:
        text_type = _type_of_text(theirs, their_key)
        yield from _in_part(own, theirs[their_key], f"{path}{their_key}.", text_type, text_type, layers)
        return
    own_type = str(own.get("model_type") or model_type)
    their_type = str(theirs.get("model_type") or model_type)
    are_stated = own_type and their_type
    if are_stated and own_type != their_type:
        yield Difference(f"{path}model_type", own_type, their_type)
    yield from _in_part(own, theirs, path, own_type, their_type, layers)
    for key in own:
        if _is_part(key, own[key]) and _is_part(key, theirs.get(key)):
            inner_type = _family(own_type).parts.get(key, "")
            yield from _differences(own[key], theirs[key], f"{path}{key}.", inner_type, layers)


def _type_of_text(config: Mapping[str, Any], key: str) -> str:
    """Return the model type of the language model in a config's part: as stated, or as its family has it."""
    usual = _family(str(config.get("model_type", ""))).parts.get(key, "")
    return str(config[key].get("model_type") or usual)


def _in_part(
    own: Mapping[str, Any], theirs: Mapping[str, Any], path: str, own_type: str, their_type: str, layers: bool
) -> Iterator[Difference]:
    first, second = _part(own, own_type), _part(theirs, their_type)
    unlike = [*_in_settings(first, second), *_in_besides(first, second)]
    if layers:
        unlike += _in_layers(first, second)
    for difference in unlike:
        yield replace(difference, key=path + difference.key)


def _in_settings(first: _Part, second: _Part) -> Iterator[Difference]:
    own_settings = {**first.settings, **spread(first.rope, second.rope)}
    their_settings = {**second.settings, **spread(second.rope, first.rope)}
    for key in dict.fromkeys([*own_settings, *their_settings]):
        are_unset = own_settings.get(key) is None and their_settings.get(key) is None
        if key in DERIVED and are_unset:
            continue  # both follow from the heads, which are compared
        own = _value(key, own_settings, first)
        theirs = _value(key, their_settings, second)
        if _same(own, theirs) or key in first.unused | second.unused:
            continue
        if NOT_STATED not in (own, theirs):
            yield Difference(key, own, theirs, changes=key not in LENGTHS)
        elif _is_telling(key, own, theirs):
            yield Difference(key, own, theirs, changes=False)


def _is_telling(key: str, own: Any, theirs: Any) -> bool:
    """Say whether a difference to a value that is not stated is worth a word: the other value is not "none"."""
    if key in DERIVED:
        return False
    return _plain(own) is not None and _plain(theirs) is not None


def _value(key: str, settings: Mapping[str, Any], part: _Part) -> Any:
    """Return the value of a setting in a part: stated, usual, or derived from others."""
    value = settings.get(key, part.besides.get(key))
    if value is not None:
        return value
    if key in DERIVED:
        return part.derived.get(key, NOT_STATED)
    is_none = part.is_whole or key in settings
    return None if is_none else NOT_STATED


def _in_besides(first: _Part, second: _Part) -> Iterator[Difference]:
    for key, own in first.besides.items():
        if key in second.besides and not _same(own, second.besides[key]):
            yield Difference(key, own, second.besides[key], changes=key in DERIVED)


def _in_layers(first: _Part, second: _Part) -> Iterator[Difference]:
    for key, own in first.layers.items():
        if key in second.layers:
            yield from _in_kinds(key, own, second.layers[key])
        elif _are_unlike(own):
            yield Difference(key, own, NOT_STATED, changes=False)
    for key, theirs in second.layers.items():
        if key not in first.layers and _are_unlike(theirs):
            yield Difference(key, NOT_STATED, theirs, changes=False)


def _are_unlike(values: tuple[Any, ...]) -> bool:
    return len(set(map(str, values))) > 1


def _in_kinds(key: str, own: tuple[Any, ...], theirs: tuple[Any, ...]) -> Iterator[Difference]:
    """Yield the first layer for which two configs say otherwise; stacks of other depths are not compared."""
    if len(own) != len(theirs):
        return
    unlike = [layer for layer in range(len(own)) if not _same(own[layer], theirs[layer])]
    if not unlike:
        return
    first = unlike[0]
    layers = f"{key} of layer {first}"
    if len(unlike) > 1:
        layers += f" and {len(unlike) - 1} more"
    yield Difference(layers, own[first], theirs[first])


def _part(config: Mapping[str, Any], model_type: str) -> _Part:
    """Read a part of a config, with the defaults of its family."""
    family = _family(model_type)
    is_whole = model_type in _families() and "auto_map" not in config
    stated = {}
    for key, value in config.items():
        if not _is_part(key, value):
            stated[family.names.get(key, key)] = value
    facts_of_layers = _layers({**config, "model_type": model_type})
    idle = {*ROPE, *_spoken_for(model_type, facts_of_layers)}

    settings = {key: value for key, value in family.settings.items() if value is not None}
    besides = {}
    for key, value in stated.items():
        # Code of the model's own may read any key; transformers' class reads the keys of its family.
        if key in family.settings or not is_whole:
            settings[key] = value
        else:
            besides[key] = value
        if not decides(key):
            idle.add(key)
    settings = _without(settings, idle)
    layers = {}
    for key, values in facts_of_layers.items():
        if _is_of_layers(key, config, family if is_whole else None):
            layers[key] = values
    return _Part(
        settings=settings,
        rope=_rope(config, family, is_whole),
        layers=layers,
        besides=_without(besides, idle),
        unused=frozenset(_without_use(settings, layers)),
        derived=_derived(settings, config),
        is_whole=is_whole,
    )


def _rope(config: Mapping[str, Any], family: _Family, is_whole: bool) -> dict[str, Any]:
    """Return the settings of rotary positions; none for a family that is known to have no such positions."""
    usual = family.settings.get("rope_parameters") or {}
    if is_whole and not usual:
        return {}
    return rope_settings(config, usual)


def _without(settings: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in keys}


def _is_of_layers(key: str, config: Mapping[str, Any], family: _Family | None) -> bool:
    """Say whether a fact of layers counts: a list does only if the family, if it is known, reads it."""
    if key not in config:
        return True
    is_read = family is None or family.names.get(key, key) in family.settings
    return decides(key) and is_read


def _layers(config: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Return the facts of layers that a config states; none where it does not say how many layers there are."""
    depth = depth_said(config)
    if depth is None:
        return {}
    try:
        return dict(facts(config, depth).values)
    except ExpressionError:
        return {}


def _spoken_for(model_type: str, layers: Mapping[str, Any]) -> set[str]:
    """Return the keys from which the kinds of layers follow, which are compared in their place."""
    if not layers:
        return set()
    rules = family_of({"model_type": model_type}).rules
    keys = {*layers}
    for rule in rules:
        keys |= {*rule.keys, *rule.write, *rule.vary}
    return {key for key in keys if not _is_window(key)} | {"layer_types"}


def _derived(settings: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, int]:
    """Return the values of settings that follow from others where they are left out."""
    heads, width = settings.get("num_attention_heads"), config.get("hidden_size")
    if not isinstance(heads, int) or not heads:
        return {}
    derived = {"num_key_value_heads": heads, "num_kv_heads": heads}
    if isinstance(width, int):
        derived["head_dim"] = width // heads
    return derived


def _without_use(settings: Mapping[str, Any], layers: Mapping[str, tuple[Any, ...]]) -> list[str]:
    """List the sizes of windows that no layer looks through."""
    layer_types = " ".join(map(str, layers.get("layer_types", ())))
    has_windows = not layer_types or _SEEN_THROUGH.search(layer_types)
    if has_windows and settings.get("use_sliding_window") is not False:
        return []
    return list(filter(_is_window, settings))


def _is_window(key: str) -> bool:
    """Say whether a setting is the size of a window."""
    return _WINDOW.search(key) is not None and not key.startswith("use_")


def _same(own: Any, theirs: Any) -> bool:
    """Compare two values as deep as they go, numbers up to rounding."""
    own, theirs = _plain(own), _plain(theirs)
    if isinstance(own, Mapping) and isinstance(theirs, Mapping):
        keys = {*own, *theirs}
        return all(_same(own.get(key), theirs.get(key)) for key in keys)
    if isinstance(own, list | tuple) and isinstance(theirs, list | tuple):
        if len(own) != len(theirs):
            return False
        return all(map(_same, own, theirs))
    if isinstance(own, int | float) and isinstance(theirs, int | float):
        return math.isclose(own, theirs, rel_tol=_CLOSE)
    return bool(own == theirs)


def _plain(value: Any) -> Any:
    """Return a value in the spelling in which values are compared: None for every empty value."""
    if value in (None, [], {}, ()) or value is False:
        return None
    if isinstance(value, str):
        return _ACTIVATIONS.get(value, value)
    if isinstance(value, Mapping) and set(value) == {"__float__"}:
        return float(value["__float__"])  # as transformers 5 writes an infinity
    return value


def _is_part(key: str, value: Any) -> bool:
    if not isinstance(value, Mapping) or not decides(key):
        return False
    return key.endswith("config") or "model_type" in value


def _family(model_type: str) -> _Family:
    return _families().get(model_type, _Family())


@cache
def _families() -> dict[str, _Family]:
    text = (Path(__file__).parent / DEFAULTS).read_text(encoding="utf-8")
    lines = json.loads(text)
    return {model_type: _Family(**line) for model_type, line in lines.items() if model_type}
