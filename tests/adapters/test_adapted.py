"""`base+adapter` is what PEFT computes with the two, for every kind of adapter, in any chunks and by any thread."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import cuvee
from adapters.conftest import Made
from adapters.made import write_adapter
from cuvee.adapters import Adapted, open_adapter
from cuvee.checkpoint import MemoryCheckpoint, open_checkpoint, weights_digest
from cuvee.testing import write_model


def merged(made: Made, out: Path, **options: int) -> Path:
    recipe = f"merge_method: passthrough\nmodels: [{{model: '{made.base}+{made.adapter}'}}]\n"
    return cuvee.merge(cuvee.recipe_from_text(recipe), out, **options).folder


@pytest.mark.parametrize("kind", ["plain", "dora", "dora and fan_in_fan_out", "parameters"])
def test_the_same_bytes_in_any_chunks_and_threads(kind: str, adapters: Callable[..., Made], tmp_path: Path) -> None:
    made = adapters(kind)
    options = ({"chunk": 65_536}, {"threads": 3}, {})
    folders = [merged(made, tmp_path / str(i), **option) for i, option in enumerate(options)]
    assert len({weights_digest(folder) for folder in folders}) == 1


def test_an_adapter_takes_part_in_a_merge_like_a_model(adapters: Callable[..., Made], tmp_path: Path) -> None:
    made, other = adapters("plain"), adapters("plain", 1)
    whole = [merged(one, tmp_path / str(i)) for i, one in enumerate((made, other))]
    found = cuvee.merge(ties(made.base, f"{made.base}+{made.adapter}", f"{made.base}+{other.adapter}"), tmp_path / "x")
    expected = cuvee.merge(ties(made.base, *map(str, whole)), tmp_path / "y")
    assert weights_digest(found.folder) == weights_digest(expected.folder)
    inputs = json.loads((found.folder / "cuvee.json").read_text())["inputs"]
    assert inputs[1]["model"] == f"{made.base}+{made.adapter}"
    assert "+adapter_model.safetensors" in inputs[1]["files"]


def ties(base: Path, *models: str) -> "cuvee.Recipe":
    listed = ", ".join(f"{{model: '{model}', parameters: {{weight: 0.5}}}}" for model in models)
    text = f"merge_method: ties\nbase_model: {base}\nmodels: [{listed}]\nparameters: {{density: 0.5}}\n"
    return cuvee.recipe_from_text(text)


def test_another_scale_is_another_plan(adapters: Callable[..., Made], tmp_path: Path) -> None:
    made = adapters("plain")
    shutil.copytree(made.adapter, tmp_path / "a")
    recipe = cuvee.recipe_from_text(f"merge_method: passthrough\nmodels: [{{model: '{made.base}+{tmp_path}/a'}}]\n")
    before = cuvee.make_plan(recipe).digest
    config = tmp_path / "a" / "adapter_config.json"
    config.write_text(config.read_text().replace('"lora_alpha": 6', '"lora_alpha": 7'))
    assert cuvee.make_plan(recipe).digest != before


def test_prefixes_of_names_may_differ(adapters: Callable[..., Made], tmp_path: Path) -> None:
    """A base within a model of several parts calls its tensors otherwise than the adapter does."""
    made = adapters("plain")
    with open_checkpoint(made.base) as opened:
        inner = {f"language_model.{name}": opened.read(name) for name in opened.tensors}
        outer = MemoryCheckpoint(inner, opened.config)
        plain = Adapted(opened, open_adapter(made.adapter))
        found = Adapted(outer, open_adapter(made.adapter))
        name = "model.layers.1.self_attn.q_proj.weight"
        numbers = [np.empty(32 * 32, np.float32) for _ in range(2)]
        plain.read_into(name, 0, [numbers[0]])
        found.read_into(f"language_model.{name}", 0, [numbers[1]])
    assert (numbers[0] == numbers[1]).all()
    assert "matched with 'language_model.'" in found.notes[0]


@pytest.mark.parametrize(("method", "threads"), [("task_arithmetic", 1), ("ties", 2)])
def test_the_budget_holds_with_an_adapter_as_without(method: str, threads: int, large: Path, tmp_path: Path) -> None:
    recipes = [blend(large / size, method) for size in ("small", "whole")]
    cuvee.merge(recipes[0], tmp_path / "warm", threads=threads)  # compiles what is not compiled yet
    figures = cuvee.merge(recipes[1], tmp_path / "out", memory_bytes=BUDGET, threads=threads).figures
    assert figures.peak_memory_bytes < BUDGET


BUDGET = 60_000_000


def blend(folder: Path, method: str) -> "cuvee.Recipe":
    models = f"models: [{{model: {folder}/base+{folder}/a}}, {{model: {folder}/b}}]"
    settings = "weight: 0.5" + (", density: 0.4" if method == "ties" else "")
    text = f"merge_method: {method}\nbase_model: {folder}/base\n{models}\nparameters: {{{settings}}}\n"
    return cuvee.recipe_from_text(text)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of one matrix, together larger than the budget, and an adapter; the same small."""
    root, generator, module = tmp_path_factory.mktemp("large"), np.random.default_rng(0), "model.layers.0.q_proj"
    for size, shape in (("small", (40, 50)), ("whole", (3000, 4000))):
        for name in ("base", "b"):
            weights = {f"{module}.weight": generator.standard_normal(shape, np.float32)}
            write_model(root / size / name, weights, dtype="BF16")
        write_adapter(root / size / "a", {module: 16}, seed=0, shape=shape, alpha=8)
    return root
