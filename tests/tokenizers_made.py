"""Three real tokenizers of different kinds, and a model for each, made from a little text."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cuvee.testing import TINY_LLAMA, random_weights, write_model

tokenizers = pytest.importorskip("tokenizers", reason="the library tokenizers is not installed")

TEXT = (
    "the merged model reads the same text as its parents",
    "a token that one model lacks takes its row from another",
    "lower words and Upper Words, numbers 1234 and punctuation!",
    "she sells sea shells; the shells she sells are sea shells",
)


@cache
def byte_level_bpe(text: tuple[str, ...] = TEXT, size: int = 340, special: tuple[str, ...] = ()) -> str:
    """Return the tokenizer.json of a BPE over bytes, like GPT-2's. Trained once: training is not always the same."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=sorted(alphabet),
        special_tokens=["<|endoftext|>", *special],
        show_progress=False,
    )
    made.train_from_iterator(text, trainer)
    return str(made.to_str())


@cache
def unigram() -> str:
    """Return that of a Unigram, like SentencePiece's."""
    made = tokenizers.Tokenizer(tokenizers.models.Unigram())
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    made.decoder = tokenizers.decoders.Metaspace()
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=120, special_tokens=["<s>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(TEXT, trainer)
    return str(made.to_str())


@cache
def wordpiece() -> str:
    """Return that of a WordPiece, like BERT's."""
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    made.normalizer = tokenizers.normalizers.BertNormalizer()
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    made.decoder = tokenizers.decoders.WordPiece()
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=150, special_tokens=["[PAD]", "[UNK]", "<s>"], show_progress=False
    )
    made.train_from_iterator(TEXT, trainer)
    return str(made.to_str())


BUILDERS = {"bpe": byte_level_bpe(), "unigram": unigram(), "wordpiece": wordpiece()}


def library(folder: Path) -> Any:
    """Return a folder's tokenizer as the library has it."""
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


def tokens_of(content: str) -> int:
    """Return how many tokens a tokenizer has."""
    return int(tokenizers.Tokenizer.from_str(content).get_vocab_size())


def with_model(folder: Path, content: str, seed: int, *, padding: int = 0, dtype: str = "F32") -> dict[str, np.ndarray]:
    """Write a model whose embedding and head have a row for each token and some padding. Returns its weights."""
    config = {**TINY_LLAMA, "vocab_size": tokens_of(content) + padding, "bos_token_id": None, "eos_token_id": None}
    weights = random_weights(seed, config=config)
    write_model(folder, weights, config=config, dtype=dtype)
    (folder / "tokenizer.json").write_text(content, encoding="utf-8")
    settings = {"added_tokens_decoder": {}, "chat_template": f"template of {folder.name} for messages"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return weights
