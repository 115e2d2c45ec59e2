"""With `caches` the only file that knows transformers: it loads networks and calls them.

Keyword names differ between versions of transformers (5.24 calls `past_key_values` `cache`), and a network
swallows a keyword that it does not know without an error. So nothing here reads a signature: `abilities` tries each
keyword and looks at the network's answer.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cuvee.errors import CuveeError, EvaluationError, MissingExtra, PlatformError
from cuvee.evaluation.declared import check_depth
from cuvee.evaluation.reading import Meter
from cuvee.versions import installed_version, is_untested, unknown_version

try:
    import jinja2  # noqa: F401  # chat templates of tokenizers need it
    import torch
    import transformers
except ModuleNotFoundError as error:
    raise MissingExtra("eval", missing=error.name or "transformers") from error
except Exception as error:  # a broken installation fails in any way
    raise unknown_version("transformers", f"{type(error).__name__}: {error}") from error

from cuvee.evaluation.caches import growing  # here, for it needs what was just looked for

OFFLINE = {"local_files_only": True, "trust_remote_code": False}
HEADS = {
    "classifier": "AutoModelForSequenceClassification", "masked": "AutoModelForMaskedLM", "embedder": "AutoModel",
}  # fmt: skip
"""The classes of models that write no text."""

CACHE_KEYWORDS = ("past_key_values", "cache", "cache_params")
"""Names under which a network may take a cache, the commonest first."""

Tokens = Sequence[int]


@dataclass(frozen=True)
class Network:
    """A loaded network and the keywords that it was seen to heed.

    `cache_keyword` is None where no keyword hands keys and values on; `takes_positions` and `takes_last_only` say that
    `position_ids` and `logits_to_keep` are taken; a network that does not take them is called without. `attends_only`
    says that its cache holds keys and values for every token and nothing else, `kept_bytes` how large it is for a token
    of a row that was read. `by_token` says that a cache is read on from a token at a time. `alone_from` is the length
    from which rows must be read alone. `meter` counts the tokens that it is shown.
    """

    module: Any = field(repr=False)
    encoder_decoder: bool
    start_token: int = 0
    cache_keyword: str | None = None
    takes_positions: bool = False
    takes_last_only: bool = False
    attends_only: bool = False
    kept_bytes: int = 0
    by_token: bool = False
    alone_from: int | None = None
    meter: Meter = field(default_factory=Meter, compare=False, repr=False)

    @property
    def device(self) -> torch.device:
        return torch.device(self.module.device)

    def new_cache(self) -> Any:
        """Return an empty cache, with layers of the kinds that the network's config asks for."""
        if self.encoder_decoder:
            return transformers.EncoderDecoderCache(transformers.DynamicCache(), transformers.DynamicCache())
        return growing(transformers.DynamicCache(config=self.module.config))

    def encode(self, ids: torch.Tensor, mask: torch.Tensor | None) -> Any:
        """Return the encoder's result for rows of ids: an output of the encoder's own class."""
        self.meter.showed(ids.numel())
        return self.module.get_encoder()(input_ids=ids, attention_mask=mask)

    def logits(
        self,
        ids: torch.Tensor,
        *,
        cache: Any = None,
        mask: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
        last: int = 0,
        encoded: Any = None,
        prompt: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Show rows of ids to the network and return logits, [rows, n, vocabulary].

        `last` asks for the last places only, and 0 for all; a network may give more. `encoded` is the result of
        `encode` for the rows; the ids are the decoder's then, and the mask the encoder's. `prompt` are ids for an
        encoder that has not read them yet.
        """
        self.meter.showed(ids.numel() + (0 if prompt is None else prompt.numel()))
        inputs: dict[str, Any] = {"use_cache": cache is not None}
        if mask is not None:
            inputs["attention_mask"] = mask
        if positions is not None and self.takes_positions:
            inputs["position_ids"] = positions
        if cache is not None:
            inputs[self.cache_keyword or CACHE_KEYWORDS[0]] = cache
        if last and self.takes_last_only:
            inputs["logits_to_keep"] = last
        if encoded is not None:
            inputs["decoder_input_ids"] = ids
            inputs["encoder_outputs"] = encoded
        elif prompt is not None:
            inputs["decoder_input_ids"] = ids
            inputs["input_ids"] = prompt
        else:
            inputs["input_ids"] = ids
        logits: torch.Tensor = self.module(**inputs).logits
        return logits


def select_encoded(encoded: Any, rows: torch.Tensor) -> Any:
    """Return an encoder's output for some rows, each perhaps more than once."""
    return type(encoded)(last_hidden_state=encoded.last_hidden_state[rows])


def load_network(path: Path, dtype: torch.dtype, *, split: bool, kind: str = "writer") -> tuple[Any, Any]:
    """Load a network and its tokenizer from a folder, without network access and without code from the folder.

    `kind` is `writer` or in HEADS. Raises EvaluationError for a folder that transformers cannot read, PlatformError
    where transformers itself fails.
    """
    if split and find_spec("accelerate") is None:
        raise MissingExtra("split", missing="accelerate")
    with blaming(str(path), "load"), _quiet():
        check_depth(path)
        config = transformers.AutoConfig.from_pretrained(path, **OFFLINE)
        spread = {"device_map": "auto"} if split else {}
        options = {"config": config, "dtype": dtype, **spread, **OFFLINE}
        loader = _class_for(config) if kind == "writer" else getattr(transformers, HEADS[kind])
        module, loading = loader.from_pretrained(path, **options, output_loading_info=True)
        _check_all_there(loading, kind, path)
        _attend_as_configured(module)
        return module, _tokenizer(path)


def _attend_as_configured(module: Any) -> None:
    """Let each text be read by the attention that the config asks for, whatever was read before.

    A BigBird turns to full attention for a text that is too short for its blocks, and would keep to it.
    """
    for part in module.modules():
        if isinstance(part, transformers.PreTrainedModel) and hasattr(part, "set_attention_type"):
            part.register_forward_pre_hook(lambda own, _: own.set_attention_type(own.config.attention_type))


def _tokenizer(path: Path) -> Any:
    """Load the tokenizer of a folder.

    Raises EvaluationError for a folder without any: for many families transformers then makes a tokenizer that knows no
    words, and reads every text as nothing.
    """
    names = [file.name for file in path.iterdir()]
    has_vocabulary = any(_VOCABULARY.search(name) for name in names)
    if has_vocabulary or "tokenizer_config.json" in names:
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, **OFFLINE)
        if has_vocabulary or not _knows_no_words(tokenizer):  # ByT5's has no file of words
            return tokenizer
    hint = "copy tokenizer.json and tokenizer_config.json from the model that it was trained from"
    raise EvaluationError("the folder has no tokenizer", where=str(path), hint=hint)


