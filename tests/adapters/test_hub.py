"""Adapters of a hub: planned from config and header, pinned, downloaded once, used offline."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import cuvee
from adapters.made import write_adapter, write_tensors
from cuvee.checkpoint import weights_digest
from cuvee.engine.combine import How
from cuvee.errors import CheckpointError
from cuvee.hub import Hub
from cuvee.testing import TINY_LLAMA, llama_shapes, random_weights, write_model
from hub.server import LocalHub, running

SHAPES = {n.removesuffix(".weight"): s for n, s in llama_shapes(TINY_LLAMA).items() if "q_proj" in n}
RECIPE = "merge_method: passthrough\nmodels: [{model: org/base+org/lora@main}]\n"


@pytest.fixture
def server() -> Iterator[LocalHub]:
    with running(LocalHub()) as hub:
        yield hub


@pytest.fixture
def hub(server: LocalHub, tmp_path: Path) -> Hub:
    return Hub(endpoint=server.address, cache=tmp_path / "cache", sleep=lambda _: None)


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.fixture
def local(server: LocalHub, tmp_path: Path) -> Path:
    """A base and an adapter on the hub, which are also in folders; returns the folders' parent."""
    base = write_model(tmp_path / "local" / "base", random_weights(0), dtype="BF16")
    server.put("org/base", base, commit="0" * 40)
    ranks = dict.fromkeys(SHAPES, 4)
    adapter = write_adapter(
        tmp_path / "local" / "lora", ranks, seed=1, shape=SHAPES, alpha=8, base_model_name_or_path="org/base"
    )
    server.put("org/lora", adapter, commit="1" * 40)
    return tmp_path / "local"


def test_a_base_and_an_adapter_of_a_hub_are_as_in_folders(local: Path, hub: Hub, tmp_path: Path) -> None:
    here = RECIPE.replace("org/base", f"{local}/base").replace("org/lora@main", f"{local}/lora")
    expected = cuvee.merge(cuvee.recipe_from_text(here), tmp_path / "here").folder
    recipe = cuvee.recipe_from_text(RECIPE)
    plan = cuvee.make_plan(recipe, hub=hub)
    assert not list(hub.cache_folder.rglob("*.safetensors"))
    assert plan.forecast.bytes_downloaded > 0
    found = cuvee.merge(recipe, tmp_path / "out", hub=hub).folder
    assert weights_digest(found) == weights_digest(expected)
    inputs = json.loads((found / "cuvee.json").read_text())["inputs"]
    assert inputs[0]["model"] == "org/base+org/lora@main"
    assert inputs[0]["adapter_revision"] == "1" * 40
    assert cuvee.make_plan(recipe, hub=hub).digest == plan.digest
    assert cuvee.make_plan(recipe, hub=hub).forecast.bytes_downloaded == 0


def test_offline_the_cache_is_enough(local: Path, hub: Hub, server: LocalHub, tmp_path: Path) -> None:
    recipe = cuvee.recipe_from_text(RECIPE)
    cuvee.merge(recipe, tmp_path / "online", hub=hub)
    server.requests.clear()
    offline = Hub(offline=True, endpoint=server.address, cache=hub.cache)
    cuvee.merge(recipe, tmp_path / "offline", hub=offline)
    assert server.requests == []
    assert weights_digest(tmp_path / "offline") == weights_digest(tmp_path / "online")


def test_a_folder_and_an_adapter_of_a_hub_go_together(local: Path, hub: Hub, tmp_path: Path) -> None:
    text = RECIPE.replace("org/base", f"{local}/base")
    merged = cuvee.merge(cuvee.recipe_from_text(text), tmp_path / "out", hub=hub).folder
    assert weights_digest(merged) != weights_digest(local / "base")


def test_adapters_of_a_hub_are_combined(local: Path, hub: Hub, tmp_path: Path) -> None:
    made = cuvee.combine_adapters(["org/lora@main", f"{local}/lora"], [0.5, 0.5], tmp_path / "out", How(), hub=hub)
    same = cuvee.combine_adapters([f"{local}/lora"], [1], tmp_path / "one", How())
    assert {m.rank for m in made.modules} == {m.rank for m in same.modules} == {4}


