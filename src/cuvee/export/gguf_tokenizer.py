"""A tokenizer.json in GGUF's words: `gpt2` for BPE over bytes, `llama` for BPE as SentencePiece has it.

llama.cpp reads texts in `src/llama-vocab.cpp`. A tokenizer that it would follow otherwise on ordinary texts is refused;
differences on rare texts are notes.
"""

import json
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cuvee.errors import CheckpointError
from cuvee.export.gguf_pieces import pieces_settings, steps_of
from cuvee.export.gguf_splits import chosen_split, no_name, split_name
from cuvee.tokenizers.chat import chat_template, chat_templates
from cuvee.tokenizers.gguf import lies_in_gguf, tokenizer_texts
from cuvee.tokenizers.read import JSON, SETTINGS, Tokenizer, parse_tokenizer, read_tokenizer

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

ENDS_BY_NAME = frozenset(
    [
        "<|eot_id|>",
        "<|im_end|>",
        "<|end|>",
        "<|return|>",
        "<|call|>",
        "<end_of_turn>",
        "<|endoftext|>",
        "</s>",
        "<|eom_id|>",
        "<EOT>",
        "[EOT]",
        "[EOS]",
        "<|end_of_text|>",
        "<end_of_utterance>",
        "<eos>",
        "<turn|>",
    ]
)
"""Texts of tokens at which llama.cpp ends whatever the file says."""

_BYTE = re.compile(r"<0x..>", re.DOTALL)


@dataclass(frozen=True)
class TokenizerFiles:
    """A model's tokenizer with the files of its folder that speak of it."""

    tokenizer: Tokenizer
    settings: Mapping[str, Any]
    template: str | None
    named_templates: Mapping[str, str]
    generation: Mapping[str, Any]

    @property
    def content(self) -> Mapping[str, Any]:
        return self.tokenizer.content or {}

    @property
    def text_before(self) -> str | None:
        """The token that the tokenizer puts before every text."""
        number, _ = _around(self.content, self.tokenizer)
        return next((token for token, i in self.tokenizer.ids.items() if i == number), None)

    def special_text(self, word: str) -> str | None:
        """Return the `bos`, `eos`, `unk` or `pad` token that tokenizer_config.json names."""
        token = self.settings.get(f"{word}_token")
        text = token.get("content") if isinstance(token, dict) else token
        return text if isinstance(text, str) else None


def tokenizer_settings(
    files: TokenizerFiles | None, config: Mapping[str, Any], rows: int, split: str | None = None
) -> Generator[str, None, dict[str, Any]]:
    """Return GGUF's settings of a model's tokenizer, with a token for each row of the embedding; yields notes.

    Raises CheckpointError for a tokenizer that llama.cpp would not be equal to, unless `split` names how to cut texts.
    """
    if files is None:
        yield "the model has no tokenizer.json: the file can be run with numbers of tokens only"
        return {"tokenizer.ggml.model": "no_vocab"}
    tokenizer = files.tokenizer
    if tokenizer.size > rows:
        message = f"the tokenizer has {tokenizer.size} tokens, and the embedding {rows} rows"
        raise CheckpointError(message, where=tokenizer.where)
    _check_model(tokenizer)
    if tokenizer.is_byte_level:
        settings = yield from _byte_level(files, split)
    else:
        settings = yield from pieces_settings(tokenizer)
    yield from _stripping(tokenizer)
    special = yield from _special_settings(files, config)
    names = token_names(tokenizer, rows)
    by_number = {number: token for token, number in tokenizer.ids.items()}
    settings |= {
        "tokenizer.ggml.tokens": names,
        "tokenizer.ggml.token_type": [_kind(by_number.get(i), tokenizer) for i in range(rows)],
        **special,
        **_templates(files),
    }
    if "tokenizer.ggml.scores" in settings:
        scores = settings["tokenizer.ggml.scores"]
        settings["tokenizer.ggml.scores"] = [scores.get(name, 0.0) for name in names]
    return settings