_VOCABULARY = re.compile(r"^tokenizer\.json$|vocab|merges|\.(model|tiktoken|spm)$|^tekken\.json$|bpe")
"""Names of files in which a vocabulary stands."""


def _knows_no_words(tokenizer: Any) -> bool:
    added = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
    return len(set(tokenizer.get_vocab()) - added) <= 1


def _check_all_there(found: Mapping[str, Any], kind: str, path: Path) -> None:
    """Raise for parameters that the files lack: transformers would draw them at random."""
    missing = sorted(found["missing_keys"])
    if kind == "embedder":
        missing = [name for name in missing if not name.startswith("pooler.")]
    mismatched = [str(name) for name, *_ in found["mismatched_keys"]]
    lacking = [*missing, *mismatched]
    if lacking:
        message = f"the weights of '{lacking[0]}' are missing or of another shape"
        use = "writes text" if kind == "writer" else f"is a {kind}"
        hint = f"the config says that this model {use}; transformers would draw these weights at random"
        raise EvaluationError(message, where=str(path), hint=hint)


def is_masked_kind(config: Any) -> bool:
    """Say whether a model reads a text in both directions, as those that fill in masks do."""
    return type(config) in transformers.MODEL_FOR_MASKED_LM_MAPPING


def load_skeleton(path: Path) -> tuple[Any, Any]:
    """Return the network of a folder without its numbers, on the meta device, and its tokenizer.

    Buffers that are computed and not stored, such as rotary frequencies, have their numbers.
    Raises EvaluationError for a folder that transformers cannot read, PlatformError where transformers itself fails.
    """
    with blaming(str(path), "build"), _quiet():
        check_depth(path)
        config = transformers.AutoConfig.from_pretrained(path, **OFFLINE)
        kind = _class_for(config)
        with torch.device("meta"):
            module = kind.from_config(config, dtype=torch.float32, trust_remote_code=False)
        _compute_buffers(module)
        return module.eval(), _tokenizer(path)


def has_encoder(path: Path) -> bool:
    """Say whether the model of a folder reads with an encoder and writes with a decoder.

    Raises EvaluationError for a config that transformers cannot read.
    """
    with blaming(str(path), "read"):
        check_depth(path)
        return bool(transformers.AutoConfig.from_pretrained(path, **OFFLINE).is_encoder_decoder)


def _compute_buffers(module: Any) -> None:
    """Let transformers compute the buffers that no file holds, as it does when it loads a model.

    It does so twice, over other bits: a buffer that then differs was left as it was, and the error says so.
    """
    buffers = [name for name, buffer in module.named_buffers() if buffer.is_meta]
    stored = module.state_dict().keys()
    names = [name for name in buffers if name not in stored]
    over_zeros = _computed(module, names, 0)
    over_ones = _computed(module, names, 1)
    for name, first, second in zip(names, over_zeros, over_ones, strict=True):
        if not torch.equal(first, second):
            raise ValueError(f"it does not compute '{name}' when it is built without its numbers")


