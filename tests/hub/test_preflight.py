"""A recipe of two models shaped like an 8B is looked over with a few kilobytes; all that is wrong is told at once."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

import cuvee
from cuvee.checkpoint.write import OutputTensor, lay_out
from cuvee.errors import CuveeError
from cuvee.hub import Hub
from cuvee.testing import TINY_LLAMA, llama_shapes, random_weights, write_model
from hub.server import Given, LocalHub, Repo, Sparse

EIGHT_B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "torch_dtype": "bfloat16",
}
RECIPE = "merge_method: linear\nmodels: [{model: org/a}, {model: org/b}]\nparameters: {weight: 0.5}"


def put(server: LocalHub, name: str, config: Mapping[str, object], dtypes: Mapping[str, str], lost: int = 0) -> None:
    """Put a model of headers and zeros on the hub; of its last files `lost` are missing."""
    tensors = [
        OutputTensor(tensor, dtypes.get(tensor, "BF16"), shape) for tensor, shape in llama_shapes(config).items()
    ]
    shards = lay_out(tensors, 5_000_000_000)
    weight_map = {tensor.name: shard.file for shard in shards for tensor in shard.tensors}
    kept = shards[: len(shards) - lost]
    repo = Repo({shard.file: Sparse(shard.header, shard.nbytes) for shard in kept})
    repo.files["config.json"] = Given(json.dumps(config).encode())
    repo.files["model.safetensors.index.json"] = Given(json.dumps({"weight_map": weight_map}).encode())
    server.repos[name] = repo


def test_a_sound_recipe_transfers_under_two_megabytes(hub: Hub, server: LocalHub) -> None:
    for name in ("org/a", "org/b"):
        put(server, name, EIGHT_B, {})
    roomy = Hub(endpoint=server.address, cache=hub.cache, free_bytes=lambda _: 10**15)
    plan = cuvee.make_plan(cuvee.recipe_from_text(RECIPE), hub=roomy)
    assert plan.parameters == 8_030_261_248
    assert plan.forecast.bytes_downloaded > 32e9
    assert server.sent < 2_000_000


def test_all_that_is_wrong_is_told_at_once(hub: Hub, server: LocalHub) -> None:
    put(server, "org/a", EIGHT_B, {})
    other = {**EIGHT_B, "num_hidden_layers": 30, "vocab_size": 128264}
    put(server, "org/b", other, {"model.layers.0.mlp.up_proj.weight": "F32"}, lost=1)
    small = Hub(endpoint=server.address, cache=hub.cache, free_bytes=lambda _: 10**9)
    with pytest.raises(CuveeError) as caught:
        cuvee.make_plan(cuvee.recipe_from_text(RECIPE), hub=small)
    said = str(caught.value)
    assert server.sent < 2_000_000
    for words in (
        "org/b: missing model-00004-of-00004.safetensors",
        "org/b: has 30 layers in 'model.layers', and org/a has 32",
        "'model.embed_tokens.weight' has different shapes: [128256, 4096] in org/a, [128264, 4096] in org/b",
        "'model.layers.0.mlp.up_proj.weight': inputs are BF16 in org/a, F32 in org/b, so F32 is written",
        "the downloads take 30.3 GB",
    ):
        assert words in said, said
    assert len(caught.value.problems) < 8


@pytest.mark.parametrize("dtype", ["F8_E4M3", "I8"])
def test_codes_are_told_with_the_rest(dtype: str, hub: Hub, server: LocalHub) -> None:
    put(server, "org/a", EIGHT_B, {})
    codes = dict.fromkeys(llama_shapes(EIGHT_B), dtype)
    put(server, "org/b", {**EIGHT_B, "num_hidden_layers": 30}, codes)
    roomy = Hub(endpoint=server.address, cache=hub.cache, free_bytes=lambda _: 10**15)
    with pytest.raises(CuveeError) as caught:
        cuvee.make_plan(cuvee.recipe_from_text(RECIPE), hub=roomy)
    assert "codes, not numbers" in str(caught.value)
    assert "has 30 layers" in str(caught.value)
    assert len(caught.value.problems) < 8


def test_a_missing_file_of_a_folder_is_told_with_the_rest(tmp_path: Path) -> None:
    folders = []
    for i, name in enumerate("ab"):
        config = {**TINY_LLAMA, "num_hidden_layers": 3 - i, "vocab_size": 64 + 8 * i}
        weights = random_weights(i, config=config)
        if i:
            weights["model.layers.0.mlp.up_proj.weight"] = weights["model.layers.0.mlp.up_proj.weight"][:40]
        folders.append(write_model(tmp_path / name, weights, config=config, shard_bytes=40_000))
    lost = sorted(folders[1].glob("*.safetensors"))[-1]
    lost.unlink()
    text = RECIPE.replace("org/a", str(folders[0])).replace("org/b", str(folders[1]))
    with pytest.raises(CuveeError) as caught:
        cuvee.make_plan(cuvee.recipe_from_text(text))
    said = str(caught.value)
    for words in (
        f"b: missing {lost.name}, named by model.safetensors.index.json",
        "b: has 2 layers in 'model.layers', and ",
        "'model.embed_tokens.weight' has different shapes: [64, 32] in ",
        "'model.layers.0.mlp.up_proj.weight' has different shapes: [48, 32] in ",
    ):
        assert words in said, said
    assert "lm_head" not in said  # it is in the file that is missing: nothing is known of it
