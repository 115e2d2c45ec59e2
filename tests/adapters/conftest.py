"""Tiny models and adapters made by PEFT, whose own forward pass says what each of them computes."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

TOKENS = torch.arange(2 * 12).reshape(2, 12) % 64
SIZES: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 48, "max_position_embeddings": 64,
}  # fmt: skip
EXPERTS = {"num_local_experts": 4, "head_dim": 8}
SQUARE = SIZES | {"intermediate_size": 32}
QWEN_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "head_dim": 8, "decoder_sparse_step": 1}
GLM_EXPERTS = {"n_routed_experts": 4, "num_experts_per_tok": 2, "first_k_dense_replace": 1, "head_dim": 8, "n_group": 1}
LINEAR_ATTENTION = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}  # fmt: skip

lora_config = peft.tuners.lora.config

BASES: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES)),
    "biased": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, attention_bias=True)),
    "tied": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, tie_word_embeddings=True)),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    ),
    "gpt-oss": lambda: transformers.GptOssForCausalLM(transformers.GptOssConfig(**SIZES, **EXPERTS)),
    "square gpt-oss": lambda: transformers.GptOssForCausalLM(transformers.GptOssConfig(**SQUARE, **EXPERTS)),
    "mixtral": lambda: transformers.MixtralForCausalLM(transformers.MixtralConfig(**SIZES, **EXPERTS)),
    "qwen3-moe": lambda: transformers.Qwen3MoeForCausalLM(
        transformers.Qwen3MoeConfig(**SIZES, **QWEN_EXPERTS, moe_intermediate_size=24)
    ),
    "square qwen3-moe": lambda: transformers.Qwen3MoeForCausalLM(
        transformers.Qwen3MoeConfig(**SIZES, **QWEN_EXPERTS, moe_intermediate_size=32)
    ),
    "glm4-moe": lambda: transformers.Glm4MoeForCausalLM(
        transformers.Glm4MoeConfig(**SIZES, **GLM_EXPERTS, moe_intermediate_size=24)
    ),
    "qwen3.5-moe": lambda: transformers.Qwen3_5MoeForCausalLM(
        transformers.Qwen3_5MoeTextConfig(
            **SIZES, **QWEN_EXPERTS, **LINEAR_ATTENTION, moe_intermediate_size=24, shared_expert_intermediate_size=24
        )
    ),
}

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("llama", {"target_modules": ["q_proj", "v_proj", "down_proj"]}),
    "rslora": ("llama", {"target_modules": ["q_proj", "up_proj"], "use_rslora": True, "lora_alpha": 16}),
    "rank and alpha patterns": (
        "llama",
        {
            "target_modules": ["q_proj", "v_proj"],
            "rank_pattern": {"v_proj": 2, "^model.layers.1.*q_proj": 6},
            "alpha_pattern": {r"layers\.(0|1)\.self_attn\.v_proj": 12, "q_proj": 3},
        },
    ),
    "layers": ("llama", {"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": "(layers|h)"}),
    "fan_in_fan_out": ("gpt2", {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True}),
    "bias of all": ("gpt2", {"target_modules": ["c_attn"], "bias": "all", "fan_in_fan_out": True}),
    "bias of lora": ("gpt2", {"target_modules": ["c_attn"], "bias": "lora_only", "fan_in_fan_out": True}),
    "bias of B": ("gpt2", {"target_modules": ["c_attn"], "lora_bias": True, "fan_in_fan_out": True}),
    "embeddings": ("llama", {"target_modules": ["q_proj", "embed_tokens", "lm_head"]}),
    "tied embedding": ("tied", {"target_modules": ["q_proj", "embed_tokens"]}),
    "tied head": ("tied", {"target_modules": ["q_proj", "lm_head"]}),
    "modules_to_save": ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "norm"]}),
    "modules_to_save, tied": ("tied", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
    **{
        f"tied by demand, {what}": ("tied", {"target_modules": ["q_proj"], "ensure_weight_tying": True, **settings})
        for what, settings in {
            "factors": {"target_modules": ["q_proj", "embed_tokens"]},
            "factors of both": {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
            "saved": {"modules_to_save": ["embed_tokens"]},
            "saved head": {"modules_to_save": ["lm_head"]},
            "tokens": {"trainable_token_indices": [3, 5]},
        }.items()
    },
    "tokens": ("llama", {"target_modules": ["q_proj"], "trainable_token_indices": [3, 5]}),
    "tokens, tied": ("tied", {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [5, 3]}}),
    "dora": ("llama", {"target_modules": ["q_proj", "down_proj"], "use_dora": True}),
    "dora and embeddings": ("llama", {"target_modules": ["q_proj", "embed_tokens"], "use_dora": True}),
    "dora and fan_in_fan_out": ("gpt2", {"target_modules": ["c_attn"], "use_dora": True, "fan_in_fan_out": True}),
    "pissa": ("llama", {"target_modules": ["q_proj", "v_proj", "down_proj"], "init_lora_weights": "pissa"}),
    "pissa and rslora": (
        "llama",
        {
            "target_modules": ["q_proj", "up_proj"],
            "init_lora_weights": "pissa",
            "use_rslora": True,
            "rank_pattern": {"q_proj": 2},
        },
    ),
    "pissa and dora": ("llama", {"target_modules": ["q_proj"], "init_lora_weights": "pissa", "use_dora": True}),
    "pissa and embeddings": ("llama", {"target_modules": ["q_proj", "embed_tokens"], "init_lora_weights": "pissa"}),
    "pissa and fan_in_fan_out": (
        "gpt2",
        {"target_modules": ["c_attn", "c_fc"], "init_lora_weights": "pissa", "fan_in_fan_out": True},
    ),
    "olora": ("llama", {"target_modules": ["q_proj", "v_proj", "down_proj"], "init_lora_weights": "olora"}),
    "kasa": (
        "llama",
        {"target_modules": ["q_proj", "v_proj", "down_proj"], "kasa_config": lora_config.KasaConfig()},
    ),
    "bd-lora": (
        "llama",
        {
            "target_modules": ["q_proj", "v_proj", "down_proj"],
            "use_bdlora": lora_config.BdLoraConfig(["q_proj"], ["v_proj"], nblocks=2, match_strict=False),
        },
    ),
    "velora": ("llama", {"target_modules": ["q_proj"], "velora_config": lora_config.VeloraConfig(num_groups=4)}),
    "monteclora": ("llama", {"target_modules": ["q_proj"], "monteclora_config": lora_config.MontecloraConfig()}),
    "eva": (
        "llama",
        {"target_modules": ["q_proj"], "init_lora_weights": "eva", "eva_config": lora_config.EvaConfig()},
    ),
    "mica": ("llama", {"target_modules": ["q_proj"], "init_lora_weights": "mica"}),
    "orthogonal": ("llama", {"target_modules": ["q_proj"], "init_lora_weights": "orthogonal"}),
    "layer replication": (
        "llama",
        {"target_modules": ["q_proj", "v_proj"], "layer_replication": [[0, 2], [1, 2], [0, 1]]},
    ),
    "parameters": (
        "gpt-oss",
        {
            "target_modules": ["q_proj"],
            "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
        },
    ),
    **{
        f"parameters of {base}": (
            base,
            {"target_modules": ["q_proj"], "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]},
        )
        for base in ("square gpt-oss", "mixtral", "qwen3-moe", "glm4-moe", "qwen3.5-moe")
    },
    **{
        f"square matrices alone, {base}": (base, {"target_modules": [], "target_parameters": ["mlp.experts.down_proj"]})
        for base in ("square gpt-oss", "square qwen3-moe")
    },
    **{
        f"all linear maps of {base}": (base, {"target_modules": "all-linear"})
        for base in ("mixtral", "qwen3-moe", "glm4-moe")
    },
    "ranks by parameter": (
        "qwen3-moe",
        {
            "target_modules": [],
            "target_parameters": ["gate_up_proj", "down_proj"],
            "rank_pattern": {r".*\.gate_up_proj": 6},
            "alpha_pattern": {r".*\.down_proj": 11},
        },
    ),
}
"""Adapters by what is special about them: the base, and the arguments of PEFT's LoraConfig."""