def _computed(module: Any, names: Sequence[str], fill: int) -> list[torch.Tensor]:
    for name in names:
        owner, _, own = name.rpartition(".")
        part = module.get_submodule(owner)
        part._buffers[own] = torch.full_like(part._buffers[own], fill, device="cpu")
    for part in module.modules():
        part._is_hf_initialized = False
    module.initialize_weights()
    return [module.get_buffer(name).clone() for name in names]


@dataclass(frozen=True)
class Joined:
    """The tensors of a checkpoint that make one tensor of a network.

    Those of a group are put on top of each other where `stacked`; groups are then joined along the axis `dim`.
    """

    groups: tuple[tuple[str, ...], ...]
    stacked: bool = False
    dim: int = 0


def joined_names(module: Any, names: Sequence[str]) -> Mapping[str, Joined]:
    """Map the names of a network to those of a checkpoint, as transformers renames and joins them when it loads.

    A tensor that is joined in another way than by stacking and joining is left out.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, dot_natural_key, rename_source_key

    transforms = get_model_conversion_mapping(module)
    converters = [transform for transform in transforms if isinstance(transform, WeightConverter)]
    renamings = [transform for transform in transforms if not isinstance(transform, WeightConverter)]
    by_pattern = {pattern: converter for converter in converters for pattern in converter.source_patterns}
    own = module.state_dict()
    joined: dict[str, Joined] = {}
    parts: dict[str, dict[str, list[str]]] = {}
    for name in sorted(names, key=dot_natural_key):
        inside, pattern = rename_source_key(name, renamings, converters, module.base_model_prefix, own)
        if inside not in own and name in own:
            inside, pattern = name, None
        if inside not in own:
            continue
        if pattern is None:
            joined[inside] = Joined(((name,),))
        else:
            parts.setdefault(inside, {}).setdefault(pattern, []).append(name)
    for inside, groups in parts.items():
        converter = by_pattern[next(iter(groups))]
        operations = {type(operation).__name__: operation for operation in converter.operations}
        if operations.keys() <= {"MergeModulelist", "Concatenate"}:
            ordered = tuple(tuple(groups.get(pattern, ())) for pattern in converter.source_patterns)
            dim = getattr(operations.get("Concatenate"), "dim", 0)
            joined[inside] = Joined(ordered, stacked="MergeModulelist" in operations, dim=dim)
    return joined


def _class_for(config: Any) -> Any:
    """Return the class that writes text: of a decoder, of an encoder and decoder, or of a model that also sees."""
    automatic = [
        (transformers.AutoModelForCausalLM, transformers.MODEL_FOR_CAUSAL_LM_MAPPING),
        (transformers.AutoModelForImageTextToText, transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING),
    ]
    if getattr(config, "is_encoder_decoder", False):
        automatic = [(transformers.AutoModelForSeq2SeqLM, transformers.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING)]
    for loader, classes in automatic:
        if type(config) in classes:
            return loader
    raise EvaluationError(
        f"'{config.model_type}' is no model that transformers {installed_version('transformers')} writes text with",
        hint="expected a decoder, an encoder-decoder, or a model that sees or hears and answers in text",
    )


@contextmanager
def blaming(where: str, verb: str) -> Iterator[None]:
    """Say whose fault a failure is: that of transformers where it fails on a sound little model too, else `where`'s.

    Raises EvaluationError or PlatformError for whatever the library raises. Memory that runs out passes through.
    """
    try:
        yield
    except (CuveeError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a model's files can make transformers fail in any way
        check_library()
        raise EvaluationError(
            f"transformers cannot {verb} this model: {first_line(error)}", where=where, hint=_untested_hint()
        ) from error


def check_library() -> None:
    """Raise PlatformError unless transformers runs a tiny Llama that is made on the spot."""
    try:
        sizes = {"vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
        config = transformers.LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=2)
        with torch.inference_mode():
            logits = transformers.LlamaForCausalLM(config).eval()(input_ids=torch.tensor([[1, 2, 3]])).logits
        if tuple(logits.shape) != (1, 3, 8) or not bool(logits.isfinite().all()):
            raise ValueError(f"a Llama gave logits of the shape {tuple(logits.shape)}")
    except Exception as error:  # a broken installation fails in any way
        raise library_failure(first_line(error)) from error


def library_failure(cause: str) -> PlatformError:
    """Return the error for an installation of transformers that does not work."""
    if is_untested("transformers"):
        return unknown_version("transformers", cause)
    version = installed_version("transformers")
    return PlatformError(f"transformers {version} fails on this machine: {cause}", hint="install it anew")


def first_line(error: Exception) -> str:
    """Return the kind of an error and the first line of its message: transformers appends lists of classes."""
    text = str(error).strip().partition("\n")[0].partition("Model type should be one of")[0]
    return f"{type(error).__name__}: {text.strip()[:300]}"


def _untested_hint() -> str | None:
    if not is_untested("transformers"):
        return None
    return str(unknown_version("transformers", "").message).partition(". It failed")[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from drawing bars of its own."""
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def text_config(module: Any) -> Any:
    """Return the config of the part that writes text."""
    return module.config.get_text_config(decoder=True)


