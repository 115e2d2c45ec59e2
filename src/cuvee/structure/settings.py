"""Which settings of two config.json make models compute otherwise, though their tensors have the same shapes.

A setting that a config leaves out is the default of its family's config class: `config_defaults.json` has them, a line
for each model type, written by `tools/config_defaults.py`. Of other families only what both configs state is compared.
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
"""Settings that follow from others where they are left out; `_derived` says how, if it knows these."""

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
"""Keys that do not decide what is computed."""

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
"""Two numbers that differ by less are one: some files have an eps in 32 bits."""


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
    """One part of a config: the settings that its family reads, those of layers, and what is written besides.

    `unused` are settings of no effect, `derived` what some are if they are left out. `is_whole`: `settings` has all of
    the family, and what it lacks is none.
    """

    settings: Mapping[str, Any]
    rope: Mapping[str, Any]
    layers: Mapping[str, tuple[Any, ...]]
    besides: Mapping[str, Any]
    unused: frozenset[str]
    derived: Mapping[str, Any]
    is_whole: bool


def decides(key: str) -> bool:
    """Say whether a key of a config can decide what is computed."""
    return not (_IDLE.search(key) or key in (*_SIZES, *_GENERATION, *DEPTH_KEYS, *LABELS))


def differences(own: Mapping[str, Any], theirs: Mapping[str, Any], *, layers: bool = True) -> list[Difference]:
    """List the settings in which two models' configs differ, part by part; `layers` are the kinds of layers among them.

    Where only one of them has its language model in a part, that is compared with the whole of the other.
    """
    return list(_differences(own, theirs, "", "", layers))


def _differences(
    own: Mapping[str, Any], theirs: Mapping[str, Any], path: str, model_type: str, layers: bool
) -> Iterator[Difference]:
    mine, other = text_part(own), text_part(theirs)
    if (mine is None) != (other is None):
        key = mine or other or ""
        whole = str((own if mine else theirs).get("model_type", ""))
        own, theirs = own.get(key, own), theirs.get(key, theirs)
        inner = str((own if mine else theirs).get("model_type") or _family(whole).parts.get(key, ""))
        yield from _in_part(own, theirs, f"{path}{key}.", inner, inner, layers)
        return
    own_type, their_type = (str(config.get("model_type") or model_type) for config in (own, theirs))
    if own_type and their_type and own_type != their_type:
        yield Difference(f"{path}model_type", own_type, their_type)
    yield from _in_part(own, theirs, path, own_type, their_type, layers)
    for key in own:
        if _is_part(key, own[key]) and _is_part(key, theirs.get(key)):
            inner = _family(own_type).parts.get(key, "")
            yield from _differences(own[key], theirs[key], f"{path}{key}.", inner, layers)


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
    one = {**first.settings, **spread(first.rope, second.rope)}
    two = {**second.settings, **spread(second.rope, first.rope)}
    for key in dict.fromkeys([*one, *two]):
        if key in DERIVED and one.get(key) is None and two.get(key) is None:
            continue  # both follow from the heads, which are compared
        own, theirs = _value(key, one, first), _value(key, two, second)
        if key in first.unused | second.unused or _same(own, theirs):
            continue
        if NOT_STATED not in (own, theirs):
            yield Difference(key, own, theirs, key not in LENGTHS)
        elif key not in DERIVED and _plain(own) is not None and _plain(theirs) is not None:
            yield Difference(key, own, theirs, changes=False)


def _value(key: str, settings: Mapping[str, Any], part: _Part) -> Any:
    """Return what a setting is in a part: stated, usual, or derived from others."""
    value = settings.get(key, part.besides.get(key))
    if value is not None:
        return value
    if key in DERIVED:
        return part.derived.get(key, NOT_STATED)
    return None if part.is_whole or key in settings else NOT_STATED


def _in_besides(first: _Part, second: _Part) -> Iterator[Difference]:
    for key, own in first.besides.items():
        if key in second.besides and not _same(own, second.besides[key]):
            yield Difference(key, own, second.besides[key], changes=key in DERIVED)


def _in_layers(first: _Part, second: _Part) -> Iterator[Difference]:
    for key in dict.fromkeys([*first.layers, *second.layers]):
        own, theirs = first.layers.get(key), second.layers.get(key)
        if own is not None and theirs is not None:
            yield from _in_kinds(key, own, theirs)
        elif len(set(map(str, own or theirs or ()))) > 1:
            yield Difference(key, own or NOT_STATED, theirs or NOT_STATED, changes=False)


def _in_kinds(key: str, own: tuple[Any, ...], theirs: tuple[Any, ...]) -> Iterator[Difference]:
    """Give the first layer for which two configs say otherwise; stacks of other depths are not compared."""
    if len(own) != len(theirs):
        return
    unlike = [layer for layer in range(len(own)) if not _same(own[layer], theirs[layer])]
    if unlike:
        first = unlike[0]
        more = f" and {len(unlike) - 1} more" if len(unlike) > 1 else ""
        yield Difference(f"{key} of layer {first}{more}", own[first], theirs[first])


def _part(config: Mapping[str, Any], model_type: str) -> _Part:
    """Read one part of a config, with the defaults of its family."""
    family = _family(model_type)
    is_known = model_type in _families()
    stated = {family.names.get(key, key): value for key, value in config.items() if not _is_part(key, value)}
    layers = _layers({**config, "model_type": model_type})
    idle = {key for key in stated if not decides(key)} | set(ROPE) | _spoken_for(model_type, layers)
    read = is_known and "auto_map" not in config
    known = {key: value for key, value in stated.items() if key in family.settings or not read}
    usual_settings = {key: value for key, value in family.settings.items() if value is not None}
    settings = _without({**usual_settings, **known}, idle)
    besides = _without({key: value for key, value in stated.items() if key not in known}, idle)
    layers = {key: values for key, values in layers.items() if _is_of_layers(key, config, family if read else None)}
    usual = family.settings.get("rope_parameters") or {}
    rope = rope_settings(config, usual) if usual or not read else {}
    unused = frozenset(_without_use(settings, layers))
    return _Part(settings, rope, layers, besides, unused, _derived(settings, config), read)


def _without(settings: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in keys}


def _is_of_layers(key: str, config: Mapping[str, Any], family: _Family | None) -> bool:
    """Say whether what is said of each layer counts: a list only if the family reads it, where that is known."""
    if key not in config:
        return True
    return decides(key) and (family is None or family.names.get(key, key) in family.settings)


def _layers(config: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Return what a config says of each layer; nothing where it does not say how many there are."""
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
    keys = {key for rule in rules for key in (*rule.keys, *rule.write, *rule.vary)}
    return {key for key in (*keys, *layers) if not _is_window(key)} | {"layer_types"}


