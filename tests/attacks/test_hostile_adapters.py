"""An adapter's config from a stranger is data: nothing that it names is imported, opened or run."""

import builtins
import importlib
import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cuvee
from adapters.made import PREFIX, write_adapter, write_tensors
from cuvee.adapters import open_adapter
from cuvee.adapters.catalogue import kinds
from cuvee.adapters.config import LORA_KEYS, parse_config
from cuvee.adapters.refused import REFUSED
from cuvee.errors import CheckpointError
from cuvee.testing import random_weights, write_model

PLAIN: dict[str, Any] = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}

HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "a library to import": (
        {"auto_mapping": {"base_model_class": "x", "parent_library": "evil_module"}}, "'auto_mapping' names a module",
    ),
    "a part of transformers that is no model": (
        {"auto_mapping": {"base_model_class": "x", "parent_library": "transformers.utils"}}, "'auto_mapping' names",
    ),
    "a class that is no name": (
        {"auto_mapping": {"base_model_class": "a.b", "parent_library": "transformers.models.llama"}}, "'auto_mapping'",
    ),
    "a core to import": ({"megatron_core": "evil_module", "megatron_config": {"a": 1}}, "'megatron_core' names"),
    "arguments of a tokenizer": ({"tokenizer_kwargs": {"trust_remote_code": True}}, "'tokenizer_kwargs' is not known"),
    "code to trust": ({"trust_remote_code": True}, "'trust_remote_code' is not known"),
    "a mapping to code": ({"auto_map": {"AutoModel": "evil--x"}}, "'auto_map' is not known"),
    "a file to write": ({"save_path": "/etc/cron.d/x"}, "'save_path' is not known"),
    "a kind that nobody knows": ({"peft_type": "NEW"}, "the kind of adapter 'NEW' is not known"),
    "a kind that is no text": ({"peft_type": ["LORA"]}, "found no peft_type"),
    "a kind without a change": ({"peft_type": "P_TUNING", "x": 1, "y": 2}, "changes no weight: load it with PEFT"),
    "another kind with LoRA's variants": ({"peft_type": "ADALORA", "use_dora": True}, "'use_dora' is not known"),
    "no kind": ({"peft_type": None}, "found no peft_type"),
    "a rank of none": ({"r": 0}, "'r': expected a rank"),
    "a rank that is huge": ({"r": 1 << 60}, "'r': expected a rank"),
    "a rank that is a text": ({"r": "8"}, "'r': expected a rank"),
    "a scale without end": ({"lora_alpha": 1e300}, "'lora_alpha': expected a number"),
    "a switch that is a text": ({"use_rslora": "yes"}, "'use_rslora': expected true or false"),
    "names that are numbers": ({"target_modules": [1]}, "'target_modules': expected"),
    "PiSSA by chance": ({"init_lora_weights": "pissa_niter_4"}, "draws at random what it takes out of the base"),
    "LoftQ": ({"init_lora_weights": "loftq"}, "LoftQ quantises the base anew"),
    "CorDA": ({"init_lora_weights": "corda"}, "CorDA takes directions out of the base"),
    "LoRA-GA": ({"init_lora_weights": "lora_ga"}, "LoRA-GA takes a product out of the base"),
    "two starts": ({"init_lora_weights": "pissa", "kasa_config": {"beta": 1}}, "take from the base in turn"),
    "two variants": ({"use_dora": True, "kasa_config": {"beta": 1}}, "whose function PEFT does not define"),
    "another start": ({"init_lora_weights": "new"}, "init_lora_weights is 'new', which is not known"),
    "invocation tokens": ({"alora_invocation_tokens": [1]}, "aLoRA"),
    "layers that end before they begin": ({"layer_replication": [[2, 0]]}, "'layer_replication': expected pairs"),
    "layers without number": ({"layer_replication": [[0, 1]] * 2000}, "'layer_replication': expected pairs"),
    "KaSA without its diagonal": ({"kasa_config": {"beta": 1}}, "has no lora_diag of 4 numbers"),
    "blocks of more rows than there are": (
        {"use_bdlora": {"target_modules_bd_a": ["q"], "nblocks": 3}}, "is not of 3 blocks",
    ),
    "a lookahead": ({"alpha_pattern": {"(?=x)q_proj": 1}}, "kind that is not supported"),
    "groups within groups": ({"rank_pattern": {"((((a))))": 1}}, "within each other"),
    "a pattern that never ends": ({"alpha_pattern": {"a" * 3000: 1}}, "is too long"),
    "a class without an end": ({"alpha_pattern": {"[a": 1}}, "ends too early"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_config_does_nothing_but_an_error(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change, complaint = HOSTILE[kind]
    folder = write_adapter(tmp_path / "a", {"q_proj": 4}, seed=0, shape=(8, 8), alpha=8, **change)
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = sorted(tmp_path.rglob("*"))
    forbid(monkeypatch)
    with pytest.raises(CheckpointError, match=complaint.replace("(", r"\(")):
        open_adapter(folder)
    assert "evil_module" not in sys.modules
    assert sorted(tmp_path.rglob("*")) == before


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every import by name, evaluation and connection fail the test."""

    def refuse(*given: object, **_: object) -> None:
        raise AssertionError(f"{given[:1]} was called")

    monkeypatch.setattr(importlib, "import_module", refuse)
    monkeypatch.setattr(builtins, "eval", refuse)
    monkeypatch.setattr(builtins, "exec", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def keys_of_kinds() -> list[tuple[str, str]]:
    found = [(kind.name, key) for kind in kinds().values() for key in kind.keys]
    patterns = [(kind.name, k.pattern) for kind in kinds().values() for k in kind.keys.values() if k.pattern]
    of_lora = [("LORA", key) for key in LORA_KEYS if key != "peft_type"]
    return [*found, *patterns, *of_lora, *((name, key) for name in kinds() for key in COMMON)]


COMMON = (
    "task_type", "peft_version", "base_model_name_or_path", "target_modules", "exclude_modules", "modules_to_save",
    "layers_to_transform", "layers_pattern", "bias", "fan_in_fan_out", "init_weights", "auto_mapping",
)  # fmt: skip
WRONG: list[Any] = [
    {"a": {"b": "evil_module"}}, [{"a": 1}], [[["x"]]], "\x00\n", 1e300, "x" * 5000, {"(?=x)": [[]]}, [None],
    {"a": None},
]  # fmt: skip
"""Values that no key of any kind may have."""


SETTINGS = (
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "runtime_config",
    "monteclora_config",
    "velora_config",
)
"""Keys of LoRA that hold settings of the training by name, some of them null."""


@pytest.mark.parametrize("kind", ["LORA", *sorted(kinds())])
def test_no_key_of_any_kind_takes_a_value_of_a_wrong_type(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid(monkeypatch)
    accepted = []
    for key in [key for name, key in keys_of_kinds() if name == kind]:
        for value in WRONG:
            try:
                parse_config(json.dumps({"peft_type": kind, "target_modules": ["q_proj"], key: value}), "here")
            except CheckpointError:
                continue
            if key not in SETTINGS or value != {"a": None}:
                accepted.append((key, value))
    assert not accepted


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_no_kind_takes_a_key_that_is_not_its_own(kind: str) -> None:
    text = json.dumps(
        {"peft_type": kind, "target_modules": ["q_proj"], "tokenizer_kwargs": {"trust_remote_code": True}}
    )
    with pytest.raises(CheckpointError, match="'tokenizer_kwargs' is not known"):
        parse_config(text, "here")


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_a_kind_without_a_change_is_one_problem_that_says_what_to_do(kind: str) -> None:
    with pytest.raises(CheckpointError, match="cannot be used") as caught:
        parse_config(json.dumps({"peft_type": kind, "a": 1, "b": 2}), "here")
    assert not caught.value.problems
    assert "load it with PEFT" in str(caught.value) or "merge_and_unload" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"r": NaN}', '{"r": 1, "r": 2}', "[" * 100_000, '"LORA"', '{"peft_type": "LORA", "r": 1e999}'],
)
def test_what_is_no_config_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError):
        parse_config(text, "here")


def test_a_path_as_base_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").mkdir()
    folder = write_adapter(
        tmp_path / "a", {"q_proj": 4}, seed=0, shape=(8, 8), alpha=8, base_model_name_or_path=str(tmp_path / "secret"),
        modules_to_save=["lm_head"],
    )  # fmt: skip
    forbid(monkeypatch)
    assert open_adapter(folder).config.base == str(tmp_path / "secret")


@pytest.mark.parametrize(
    "pattern", ["(a|a|a)*" * 3, "(.*)*" * 3 + "z", ".*" * 40 + "z", "(a?){99}a{99}z", "(|||)*" * 9]
)
def test_no_pattern_takes_long(pattern: str) -> None:
    config = parse_config(json.dumps(PLAIN | {"alpha_pattern": {pattern: 1}}), "here")
    started = time.process_time()
    config.scale_of("a" * 200)
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("pattern", "module", "matches"),
    [
        ("q_proj", "model.layers.0.self_attn.q_proj", True),
        ("proj", "model.layers.0.self_attn.q_proj", False),
        ("^model.layers.(0|1).*q_proj", "model.layers.1.self_attn.q_proj", True),
        ("^layers", "model.layers", False),
        (r"layers\.[0-3]\.self_attn\.[kv]_proj", "model.layers.2.self_attn.v_proj", True),
        (r"layers\.\d+\.mlp\.(?:up|down)_proj$", "model.layers.12.mlp.up_proj", True),
        (r"layers\.\d{2}\.mlp", "model.layers.2.mlp", False),
        (r"[^.]+", "model.layers", True),
    ],
)
def test_patterns_match_as_in_peft(pattern: str, module: str, matches: bool) -> None:
    import re

    config = parse_config(json.dumps(PLAIN | {"alpha_pattern": {pattern: 4}}), "here")
    assert (config.scale_of(module) == 1) is matches
    assert bool(re.match(rf"(.*\.)?({pattern})$", module)) is matches


def test_what_peft_writes_by_itself_is_harmless(tmp_path: Path) -> None:
    mapping = {"base_model_class": "LlamaForCausalLM", "parent_library": "transformers.models.llama.modeling_llama"}
    usual = {
        "auto_mapping": mapping, "megatron_core": "megatron.core", "loftq_config": {}, "new_switch": False,
        "qalora_group_size": 16, "task_type": "CAUSAL_LM", "peft_version": "0.99",
    }  # fmt: skip
    folder = write_adapter(tmp_path / "a", {"q_proj": 4}, seed=0, shape=(8, 8), alpha=8, **usual)
    assert open_adapter(folder).config.scale_of("q_proj") == 2


A = f"{PREFIX}q_proj.lora_A.weight"
B = f"{PREFIX}q_proj.lora_B.weight"
FILES: dict[str, tuple[dict[str, tuple[int, ...]], str]] = {
    "no B": ({A: (4, 8)}, "has no lora_B"),
    "no A": ({B: (8, 4)}, "has no lora_A"),
    "ranks that differ": ({A: (4, 8), B: (8, 5)}, r"have shapes \[4, 8\] and \[8, 5\]"),
    "a rank that the config does not have": ({A: (6, 8), B: (8, 6)}, "its rank is 4 by the config"),
    "an empty factor": ({A: (0,), B: (8, 4)}, "is empty: shards were not gathered"),
    "a module that is not targeted": (
        {A: (4, 8), B: (8, 4), f"{PREFIX}x.lora_A.weight": (4, 8), f"{PREFIX}x.lora_B.weight": (8, 4)},
        "its config does not target: PEFT would leave them out",
    ),
    "a name without the prefix of the others": (
        {A: (4, 8), B: (8, 4), "v_proj.lora_A.weight": (4, 8)}, "does not begin with 'base_model.model.'",
    ),
    "no prefix and no B": ({"q_proj.lora_A.weight": (4, 8)}, "has no lora_B"),
    "a part of another method": ({A: (4, 8), B: (8, 4), f"{PREFIX}q_proj.lora_E": (4, 1)}, "nothing that a LoRA"),
    "an adapter's name in the names": ({f"{PREFIX}q_proj.lora_A.default.weight": (4, 8)}, "has no lora_B"),
    "a length without DoRA": ({A: (4, 8), B: (8, 4), f"{PREFIX}q_proj.lora_magnitude_vector": (8,)}, "use_dora is"),
    "a bias that is switched off": ({A: (4, 8), B: (8, 4), f"{PREFIX}q_proj.lora_B.bias": (8,)}, "lora_bias is false"),
    "convolutions one after the other": ({A: (4, 8, 3, 3), B: (8, 4, 3, 3)}, "neither of a matrix nor of a conv"),
    "factors of many axes": ({A: (4, 8, 1, 1, 1, 1), B: (8, 4, 1, 1, 1, 1)}, "neither of a matrix nor of a conv"),
    "names of a diffusion model": ({"lora_te_text_model_q_proj.lora_down.weight": (4, 8)}, "named as kohya's scripts"),
    "factors without axes": ({A: (), B: (8, 4)}, "neither of a matrix nor of a conv"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_tensors_that_do_not_fit_the_config_are_named(kind: str, tmp_path: Path) -> None:
    shapes, complaint = FILES[kind]
    folder = write_tensors(tmp_path / "a", {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, PLAIN)
    with pytest.raises(CheckpointError, match=complaint):
        open_adapter(folder)


@pytest.mark.parametrize(
    ("tensors", "complaint"),
    [
        ({"model.layers.9.self_attn.q_proj": (32, 32)}, "changes 'model.layers.9.self_attn.q_proj.weight', which"),
        ({"model.layers.0.self_attn.q_proj": (32, 16)}, r"has shape \[32, 32\], and the factors' product \[32, 16\]"),
    ],
)
def test_an_adapter_of_another_base_is_refused_by_name(
    tensors: dict[str, tuple[int, int]], complaint: str, tmp_path: Path
) -> None:
    base = write_model(tmp_path / "base", random_weights(0))
    adapter = write_adapter(tmp_path / "a", dict.fromkeys(tensors, 4), seed=0, shape=tensors, alpha=8)
    recipe = cuvee.recipe_from_text(f"merge_method: passthrough\nmodels: [{{model: '{base}+{adapter}'}}]\n")
    with pytest.raises(CheckpointError, match=complaint):
        cuvee.make_plan(recipe)


def test_an_adapter_alone_is_no_model(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a", {"q_proj": 4}, seed=0, shape=(8, 8), alpha=8)
    recipe = cuvee.recipe_from_text(f"merge_method: passthrough\nmodels: [{{model: {adapter}}}]\n")
    with pytest.raises(CheckpointError, match=r"this is an adapter \(LoRA\), not a model") as caught:
        cuvee.make_plan(recipe)
    assert "base+adapter" in str(caught.value)


def test_numbers_that_are_not_finite_stop_the_merge(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", random_weights(0))
    module = "model.layers.0.self_attn.q_proj"
    tensors = {
        f"{PREFIX}{module}.lora_A.weight": np.full((4, 32), np.nan, np.float32),
        f"{PREFIX}{module}.lora_B.weight": np.zeros((32, 4), np.float32),
    }
    adapter = write_tensors(tmp_path / "a", tensors, PLAIN | {"target_modules": [module]})
    recipe = cuvee.recipe_from_text(f"merge_method: passthrough\nmodels: [{{model: '{base}+{adapter}'}}]\n")
    with pytest.raises(CheckpointError, match="not finite"):
        cuvee.merge(recipe, tmp_path / "out")