RANK = {"r": 4, "lora_alpha": 6}


@dataclass(frozen=True)
class Made:
    """A base and an adapter in folders, and the logits that PEFT computes with the two."""

    base: Path
    adapter: Path
    logits: "torch.Tensor"


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Write a tiny base of a kind, once."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("base") / kind
            write_base(kind, made[kind])
        return made[kind]

    return make


def write_base(kind: str, folder: Path) -> None:
    """Write a tiny base of random numbers."""
    torch.manual_seed(len(kind))
    model = BASES[kind]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.15 + (parameter.ndim == 1 and "bias" not in kind))
    model.save_pretrained(folder)


@pytest.fixture(scope="session")
def adapters(bases: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Made]:
    """Write an adapter of a kind with random factors, and compute its logits by PEFT, once for each seed."""
    made: dict[tuple[str, int, tuple[tuple[str, int], ...]], Made] = {}

    def make(kind: str, seed: int = 0, **more: int) -> Made:
        key = (kind, seed, tuple(more.items()))
        if key not in made:
            folder = tmp_path_factory.mktemp("adapter") / f"{kind} {seed}"
            base = bases(KINDS[kind][0])
            made[key] = Made(base, folder, train(base, folder, seed, {**RANK, **KINDS[kind][1], **more}))
        return made[key]

    return make


def train(base: Path, folder: Path, seed: int, settings: dict[str, Any]) -> "torch.Tensor":
    """Write an adapter whose every number is random, as if it had been trained, and return its logits."""
    with quiet():
        torch.manual_seed(1000 + seed)
        model = peft.get_peft_model(load(base), peft.LoraConfig(**settings))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    fresh = "lora_A" in name or "lora_B" in name or "lora_embedding" in name
                    move = torch.randn_like(parameter) * 0.2
                    parameter.copy_(move if fresh else parameter + move)
        model.save_pretrained(folder)
        return logits(model)


@torch.no_grad()
def logits(model: Any) -> "torch.Tensor":
    return model.eval()(input_ids=TOKENS).logits


def load(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def peft_logits(base: Path, adapter: Path) -> "torch.Tensor":
    """Load an adapter over a base with PEFT and run it."""
    with quiet():
        return logits(peft.PeftModel.from_pretrained(load(base), adapter))


def relative_error(found: "torch.Tensor", expected: "torch.Tensor") -> float:
    return float((found - expected).norm() / expected.norm())


class quiet(warnings.catch_warnings):  # noqa: N801  # reads as a statement
    """PEFT warns of much that these tests do on purpose."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.simplefilter("ignore")
        return entered


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