def places_left_out(module: Any) -> int:
    """Return how many of the places that a network has an embedding for come before that of its first token.

    RoBERTa and its like count places from behind the padding token, and never reach the first of theirs: of 514 there
    are 512. Such a table of places is padded at that token, and as long as the config says.
    """
    places = text_config(module).to_dict().get("max_position_embeddings")
    for name, part in module.named_modules():
        if not name.endswith("position_embeddings") or not isinstance(part, torch.nn.Embedding):
            continue
        if part.padding_idx is not None and part.num_embeddings == places:
            return part.padding_idx + 1
    return 0


WINDOWS = re.compile(r"(window|window_size|window_len|attention_chunk_size|attn_chunk_length|rel_extent)$")
CHOSEN = re.compile(r"^(index_topk|index_topk_blocks|indexer_budget)$")
PIECES = re.compile(r"(block_size|compress_rates|compress_ratio|local_radius)$")
FLOORS = re.compile(r"^(floor_scale|log_scaling_n_floor)$")
"""Names of settings: how far back attention looks; how many tokens or pieces it chooses; how many tokens make a piece;
from which place on queries are scaled."""


def windows(module: Any) -> list[int]:
    """Return the numbers of tokens behind which a layer computes in another way than before, as far as a config says.

    Those are the windows and chunks of attention, the numbers of tokens that sparse attention chooses, and the places
    from which queries are scaled.
    """
    contents = [text_config(module).to_dict(), module.config.get_text_config(encoder=True).to_dict()]
    windows, chosen, pieces, floors = (
        {size for content in contents for size in _sizes(content, names)} for names in (WINDOWS, CHOSEN, PIECES, FLOORS)
    )
    products = {count * size for count in chosen for size in pieces}
    return sorted(windows | chosen | pieces | floors | products)


def _sizes(value: Any, names: re.Pattern[str], *, named: bool = False) -> Iterator[int]:
    """Give each positive number of a config that has one of the names, or stands in a list or table that has one."""
    if isinstance(value, dict):
        for name, own in value.items():
            yield from _sizes(own, names, named=named or names.search(str(name)) is not None)
    elif isinstance(value, list | tuple):
        for own in value:
            yield from _sizes(own, names, named=named)
    elif named and isinstance(value, int) and not isinstance(value, bool) and value > 0:
        yield value


RESCALED = ("dynamic", "longrope")
"""Rotary positions that depend on the longest row of a batch once that is longer than those in training."""


def alone_from(module: Any) -> int | None:
    """Return the length from which a network's output for a row depends on the other rows of its batch, or None.

    Rotary positions of the kinds in RESCALED do so, and experts that drop tokens once they have so many. So does the
    attention of Doge once it chooses: it gives equal tokens equal weights, and takes any of them. The blocks of a
    BigBird begin and end where those of the longest row do.
    """
    config = text_config(module)
    limits = []
    if getattr(config, "expert_capacity", None):
        limits.append(int(config.expert_capacity))
    if getattr(config, "keep_window_size", None):
        limits.append(int(config.keep_window_size) + 1)
    if getattr(config, "attention_type", None) == "block_sparse":
        blocks = 5 + 2 * config.num_random_blocks  # global, sliding and random ones: a text of no more is read in full
        limits.append(blocks * config.block_size + 1)
    for rope in _rope_settings(config):
        if rope.get("rope_type", rope.get("type")) in RESCALED:
            limits.append(int(rope.get("original_max_position_embeddings") or config.max_position_embeddings))
    return min(limits, default=None)


def _rope_settings(config: Any) -> list[Mapping[str, Any]]:
    """List the settings of rotary positions, for all layers and for kinds of layers."""
    settings = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    by_kind = [own for own in settings.values() if isinstance(own, dict)]
    return [settings, *by_kind]


def special_tokens(network: Network) -> set[int]:
    """Return the tokens that the config gives a meaning: padding, ends, places of pictures."""
    settings = {**network.module.config.to_dict(), **text_config(network.module).to_dict()}
    named = [value for name, value in settings.items() if "token" in name]
    return {value for value in named if isinstance(value, int)}


def vocabulary_size(network: Network) -> int:
    """Return how many tokens the network knows."""
    return int(text_config(network.module).vocab_size)
