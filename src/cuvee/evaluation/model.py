"""A language model with its tokenizer, loaded through transformers from a folder: no network, no code from there."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, get_args

from cuvee.evaluation.library import (
    load_network,
    places_left_out,
    text_config,
)  # first, for it says which extra is missing

# isort: split
import torch
from blake3 import blake3

from cuvee.checkpoint import weights_digest
from cuvee.errors import EvaluationError, RecipeError
from cuvee.evaluation.abilities import Abilities
from cuvee.evaluation.linear import hasten
from cuvee.evaluation.prompt import Prompt
from cuvee.evaluation.report import REPORT_FILE
from cuvee.evaluation.turns import chat_text

Device = Literal["auto", "cpu", "cuda", "split"]
Dtype = Literal["float32", "bfloat16", "float16"]
NO_LIMIT = 10**9
TINY_PARAMETERS = 20_000_000
SMALL_FILES = (".json", ".model", ".txt", ".jinja")
OUR_FILES = ("cuvee.json", REPORT_FILE)


@dataclass(frozen=True)
class LanguageModel:
    """A loaded model. `context_length` is the number of tokens it can see at once; `digest` names its weights.

    `files_digest` names the tokenizer and configuration that came with them. `tokenizer_class` is the folder's word for
    it, which need not be the class that read it. `own_prompt` is the prompt of the recipe that it was merged by.
    """

    name: str
    digest: str
    network: Any
    tokenizer: Any
    context_length: int
    files_digest: str = ""
    tokenizer_class: str = ""
    own_prompt: Mapping[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        return torch.device(self.network.device)

    @property
    def dtype(self) -> str:
        return str(self.network.dtype).removeprefix("torch.")

    @property
    def encoder_decoder(self) -> bool:
        """Whether the prompt is read by an encoder and the answer written by a decoder."""
        return bool(getattr(self.network.config, "is_encoder_decoder", False))

    @cached_property
    def abilities(self) -> Abilities:
        """The network's abilities, found by trying."""
        return Abilities(
            self.network,
            name=self.name,
            encoder_decoder=self.encoder_decoder,
            start_token=self.start_token if self.encoder_decoder else 0,
            most_tokens=self.context_length,
        )

    def renumbered(self, digest: str) -> "LanguageModel":
        """Return the model for other numbers in the same network; in which ways it can read is not tried anew."""
        renumbered = replace(self, digest=digest)
        self.abilities.forget_numbers()
        vars(renumbered)["abilities"] = self.abilities
        return renumbered

    def render(self, prompt: Prompt, text: str, choices: Sequence[str] = ()) -> str:
        """Return the text that the model reads before its answer, by its chat template if the prompt asks for it."""
        if not prompt.chat_template:
            return prompt.render(text, choices)
        return chat_text(self.tokenizer, prompt.messages(text, choices), self.name, asks=True)

    def encode(self, texts: Sequence[str], *, chat: bool = False) -> list[list[int]]:
        """Tokenise prompts as the model was trained to see them begin.

        A decoder gets no end-of-text token after them; an encoder gets the token that it expects. A chat template has
        written all special tokens itself.
        """
        if chat:
            return self.encode_plain(texts)
        rows = self.encode_default(texts)
        if not rows or self.encoder_decoder:
            return rows
        if self._appends_end():
            return [row[:-1] for row in rows]
        return rows

    def encode_plain(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenise without special tokens."""
        return self._tokenise(texts, special=False)

    def encode_default(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenise with the special tokens that the tokenizer adds by itself."""
        return self._tokenise(texts, special=True)

    def _tokenise(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        if not texts:
            return []
        rows: list[list[int]] = self.tokenizer(
            list(texts), add_special_tokens=special, return_attention_mask=False, verbose=False
        )["input_ids"]
        return rows

    def _appends_end(self) -> bool:
        end = self.tokenizer.eos_token_id
        return end is not None and self._tokenise(["a"], special=True)[0][-1] == end

    @property
    def start_token(self) -> int:
        """The token before an empty text, or with which a decoder that follows an encoder starts."""
        starts = [self.tokenizer.bos_token_id, self.tokenizer.eos_token_id]
        if self.encoder_decoder:
            starts.insert(0, self.network.config.decoder_start_token_id)
        for token in starts:
            if token is not None:
                return int(token)
        raise EvaluationError("the tokenizer has neither a start nor an end token", where=self.name)

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """The tokens that end a generated text."""
        tokens = getattr(self.network.generation_config, "eos_token_id", None)
        if tokens is None:
            tokens = self.tokenizer.eos_token_id
        if tokens is None:
            return ()
        return tuple(tokens) if isinstance(tokens, list | tuple) else (int(tokens),)


def load_model(folder: str | Path, *, device: Device = "auto", dtype: Dtype = "float32") -> LanguageModel:
    """Load a decoder or encoder-decoder model from a folder that transformers can read.

    `auto` takes a CUDA device if there is any; `split` lets accelerate spread the layers over all devices, and over
    memory and disk where they are not enough. Raises EvaluationError for a folder that is neither.
    """
    return _loaded(Path(folder), device, dtype, load_network)


def load_headed(folder: Path, kind: str, *, device: Device, dtype: Dtype) -> LanguageModel:
    """Load a model that writes no text with the head of its kind: `classifier`, `masked` or `embedder`."""
    return _loaded(folder, device, dtype, partial(load_network, kind=kind))


def _loaded(path: Path, device: Device, dtype: Dtype, load: Callable[..., tuple[Any, Any]]) -> LanguageModel:
    place = pick_device(device)
    if dtype not in get_args(Dtype):
        raise RecipeError(f"dtype '{dtype}' is none of {', '.join(get_args(Dtype))}")
    if not (path / "config.json").is_file():
        raise EvaluationError("no model folder: there is no config.json", where=str(path))
    network, tokenizer = load(path, getattr(torch, dtype), split=device == "split")
    network = network if device == "split" else network.to(place)
    hasten(network)
    return LanguageModel(
        name=str(path),
        digest=weights_digest(path),
        network=network.eval(),
        tokenizer=tokenizer,
        context_length=_context_length(network, tokenizer),
        files_digest=files_digest(path),
        tokenizer_class=str(_json(path / "tokenizer_config.json").get("tokenizer_class", "")),
        own_prompt=own_prompt(path),
    )


@contextmanager
def fitting_threads(model: LanguageModel) -> Iterator[None]:
    """Let a tiny model on a CPU run on one thread: more of them wait for each other longer than they work."""
    before = torch.get_num_threads()
    tiny = model.device.type == "cpu" and model.network.num_parameters() < TINY_PARAMETERS
    torch.set_num_threads(1 if tiny else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pick_device(device: Device) -> torch.device:
    """Return the torch device for `auto`, `cpu` or `cuda`; of a model that is split, that of its inputs."""
    if device not in get_args(Device):
        raise RecipeError(f"device '{device}' is none of {', '.join(get_args(Device))}")
    if device == "cuda" and not torch.cuda.is_available():
        raise RecipeError("device 'cuda' was asked for, and there is none")
    takes_gpu = device != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if takes_gpu else "cpu")


def files_digest(folder: Path) -> str:
    """Return the BLAKE3 of the names and bytes of the tokenizer and configuration files.

    All small files count, for tokenizers choose names of their own; but those that we write, and the index, do not.
    """
    hasher = blake3()
    small = [path for path in folder.iterdir() if path.suffix in SMALL_FILES]
    for path in sorted(small):
        is_ours = path.name in OUR_FILES or path.name.endswith(".index.json")
        if not is_ours and path.is_file():
            hasher.update(path.name.encode() + b"\0" + blake3(path.read_bytes()).digest())
    return hasher.hexdigest()


def own_prompt(folder: Path) -> Mapping[str, Any]:
    """Return the prompt of the recipe that a folder was merged by."""
    prompt = _json(folder / "cuvee.json").get("prompt")
    return prompt if isinstance(prompt, dict) else {}


def _context_length(network: Any, tokenizer: Any) -> int:
    text = text_config(network)
    for name in ("max_position_embeddings", "n_positions", "max_seq_len"):
        if isinstance(length := getattr(text, name, None), int):
            return length - places_left_out(network)
    return min(int(tokenizer.model_max_length), NO_LIMIT)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise EvaluationError(f"not JSON: {error}", where=str(path)) from error
    return content if isinstance(content, dict) else {}
