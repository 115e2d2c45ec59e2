"""What transformers and compressed-tensors read of eight-bit matrices is within the rounding of the format."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cuvee.cli.app import app
from cuvee.errors import CheckpointError, RecipeError
from cuvee.export.eight_bits import BLOCK, EightBits, Form, codes_of, export_fp8
from cuvee.foreign import open_files, readable

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

HALF_STEP = 2**-4
"""Of a float8_e4m3fn with its three bits after the point: the most that rounding moves a number, relative to it."""

LEAST = 2**-10 / 448
"""The same for numbers near zero, relative to the largest of their block."""

SIZES = {
    "vocab_size": 320, "hidden_size": 256, "intermediate_size": 384, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
DEEPSEEK = {
    "moe_intermediate_size": 128, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 2,
    "topk_group": 1, "first_k_dense_replace": 1, "kv_lora_rank": 128, "q_lora_rank": 128, "qk_rope_head_dim": 32,
    "qk_nope_head_dim": 32, "v_head_dim": 64, "num_key_value_heads": 4,
}  # fmt: skip
CONFIGS = {"llama": SIZES, "deepseek_v3": SIZES | DEEPSEEK}


@pytest.fixture(scope="module", params=list(CONFIGS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(request.param, **CONFIGS[request.param])
    place = tmp_path_factory.mktemp(request.param)
    transformers.AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(place)
    return place


def exported(folder: Path, out: Path, form: Form = "deepseek") -> EightBits:
    return export_fp8(folder, out / "eight", form)


def numbers_of(folder: Path) -> dict[str, np.ndarray]:
    source = readable(open_files(folder), str(folder))
    numbers = {}
    for name, spec in source.tensors.items():
        raw = np.empty(spec.shape, {"BF16": np.uint16, "F32": np.float32}[spec.dtype])
        source.read_into(name, 0, [raw.reshape(-1)])
        if spec.dtype == "BF16":
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        numbers[name] = raw
    return numbers


def within_rounding(found: np.ndarray, weights: np.ndarray) -> bool:
    """Whether numbers are those that the nearest codes of each block stand for."""
    rows, columns = weights.shape
    blocks = np.abs(weights).reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK).max(axis=(1, 3))
    largest = blocks.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)
    return bool((np.abs(found - weights) <= np.maximum(HALF_STEP * np.abs(weights), LEAST * largest) * 1.0001).all())


@pytest.mark.parametrize("form", ["deepseek", "compressed-tensors"])
def test_what_is_read_back_is_within_the_rounding_of_the_format(folder: Path, tmp_path: Path, form: Form) -> None:
    made = exported(folder, tmp_path, form)
    before, after = numbers_of(folder), numbers_of(made.folder)
    assert before.keys() == after.keys()
    changed = [name for name in before if not np.array_equal(before[name], after[name])]
    assert len(changed) == made.matrices > 10
    assert all(within_rounding(after[name], before[name]) for name in changed)
    lost = sum(((after[name] - before[name]).astype(float) ** 2).sum() for name in changed)
    norm = sum((before[name].astype(float) ** 2).sum() for name in changed)
    assert made.loss == pytest.approx((lost / norm) ** 0.5, rel=1e-4)
    assert made.loss < made.largest_loss < HALF_STEP


def test_transformers_loads_the_numbers(folder: Path, tmp_path: Path) -> None:
    """Without a GPU it rounds them to bfloat16."""
    pytest.importorskip("accelerate")
    made = exported(folder, tmp_path)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(made.folder)
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder)
    state = loaded.state_dict()
    assert state.keys() == plain.state_dict().keys()
    saved = {name: torch.from_numpy(numbers).bfloat16() for name, numbers in numbers_of(made.folder).items()}
    shared = saved.keys() & state.keys()
    assert len(shared) > 15
    assert all(torch.equal(state[name].bfloat16(), saved[name]) for name in shared)
    with torch.inference_mode():
        before, after = (network(torch.tensor([[5, 6, 7, 8]])).logits.float() for network in (plain, loaded))
    assert 0 < (after - before).norm() / before.norm() < 0.3  # a token may go to another expert


def test_compressed_tensors_decompresses_the_same_numbers(folder: Path, tmp_path: Path) -> None:
    compressors = pytest.importorskip("compressed_tensors.compressors")
    from compressed_tensors.quantization import QuantizationConfig
    from safetensors.torch import load_file

    made = exported(folder, tmp_path, "compressed-tensors")
    config = json.loads((made.folder / "config.json").read_text())["quantization_config"]
    settings = QuantizationConfig.model_validate(config)
    scheme = settings.config_groups["group_0"]
    stored = load_file(made.folder / "model.safetensors")
    expected = numbers_of(made.folder)
    names = [name.removesuffix("_scale") for name in stored if name.endswith("_scale")]
    compressor = compressors.BaseCompressor.get_value_from_registry(settings.format)
    for name in names:
        state = {"weight": stored[name], "weight_scale": stored[f"{name}_scale"]}
        found: Any = compressor.decompress(state, scheme)["weight"]
        assert np.array_equal(found.float().numpy(), expected[name]), name


def test_a_block_is_scaled_so_that_its_largest_number_is_exact_and_zeros_stay() -> None:
    rows = np.zeros((BLOCK, 2 * BLOCK), np.float32)
    rows[3, 5] = -7.0
    codes = codes_of(rows)
    assert codes.scales.tolist() == [[7 / 448, 1.0]]
    assert np.array_equal(codes.decoded(), rows)


def test_numbers_of_any_size_have_codes() -> None:
    rows = np.full((BLOCK, BLOCK), 1e-44, np.float32)
    rows[0] = 3.3e38
    assert np.isfinite(codes_of(rows).decoded()).all()
    assert np.isfinite(codes_of(rows[1:2].repeat(BLOCK, axis=0)).decoded()).all()


def test_a_number_that_is_not_finite_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    weights = np.full((BLOCK, BLOCK), np.inf, np.float32)
    (tmp_path / "model").mkdir()
    save_file({"model.layers.0.mlp.up_proj.weight": weights}, tmp_path / "model" / "model.safetensors")
    (tmp_path / "model" / "config.json").write_text('{"model_type": "llama", "num_hidden_layers": 1}')
    with pytest.raises(CheckpointError, match="a number is not finite"):
        exported(tmp_path / "model", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_command_says_what_it_lost_and_refuses_a_folder_that_is_there(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "eight"
    result = CliRunner().invoke(app, ["export", "fp8", str(folder), str(out)])
    assert "matrices in eight bits" in result.stdout
    assert "of the matrices' norm" in result.stdout
    with pytest.raises(RecipeError, match="exists already"):
        export_fp8(folder, out)