def _derived(settings: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, int]:
    """Return what settings are that follow from others, where they are left out."""
    heads, width = settings.get("num_attention_heads"), config.get("hidden_size")
    if not isinstance(heads, int) or not heads:
        return {}
    derived = {"num_key_value_heads": heads, "num_kv_heads": heads}
    return derived | {"head_dim": width // heads} if isinstance(width, int) else derived


def _without_use(settings: Mapping[str, Any], layers: Mapping[str, tuple[Any, ...]]) -> list[str]:
    """List the sizes of windows that no layer looks through."""
    kinds = layers.get("layer_types", ())
    is_off = settings.get("use_sliding_window") is False
    unused = bool(kinds) and not any(_SEEN_THROUGH.search(str(kind)) for kind in kinds)
    return [key for key in settings if (is_off or unused) and _is_window(key)]


def _is_window(key: str) -> bool:
    """Say whether a setting is the size of a window."""
    return _WINDOW.search(key) is not None and not key.startswith("use_")


def _same(own: Any, theirs: Any) -> bool:
    own, theirs = _plain(own), _plain(theirs)
    if isinstance(own, Mapping) and isinstance(theirs, Mapping):
        return all(_same(own.get(key), theirs.get(key)) for key in {*own, *theirs})
    if isinstance(own, list | tuple) and isinstance(theirs, list | tuple):
        return len(own) == len(theirs) and all(map(_same, own, theirs))
    if isinstance(own, int | float) and isinstance(theirs, int | float):
        return math.isclose(own, theirs, rel_tol=_CLOSE)
    return bool(own == theirs)


def _plain(value: Any) -> Any:
    """Return None for all that says "none"."""
    if value in (None, [], {}, ()) or value is False:
        return None
    if isinstance(value, str):
        return _ACTIVATIONS.get(value, value)
    if isinstance(value, Mapping) and set(value) == {"__float__"}:
        return float(value["__float__"])  # as transformers 5 writes an infinity
    return value


def _is_part(key: str, value: Any) -> bool:
    return isinstance(value, Mapping) and decides(key) and (key.endswith("config") or "model_type" in value)


def _family(model_type: str) -> _Family:
    return _families().get(model_type, _Family())


@cache
def _families() -> dict[str, _Family]:
    text = (Path(__file__).parent / DEFAULTS).read_text(encoding="utf-8")
    return {model_type: _Family(**said) for model_type, said in json.loads(text).items() if model_type}