def tokenizer_files(place: Path) -> TokenizerFiles | None:
    """Read a model's tokenizer with the files beside it; None if it has no tokenizer.json."""
    if lies_in_gguf(place):
        texts = tokenizer_texts(place)
        settings = json.loads(texts.get(SETTINGS, "{}"))
        template = texts.get("chat_template.jinja", settings.get("chat_template"))
        return TokenizerFiles(parse_tokenizer(json.loads(texts[JSON]), str(place)), settings, template, {}, {})
    folder = place if place.is_dir() else place.parent
    if not (folder / JSON).is_file():
        return None
    return TokenizerFiles(
        read_tokenizer(folder),
        _json(folder / SETTINGS),
        chat_template(folder),
        chat_templates(folder).others,
        _json(folder / "generation_config.json"),
    )


def _json(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        return {}
    content = json.loads(file.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}


def token_names(tokenizer: Tokenizer, rows: int) -> list[str]:
    """Return a text for each row of the embedding, no two alike: llama.cpp loads no other file."""
    by_number = {number: token for token, number in tokenizer.ids.items()}
    names = []
    for i in range(rows):
        name = by_number.get(i, f"[PAD{i}]")
        while i not in by_number and name in tokenizer.ids:
            name = f"[{name}]"
        names.append(name)
    if len(set(names)) < rows or "" in names:
        raise CheckpointError("two tokens of the tokenizer have one number or text", where=tokenizer.where)
    return names


def _check_model(tokenizer: Tokenizer) -> None:
    """Raise CheckpointError for features that llama.cpp's BPE does not have."""
    model = (tokenizer.content or {})["model"]
    if tokenizer.kind != "BPE":
        raise CheckpointError(
            f"a tokenizer of the kind {tokenizer.kind} has no form in GGUF here", where=tokenizer.where
        )
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            message = f"the tokenizer has a '{key}' ({model[key]!r}), which llama.cpp does not know"
            raise CheckpointError(message, where=tokenizer.where)


def _written(merge: str | Sequence[str]) -> str:
    """Write a merge as a text, which older files have it as already."""
    return merge if isinstance(merge, str) else " ".join(merge)


def _byte_level(files: TokenizerFiles, split: str | None) -> Generator[str, None, dict[str, Any]]:
    content = files.content
    merges = list(map(_written, content["model"]["merges"]))
    ignores = bool(content["model"].get("ignore_merges"))
    name = split_name(content.get("pre_tokenizer"), ignores_merges=ignores)
    if split is not None:
        if name is None:
            yield f"llama.cpp has no name for how the tokenizer cuts texts, and cuts them as '{split}' now"
        elif name != split:
            yield f"the tokenizer cuts texts as '{name}' does; the file says '{split}'"
        name = chosen_split(split)
    if name is None:
        raise no_name(files.tokenizer.where)
    yield from _normalizing(content.get("normalizer"), files.tokenizer.where)
    return {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": name, "tokenizer.ggml.merges": merges}


def _normalizing(normalizer: Mapping[str, Any] | None, where: str) -> Iterator[str]:
    """Yield how the tokenizer changes texts that llama.cpp leaves. Raises CheckpointError where that changes more."""
    kinds = [step["type"] for step in steps_of(normalizer, "normalizers")]
    if kinds == ["NFC"]:
        yield "llama.cpp does not put letters and accents together (NFC) as the tokenizer does: type é as one sign"
    elif kinds:
        raise CheckpointError(f"the tokenizer changes texts by {kinds[0]}, and llama.cpp does not", where=where)


def _stripping(tokenizer: Tokenizer) -> Iterator[str]:
    """Yield the tokens beside which the tokenizer takes spaces away."""
    stripping = []
    for token, entry in tokenizer.added.items():
        if any(entry.get(flag) for flag in ("lstrip", "rstrip", "single_word")):
            stripping.append(token)
    if stripping:
        more = f" and {len(stripping) - 1} more tokens" if len(stripping) > 1 else ""
        yield f"llama.cpp does not look at the spaces beside '{stripping[0]}'{more}, as the tokenizer does"


def _kind(token: str | None, tokenizer: Tokenizer) -> int:
    if token is None:
        return UNUSED
    if token == (tokenizer.content or {})["model"].get("unk_token"):
        return UNKNOWN
    if token in tokenizer.added:
        is_special = tokenizer.added[token].get("special", True)
        return CONTROL if is_special else USER_DEFINED
    if tokenizer.is_byte_level or not _BYTE.fullmatch(token):
        return NORMAL
    return BYTE


def _special_settings(files: TokenizerFiles, config: Mapping[str, Any]) -> Generator[str, None, dict[str, Any]]:
    """Return the numbers of special tokens, and whether llama.cpp puts any before and after every text."""
    tokenizer = files.tokenizer
    first, last = _around(files.content, tokenizer)
    ends = end_tokens(files, config)
    bos = first
    if bos is None:
        bos = _named(files, config, "bos")
    eos = last
    if eos is None:
        eos = _named(files, config, "eos")
    if eos is None and ends:
        eos = ends[0]
    numbers = {
        "bos": bos,
        "eos": eos,
        "unknown": _named(files, config, "unk"),
        "padding": _named(files, config, "pad"),
    }
    texts = {number: token for token, number in tokenizer.ids.items()}
    others = [number for number in ends if number != eos]
    free = [number for number in others if texts.get(number) not in ENDS_BY_NAME]
    if len(free) > 2:
        yield f"llama.cpp takes two more tokens at which texts end: '{texts.get(free[2])}' is none of them there"
    numbers |= dict(zip(("eot", "eom"), free or others[:1], strict=False))
    settings: dict[str, Any] = {}
    for word, number in numbers.items():
        if number is not None:
            settings[f"tokenizer.ggml.{word}_token_id"] = number
    settings["tokenizer.ggml.add_bos_token"] = first is not None
    settings["tokenizer.ggml.add_eos_token"] = last is not None
    return settings


def end_tokens(files: TokenizerFiles, config: Mapping[str, Any]) -> list[int]:
    """Return the numbers of the tokens at which transformers ends a text, by generation_config.json or config.json."""
    written = files.generation.get("eos_token_id", config.get("eos_token_id"))
    numbers = written if isinstance(written, list) else [written]
    own = set(files.tokenizer.ids.values())
    whole = [number for number in numbers if type(number) is int]
    return [number for number in whole if number in own]


def _named(files: TokenizerFiles, config: Mapping[str, Any], word: str) -> int | None:
    """Return the number of a special token: as the tokenizer names it, or else as the config does."""
    text = files.special_text(word)
    if text is not None:
        return files.tokenizer.ids.get(text)
    number: Any = config.get(f"{word}_token_id")
    if isinstance(number, list) and number:
        number = number[0]
    is_number = type(number) is int and number >= 0
    return number if is_number else None


def _around(content: Mapping[str, Any], tokenizer: Tokenizer) -> tuple[int | None, int | None]:
    """Return the token before and the token after every text. Raises CheckpointError if there are several.

    The template of tokenizer.json alone decides: transformers 5 does not heed `add_bos_token` beside it.
    """
    processor = content.get("post_processor") or {}
    steps = processor.get("processors") or [processor]
    templates = [step["single"] for step in steps if step.get("type") == "TemplateProcessing"]
    template: Sequence[Any] = templates[0] if templates else []
    are_texts = ["Sequence" in part for part in template] or [True]
    place = are_texts.index(True)
    before, after = template[:place], template[place + 1 :]
    if are_texts.count(True) > 1 or max(len(before), len(after)) > 1:
        message = "the tokenizer puts several tokens before or after a text, llama.cpp one at most"
        raise CheckpointError(message, where=tokenizer.where)
    return _number_of(before, tokenizer), _number_of(after, tokenizer)


def _number_of(parts: Sequence[Mapping[str, Any]], tokenizer: Tokenizer) -> int | None:
    return tokenizer.ids[parts[0]["SpecialToken"]["id"]] if parts else None


def _templates(files: TokenizerFiles) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if files.named_templates:
        settings["tokenizer.chat_templates"] = list(files.named_templates)
    settings |= {f"tokenizer.chat_template.{name}": text for name, text in files.named_templates.items()}
    return settings | ({} if files.template is None else {"tokenizer.chat_template": files.template})
