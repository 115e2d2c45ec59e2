"""Every recipe shape of mergekit's examples, guides and tests merges, or is refused, as the page of them says."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cuvee.api import stages_from_text
from cuvee.checkpoint import open_checkpoint
from cuvee.checkpoint.dtypes import NUMPY
from cuvee.engine import merge_stages
from cuvee.errors import CuveeError
from cuvee.hub import Hub
from cuvee.plan.resolve import FoundModel
from cuvee.plan.stages import plan_stages
from cuvee.recipe.slips import Slip
from cuvee.testing import TINY_LLAMA, random_weights, write_model
from cuvee.upcycle import plan_mixture, read_upcycling, upcycle
from docs.pages import DOCS

Row = Mapping[str, Any]
Slips = tuple[Slip, ...]

SOURCES: Mapping[str, list[Row]] = yaml.safe_load((DOCS / "mergekit_recipes.yaml").read_text("utf-8"))["sources"]
ROWS = [pytest.param(row, id=row["shape"]) for rows in SOURCES.values() for row in rows]

SIZES: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 64,
}  # fmt: skip
PICTURE = {
    "model_type": "clip_vision_model", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48, "image_size": 8, "patch_size": 4,
}  # fmt: skip
NETWORKS: Mapping[str, Callable[[Any], Any]] = {
    "granite": lambda t: t.GraniteForCausalLM(t.GraniteConfig(**SIZES)),
    "gpt2": lambda t: t.GPT2LMHeadModel(t.GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64)),
    "llava": lambda t: t.LlavaForConditionalGeneration(
        t.LlavaConfig(text_config=SIZES | {"model_type": "llama"}, vision_config=PICTURE)
    ),
    "qwen2": lambda t: t.Qwen2ForCausalLM(t.Qwen2Config(**SIZES | {"num_key_value_heads": 2})),
    "phi": lambda t: t.PhiForCausalLM(t.PhiConfig(**SIZES)),
    "longer phi": lambda t: t.PhiForCausalLM(t.PhiConfig(**SIZES | {"vocab_size": 66})),
}


def tokenizer(count: int, *added: str) -> str:
    """Return a tokenizer.json of so many numbered tokens, and of added ones behind them."""
    words = ["<unk>", "<s>", "</s>", *(f"_tok_{i}" for i in range(3, count))]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    entries = [{"id": count + i, "content": text, **flags} for i, text in enumerate(added)]
    model = {"type": "BPE", "vocab": {word: i for i, word in enumerate(words)}, "merges": [], "unk_token": "<unk>"}
    return json.dumps({"version": "1.0", "model": model, "added_tokens": entries})


def with_tokenizer(folder: Path, text: str) -> None:
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}', encoding="utf-8")


def llama(folder: Path, seed: int, vocabulary: int = 64) -> Path:
    config = TINY_LLAMA | {"vocab_size": vocabulary}
    base = random_weights(0, config=config)
    return write_model(folder, random_weights(seed, base=base, config=config), config=config)


def network(folder: Path, seed: int, kind: str) -> Path:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    NETWORKS[kind](transformers).save_pretrained(folder)
    return folder


def write_llamas(here: Path) -> None:
    for seed, name in enumerate("abcd", 1):
        llama(here / name, seed)


def write_words(here: Path) -> None:
    with_tokenizer(llama(here / "base", 1), tokenizer(64))
    (here / "base" / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    with_tokenizer(llama(here / "chat", 2, 66), tokenizer(64, "<|im_start|>", "<|im_end|>"))
    with_tokenizer(llama(here / "padded", 3), tokenizer(64, *(f"<UNUSED_{i}>" for i in range(4))))
    with_tokenizer(llama(here / "special", 4, 65), tokenizer(64, "<|there|>"))


def write_sizes(here: Path) -> None:
    with_tokenizer(llama(here / "wide", 1, 10), tokenizer(10))
    with_tokenizer(llama(here / "narrow", 2, 8), tokenizer(8))


def write_types(here: Path) -> None:
    base = random_weights(0)
    mixed = {n: a if "norm" in n else a.astype(NUMPY["BF16"]) for n, a in random_weights(1, base=base).items()}
    write_model(here / "a", mixed)
    llama(here / "b", 2)


def write_talking(here: Path) -> None:
    for seed, name in enumerate("ab", 1):
        with_tokenizer(llama(here / name, seed), tokenizer(60, "one", "two", "three", "four"))


def write_biased(here: Path) -> None:
    for seed, name in enumerate("ab"):
        with_tokenizer(network(here / name, seed, "phi"), tokenizer(64))
    with_tokenizer(network(here / "longer", 2, "longer phi"), tokenizer(66))


def write_networks(here: Path, kind: str) -> None:
    for seed, name in enumerate("abc"):
        with_tokenizer(network(here / name, seed, kind), tokenizer(60, "one", "two", "three", "four"))


WRITERS: Mapping[str, Callable[[Path], None]] = {
    "llama": write_llamas,
    "words": write_words,
    "sizes": write_sizes,
    "types": write_types,
    "talk": write_talking,
    "biased": write_biased,
}


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder with the models of a family, which are written when they are first asked for."""
    folders: dict[str, Path] = {}

    def folder_of(family: str) -> Path:
        if family not in folders:
            folders[family] = tmp_path_factory.mktemp(family)
            if family in WRITERS:
                WRITERS[family](folders[family])
            else:
                write_networks(folders[family], family)
        return folders[family]

    return folder_of


def merged(text: str, folder: Path, out: Path) -> tuple[Path, Slips]:
    recipes = stages_from_text(text, folder=folder)
    plan_stages(recipes)
    return merge_stages(recipes, out).folder, tuple(slip for recipe in recipes for slip in recipe.slips)


def mixed(text: str, folder: Path, out: Path) -> tuple[Path, Slips]:
    file = out.with_suffix(".yaml")
    file.write_text(text, encoding="utf-8")
    recipe, text = read_upcycling(file)
    plan_mixture(recipe, text, folder=folder, hub=Hub(offline=True))
    models = {name: FoundModel(name, folder / name) for name in recipe.models}
    return upcycle(recipe, text, models, out).folder, recipe.slips


def done(row: Row, folder: Path, out: Path) -> tuple[Path, Slips]:
    """Do what the row's recipe asks for; returns the output and what was passed over."""
    recipe = row["recipe"]
    documents = recipe if isinstance(recipe, list) else [recipe]
    text = "\n---\n".join(
        json.dumps(document, indent=1) for document in documents
    )  # PyYAML leaves out quotes of "1e-5"
    return mixed(text, folder, out) if "experts" in documents[-1] else merged(text, folder, out)


@pytest.mark.parametrize("row", [row for row in ROWS if "refused" not in row.values[0]])
def test_a_recipe_of_mergekits_merges_and_passes_over_what_the_page_says(
    row: Row, families: Callable[[str], Path], tmp_path: Path
) -> None:
    out, slips = done(row, families(row["of"]), tmp_path / "out")
    assert sorted({word for slip in slips for word in [slip.message.split("'")[-2]]}) == row.get("passes over", [])
    with open_checkpoint(out) as made:
        assert all(np.isfinite(made.read(name).astype(np.float64)).all() for name in made.tensors)


@pytest.mark.parametrize("row", [row for row in ROWS if "refused" in row.values[0]])
def test_a_recipe_that_is_refused_is_so_for_the_reason_of_the_page(
    row: Row, families: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(CuveeError) as caught:
        done(row, families(row["of"]), tmp_path / "out")
    assert row["refused"] in str(caught.value)
    assert not (tmp_path / "out").exists()