def test_a_model_without_an_adapters_config_is_none(local: Path, hub: Hub) -> None:
    recipe = cuvee.recipe_from_text("merge_method: passthrough\nmodels: [{model: org/base+org/base}]\n")
    with pytest.raises(CheckpointError, match=r"expected adapter_config.json, found none"):
        cuvee.make_plan(recipe, hub=hub)


def test_a_hostile_adapter_of_a_hub_is_refused_before_its_weights(local: Path, hub: Hub, server: LocalHub) -> None:
    shutil.copytree(local / "lora", local / "evil")
    config = json.loads((local / "evil" / "adapter_config.json").read_text())
    config["auto_mapping"] = {"base_model_class": "x", "parent_library": "os"}
    (local / "evil" / "adapter_config.json").write_text(json.dumps(config))
    server.put("org/evil", local / "evil", commit="2" * 40)
    recipe = cuvee.recipe_from_text(RECIPE.replace("org/lora@main", "org/evil"))
    with pytest.raises(CheckpointError, match="'auto_mapping' names a module"):
        cuvee.make_plan(recipe, hub=hub)
    assert not list(hub.cache_folder.rglob("*.safetensors"))


def test_the_base_that_adapters_name_is_used_where_it_is_needed(local: Path, hub: Hub, tmp_path: Path) -> None:
    adapter = saving_its_head(local, "org/base")
    made = cuvee.combine_adapters([str(adapter)], [0.5], tmp_path / "out", How(), hub=hub)
    assert (made.folder / "adapter_model.safetensors").exists()


def test_a_quantised_base_is_resolved_to_the_weights_themselves(local: Path, hub: Hub, tmp_path: Path) -> None:
    adapter = saving_its_head(local, "org/base-bnb-4bit")
    cuvee.combine_adapters([str(adapter)], [0.5], tmp_path / "out", How(), hub=hub)
    shutil.rmtree(adapter)
    adapter = saving_its_head(local, "org/other-AWQ")
    with pytest.raises(CheckpointError, match=r"quantised org/other-AWQ; its weights are likely those of org/other"):
        cuvee.combine_adapters([str(adapter)], [0.5], tmp_path / "out2", How(), hub=hub)


def saving_its_head(local: Path, base: str) -> Path:
    """Write an adapter that holds a head of its own."""
    import numpy as np

    from adapters.made import PREFIX, write_tensors

    config = {"peft_type": "LORA", "r": 4, "modules_to_save": ["lm_head"], "base_model_name_or_path": base}
    return write_tensors(local / "saving", {f"{PREFIX}lm_head.weight": np.ones((64, 32), np.float32)}, config)


@pytest.mark.parametrize("kind", ["shards", "mlx"])
def test_shards_and_adapters_of_mlx_lm_are_as_in_folders(
    kind: str, local: Path, hub: Hub, server: LocalHub, tmp_path: Path
) -> None:
    folder = tmp_path / "local" / kind
    if kind == "shards":
        cuvee.combine_adapters([local / "lora"], [1.0], folder, How(shard_bytes=5000))
    else:
        module = next(iter(SHAPES))
        out, into = SHAPES[module]
        tensors = {
            f"{module}.lora_a": np.ones((into, 2), np.float32),
            f"{module}.lora_b": np.ones((2, out), np.float32),
        }
        config = {"fine_tune_type": "lora", "lora_parameters": {"rank": 2, "scale": 0.5}}
        write_tensors(folder, tensors, config, file="adapters.safetensors")
    server.put(f"org/{kind}", folder, commit="2" * 40)
    recipe = cuvee.recipe_from_text(RECIPE.replace("org/lora@main", f"org/{kind}@main"))
    here = cuvee.apply_adapter(local / "base", folder, tmp_path / "here").folder
    found = cuvee.merge(recipe, tmp_path / "out", hub=hub).folder
    assert weights_digest(found) == weights_digest(here)
    offline = Hub(offline=True, endpoint=server.address, cache=hub.cache)
    assert weights_digest(cuvee.merge(recipe, tmp_path / "again", hub=offline).folder) == weights_digest(here)
