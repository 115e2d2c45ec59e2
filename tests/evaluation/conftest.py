"""Tiny random models with tokenizers made on the spot, and the original competition's files where there are any."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from cuvee.evaluation.model import LanguageModel, load_model

START, END = "<s>", "</s>"
CHECKOUT = Path(__file__).parents[2]
COMPETITION_FILES = Path(os.environ.get("CUVEE_KIT_DATA", CHECKOUT.parent / "shared" / "data"))
"""Optional: CUVEE_KIT_DATA names the folder; without it, shared/data beside the checkout."""


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def byte_tokenizer(merges: tuple[str, ...] = (), *, start: bool = True) -> PreTrainedTokenizerFast:
    """Make a byte-level tokenizer; `merges` are two symbols with a space between, `Ġ` being a space."""
    symbols = [START, END, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    pairs = [(merge.split()[0], merge.split()[1]) for merge in merges]
    vocabulary = {symbol: place for place, symbol in enumerate([*symbols, *("".join(pair) for pair in pairs)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if start:
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{START} $A", special_tokens=[(START, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=START, eos_token=END)


def save_model(folder: Path, tokenizer: PreTrainedTokenizerFast, *, seed: int = 0, **changes: int) -> Path:
    """Write a random Llama that is sure enough of itself for its choices not to be ties."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    options = {**sizes, "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.3, **changes}
    config = LlamaConfig(vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=1, pad_token_id=None, **options)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "bytes", byte_tokenizer())


@pytest.fixture(scope="session")
def model(model_folder: Path) -> LanguageModel:
    return load_model(model_folder, device="cpu")


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., LanguageModel]:
    def make(*merges: str, start: bool = True, **changes: int) -> LanguageModel:
        folder = tmp_path_factory.mktemp("models") / "made"
        return load_model(save_model(folder, byte_tokenizer(merges, start=start), **changes), device="cpu")

    return make


@pytest.fixture(scope="session")
def competition_file() -> Callable[[str], Path]:
    def find(name: str) -> Path:
        if not (COMPETITION_FILES / name).is_file():
            pytest.skip("the original competition's files are not here; CUVEE_KIT_DATA names their folder")
        return COMPETITION_FILES / name

    return find
