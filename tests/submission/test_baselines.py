"""The original competition's baselines and winners are recipes that plan against a hub with models of their shapes."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from cuvee.api import load_recipe
from cuvee.checkpoint.write import OutputTensor, lay_out
from cuvee.hub import Hub
from cuvee.plan import make_plan
from cuvee.recipe.reference import ModelRef
from cuvee.submission.gather import gather
from cuvee.submission.lock import make_lock
from cuvee.submission.rules import check_rules
from cuvee.submission.template import new_original, original_baselines
from cuvee.testing import llama_shapes
from hub.server import Given, LocalHub, Repo, Sparse, running

Shapes = Mapping[str, tuple[int, ...]]

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "torch_dtype": "bfloat16"}
TINY = LLAMA | {
    "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
    "num_key_value_heads": 4, "vocab_size": 32000,
}  # fmt: skip
SEVEN = LLAMA | {
    "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 32, "vocab_size": 32000,
}  # fmt: skip
EIGHT = SEVEN | {"intermediate_size": 14336, "num_key_value_heads": 8, "vocab_size": 128256}
FLAN = {
    "model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "d_model": 2048, "d_kv": 64, "d_ff": 5120,
    "num_layers": 24, "num_decoder_layers": 24, "num_heads": 32, "vocab_size": 32128, "tie_word_embeddings": False,
    "feed_forward_proj": "gated-gelu",
}  # fmt: skip
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


def t5_shapes() -> dict[str, tuple[int, ...]]:
    width, inner, hidden = 2048, 2048, 5120
    shapes: dict[str, tuple[int, ...]] = {"shared.weight": (32128, width), "lm_head.weight": (32128, width)}
    for stack in ("encoder", "decoder"):
        parts = ("SelfAttention",) if stack == "encoder" else ("SelfAttention", "EncDecAttention")
        for block in range(24):
            for place, part in enumerate(parts):
                at = f"{stack}.block.{block}.layer.{place}"
                shapes |= {f"{at}.{part}.{name}.weight": (inner, width) for name in "qkvo"}
                shapes[f"{at}.layer_norm.weight"] = (width,)
            at = f"{stack}.block.{block}.layer.{len(parts)}"
            shapes |= {f"{at}.DenseReluDense.{name}.weight": (hidden, width) for name in ("wi_0", "wi_1")}
            shapes |= {f"{at}.DenseReluDense.wo.weight": (width, hidden), f"{at}.layer_norm.weight": (width,)}
        shapes[f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] = (32, 32)
        shapes[f"{stack}.final_layer_norm.weight"] = (width,)
    return shapes


def put_model(server: LocalHub, name: str, config: Mapping[str, object], shapes: Shapes, commit: str) -> None:
    shards = lay_out([OutputTensor(tensor, "BF16", shape) for tensor, shape in shapes.items()], 5_000_000_000)
    weight_map = {tensor.name: shard.file for shard in shards for tensor in shard.tensors}
    repo = Repo({shard.file: Sparse(shard.header, shard.nbytes) for shard in shards}, commit=commit)
    repo.files["config.json"] = Given(json.dumps(config).encode())
    if len(shards) > 1:
        repo.files["model.safetensors.index.json"] = Given(json.dumps({"weight_map": weight_map}).encode())
    repo.card = {"license": "apache-2.0"}
    server.repos[name] = repo


def put_adapter(server: LocalHub, name: str, shapes: Shapes, rank: int, alpha: int, commit: str) -> None:
    """Put a LoRA of the matrices in `shapes` on the hub, with the config that PEFT writes."""
    factors = {}
    for matrix, (out, into) in shapes.items():
        at = f"base_model.model.{matrix.removesuffix('.weight')}"
        factors |= {f"{at}.lora_A.weight": (rank, into), f"{at}.lora_B.weight": (out, rank)}
    (shard,) = lay_out([OutputTensor(tensor, "F32", shape) for tensor, shape in factors.items()], 10**12)
    targets = sorted({matrix.split(".")[-2] for matrix in shapes})
    config = {
        "peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": targets, "bias": "none",
        "fan_in_fan_out": False, "base_model_name_or_path": "base", "inference_mode": True, "lora_dropout": 0.1,
        "modules_to_save": None, "megatron_core": "megatron.core", "megatron_config": None, "auto_mapping": None,
    }  # fmt: skip
    repo = Repo({"adapter_model.safetensors": Sparse(shard.header, shard.nbytes)}, commit=commit)
    repo.files["adapter_config.json"] = Given(json.dumps(config).encode())
    repo.card = {"license": "apache-2.0", "base_model": "base"}
    server.repos[name] = repo


def matrices(shapes: Shapes, names: tuple[str, ...]) -> Shapes:
    return {name: shape for name, shape in shapes.items() if name.split(".")[-2] in names}


def references() -> list[ModelRef]:
    return [model for recipe in original_baselines() for model in load_recipe(recipe).models()]


@pytest.fixture(scope="module")
def server() -> Iterator[LocalHub]:
    """A hub that has every model of the recipes, at the commits that they name."""
    known = {
        "TinyLlama": (TINY, llama_shapes(TINY)), "meta-llama": (SEVEN, llama_shapes(SEVEN)),
        "NousResearch": (EIGHT, llama_shapes(EIGHT)), "refuelai": (EIGHT, llama_shapes(EIGHT)),
        "google": (FLAN, t5_shapes()),
    }  # fmt: skip
    with running(LocalHub()) as hub:
        for model in references():
            config, shapes = known[model.path.split("/")[0]]
            put_model(hub, model.path, config, shapes, model.revision or "c" * 40)
            if model.adapter is None:
                continue
            rank = 16 if "lorahub" in model.adapter or "gsm8k" in model.adapter else 8
            places = matrices(shapes, ("q", "v") if "lorahub" in model.adapter else ATTENTION)
            put_adapter(hub, model.adapter, places, rank, 2 * rank, model.adapter_revision or "d" * 40)
        yield hub


@pytest.fixture
def hub(server: LocalHub, tmp_path: Path) -> Hub:
    cache = tmp_path / "cache"
    return Hub(endpoint=server.address, cache=cache, free_bytes=lambda _: 10**15, sleep=lambda _: None)


PARAMETERS = {
    "flan_t5_avg": 2_849_757_184,
    "geometric_median": 2_849_757_184,
    "llama_avg": 6_738_415_616,
    "simple_llama_merge": 8_030_261_248,
    "tiny_llama_avg": 1_100_048_384,
}


def test_all_five_are_there() -> None:
    assert [recipe.stem for recipe in original_baselines()] == sorted(PARAMETERS)


@pytest.mark.parametrize("recipe", original_baselines(), ids=lambda recipe: recipe.stem)
def test_a_recipe_plans_from_headers_alone(recipe: Path, hub: Hub, server: LocalHub) -> None:
    before = server.sent
    plan = make_plan(load_recipe(recipe), hub=hub)
    assert plan.parameters == PARAMETERS[recipe.stem]
    assert server.sent - before < 12_000_000
    assert plan.forecast.bytes_downloaded > 10**9


def test_the_second_place_follows_its_curves(hub: Hub) -> None:
    plan = make_plan(load_recipe(next(r for r in original_baselines() if r.stem == "simple_llama_merge")), hub=hub)
    t = {step.name: step.settings["t"] for step in plan.steps}
    assert t["model.layers.0.self_attn.q_proj.weight"] == 0
    assert t["model.layers.31.self_attn.q_proj.weight"] == 1
    assert t["model.layers.0.mlp.up_proj.weight"] == 1
    assert t["model.layers.31.mlp.up_proj.weight"] == 0
    assert t["model.norm.weight"] == 0.5


def test_each_keeps_the_rules_of_the_original_competition(hub: Hub, tmp_path: Path) -> None:
    competition = new_original(tmp_path / "original")
    for name in competition.ranking.baselines:
        lock = make_lock(load_recipe(competition.folder / name), hub=hub)
        findings = check_rules(competition.rules, gather(lock, "recipe", competition, hub))
        assert not [f for f in findings if f.outcome == "fail"]
