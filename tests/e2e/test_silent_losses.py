"""What merging tools lose without a word, each case beside a naive merge that loses it.

The naive merge is what people write in ten lines: the mean of what has the same name, cut to what is common, with the
config of the first model. Each test first shows that it goes wrong on the case, so that the case is a real one.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

import cuvee  # noqa: E402  # after the skips
from cuvee.checkpoint import open_checkpoint  # noqa: E402
from cuvee.cli import main  # noqa: E402
from cuvee.errors import CheckpointError  # noqa: E402
from cuvee.testing import random_weights, write_model  # noqa: E402
from families.zoo import FAMILIES  # noqa: E402
from tokenizers_made import TEXT, byte_level_bpe, library, with_model  # noqa: E402

LAYER = "model.layers.0.mlp.down_proj"
TWO = "merge_method: linear\nmodels: [{{model: {}}}, {{model: {}}}]\nparameters: {{weight: 0.5}}\n"


def naive(first: Path, second: Path, out: Path) -> Path:
    """Average what has the same name, cut to the common rows; the rest and the config are those of the first."""
    with open_checkpoint(first) as a, open_checkpoint(second) as b:
        made = {}
        for name in a.tensors:
            own = a.read(name)
            if name in b.tensors:
                other = b.read(name)
                common = tuple(slice(min(pair)) for pair in zip(own.shape, other.shape, strict=True))
                mean = (own[common].astype(np.float64) + other[common].astype(np.float64)) / 2
                made[name] = mean.astype(own.dtype)
        config = a.config
    write_model(out, made, config=config)
    return out


def merged(first: Path, second: Path, out: Path) -> Path:
    return cuvee.merge(cuvee.recipe_from_text(TWO.format(first, second)), out).folder


def arrays(folder: Path) -> dict[str, np.ndarray]:
    with open_checkpoint(folder) as opened:
        return {name: opened.read(name) for name in opened.tensors}


# 1. A typo, a name that is not there, a torn file: one line that names place and remedy, and a code of its kind.


def misspelt_key(family: Path) -> str:
    return TWO.format("a", "b") + "dtpe: bfloat16\n"


def misspelt_method(family: Path) -> str:
    return TWO.format("a", "b").replace("linear", "dare-ties")


def missing_folder(family: Path) -> str:
    return TWO.format("a", "bb")


def torn_shard(family: Path) -> str:
    file = family / "b" / "model.safetensors"
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size - 100)
    return TWO.format("a", "b")


MISTAKES: list[tuple[Callable[[Path], str], int, str, str]] = [
    (misspelt_key, 2, "recipe.yaml:4: unknown key 'dtpe'", "did you mean 'dtype'?"),
    (misspelt_method, 2, "recipe.yaml:1: unknown merge method 'dare-ties'", "did you mean 'dare_ties'?"),
    (missing_folder, 3, "bb: no folder or file 'bb'", "did you mean 'b'?"),
    (torn_shard, 3, "b/model.safetensors", "copy or download the file again"),
]


@pytest.mark.parametrize(
    ("mistake", "code", "said", "hint"), MISTAKES, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_mistake_is_a_line_that_names_place_and_remedy(
    mistake: Callable[[Path], str],
    code: int,
    said: str,
    hint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for i, name in enumerate("ab"):
        write_model(tmp_path / name, random_weights(i))
    (tmp_path / "recipe.yaml").write_text(mistake(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["cuvee", "merge", "recipe.yaml", "out"])
    with pytest.raises(SystemExit) as ended:
        main()
    err = capsys.readouterr().err
    assert ended.value.code == code
    assert said in err
    assert hint in err
    assert "Traceback" not in err
    assert not list(tmp_path.glob("*out*"))


# 2. What is no number, and codes that stand for numbers: refused or worked out, never averaged.


def with_nan(weights: dict[str, np.ndarray]) -> dict[str, Any]:
    weights[f"{LAYER}.weight"][1, 2] = np.nan
    return {}


def with_infinity(weights: dict[str, np.ndarray]) -> dict[str, Any]:
    weights[f"{LAYER}.weight"][1, 2] = np.inf
    return {}


def with_int8(weights: dict[str, np.ndarray]) -> dict[str, Any]:
    number = weights[f"{LAYER}.weight"]
    scale = np.abs(number).max() / 127
    weights[f"{LAYER}.weight"] = np.round(number / scale).astype(np.int8)
    weights[f"{LAYER}.weight_scale"] = np.array([scale], np.float32)
    return {}


def with_bitsandbytes(weights: dict[str, np.ndarray]) -> dict[str, Any]:
    number = weights[f"{LAYER}.weight"]
    weights[f"{LAYER}.weight"] = np.zeros((number.size // 2, 1), np.uint8)
    weights[f"{LAYER}.weight.absmax"] = np.ones(number.size // 64, np.float32)
    return {}


def with_gptq(weights: dict[str, np.ndarray]) -> dict[str, Any]:
    weights[f"{LAYER}.qweight"] = np.zeros((6, 32), np.int32)
    weights[f"{LAYER}.scales"] = np.ones((1, 32), np.float16)
    weights[f"{LAYER}.g_idx"] = np.zeros(48, np.int32)
    del weights[f"{LAYER}.weight"]
    return {}


REFUSED: list[tuple[Callable[[dict[str, np.ndarray]], dict[str, Any]], str]] = [
    (with_nan, f"'{LAYER}.weight' holds nan"),
    (with_infinity, f"'{LAYER}.weight' holds inf"),
    (with_int8, "I8 of unknown meaning"),
    (with_bitsandbytes, "bitsandbytes"),
    (with_gptq, "GPTQ"),
]


@pytest.mark.parametrize(("spoilt", "words"), REFUSED, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_no_number_is_refused_by_name(
    spoilt: Callable[[dict[str, np.ndarray]], dict[str, Any]], words: str, tmp_path: Path
) -> None:
    folders = []
    for i, name in enumerate("ab"):
        weights = random_weights(i)
        spoilt(weights)
        folders.append(write_coded(tmp_path / name, weights))
    goes_through = arrays(naive(*folders, tmp_path / "naive"))  # not a number, or means of codes, and no word of it
    assert any(not np.isfinite(a).all() or a.dtype.kind in "iu" for a in goes_through.values())
    with pytest.raises(CheckpointError, match=words):
        merged(*folders, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def write_coded(folder: Path, weights: dict[str, np.ndarray]) -> Path:
    """Write arrays in their own types."""
    from safetensors.numpy import save_file

    write_model(folder, {})
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_fp8_in_blocks_is_merged_as_the_numbers_that_it_stands_for(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    said = {"quant_method": "fp8", "weight_block_size": [16, 16], "fmt": "e4m3"}
    numbers, folders = [], []
    for i, name in enumerate("ab"):
        weights = {key: torch.from_numpy(value) for key, value in random_weights(i).items()}
        blocks = weights[f"{LAYER}.weight"].reshape(2, 16, 3, 16)
        scales = blocks.abs().amax((1, 3)) / (448 * (i + 1))  # each model has scales of its own
        codes = (blocks / scales[:, None, :, None]).clamp(-448, 448).to(torch.float8_e4m3fn)
        numbers.append((codes.float() * scales[:, None, :, None]).reshape(32, 48).numpy())
        weights |= {f"{LAYER}.weight": codes.reshape(32, 48), f"{LAYER}.weight_scale_inv": scales}
        folders.append(write_model(tmp_path / name, {}, config=config_of(tmp_path, said)))
        save_file(weights, folders[-1] / "model.safetensors", metadata={"format": "pt"})
    expected = (numbers[0] + numbers[1]) / 2
    wrong = arrays(naive(*folders, tmp_path / "naive"))
    undone = wrong[f"{LAYER}.weight"].astype(np.float32) * np.kron(
        wrong[f"{LAYER}.weight_scale_inv"], np.ones((16, 16))
    )
    assert np.abs(undone - expected).max() > 0.1 * np.abs(expected).max()
    right = arrays(merged(*folders, tmp_path / "out"))
    assert f"{LAYER}.weight_scale_inv" not in right
    np.testing.assert_allclose(right[f"{LAYER}.weight"], expected, atol=1e-6)


def config_of(tmp_path: Path, said: dict[str, Any]) -> dict[str, Any]:
    from cuvee.testing import TINY_LLAMA

    return {**TINY_LLAMA, "quantization_config": said, "torch_dtype": "float32"}


# 6. One model ties its head to its embedding, the other has one of its own.


def test_a_head_that_one_model_ties_counts_in_the_merged_logits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    kind, folders = transformers.LlamaForCausalLM, []
    for name in ("llama with a tied head", "llama"):
        model = FAMILIES[name]()
        folders.append(tmp_path / name.replace(" ", "-"))
        model.save_pretrained(folders[-1])
    parents = [kind.from_pretrained(folder, dtype=torch.float32) for folder in folders]
    expected = kind.from_pretrained(folders[1], dtype=torch.float32)
    with torch.no_grad():
        states = [parent.state_dict() for parent in parents]
        for name, parameter in expected.named_parameters(remove_duplicate=False):
            parameter.copy_((states[0][name] + states[1][name]) / 2)
        tokens = torch.arange(12)[None]
        right = kind.from_pretrained(merged(*folders, tmp_path / "out"), dtype=torch.float32)
        wrong = kind.from_pretrained(naive(*folders, tmp_path / "naive"), dtype=torch.float32)
        logits = expected(tokens).logits
        assert not torch.allclose(wrong(tokens).logits, logits, atol=1e-3)
        assert torch.allclose(right(tokens).logits, logits, atol=1e-5)
    said = json.loads((tmp_path / "out" / "config.json").read_text())
    assert said["tie_word_embeddings"] is False


# 7. The same tokenizer with other padding; tokens that were added; what is written reads and writes text as before.


def test_padding_rows_survive_and_added_tokens_keep_their_ids(tmp_path: Path) -> None:
    content = json.loads(byte_level_bpe())
    count = len(content["model"]["vocab"])
    added = [{"id": count + i, "content": f"<|tool{i}|>", "special": True} for i in range(3)]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    content["added_tokens"] += [{**entry, **flags} for entry in added]
    a = with_model(tmp_path / "a", json.dumps(content), 0, padding=17)
    b = with_model(tmp_path / "b", json.dumps(content), 1)
    rows = arrays(naive(tmp_path / "a", tmp_path / "b", tmp_path / "naive"))["model.embed_tokens.weight"]
    assert len(rows) == len(a["model.embed_tokens.weight"]) - 17  # the config still says that there are more
    out = merged(tmp_path / "a", tmp_path / "b", tmp_path / "out")
    after = arrays(out)["model.embed_tokens.weight"]
    assert (
        len(after) == len(a["model.embed_tokens.weight"]) == json.loads((out / "config.json").read_text())["vocab_size"]
    )
    mean = (a["model.embed_tokens.weight"][:-17] + b["model.embed_tokens.weight"]) / 2
    np.testing.assert_allclose(after[:-17], mean, atol=1e-6)
    np.testing.assert_array_equal(after[-17:], a["model.embed_tokens.weight"][-17:])
    before, now = library(tmp_path / "a"), library(out)
    for entry in added:
        assert now.token_to_id(entry["content"]) == entry["id"]
    for text in (*TEXT, "use <|tool1|> now", "naïve café 😀"):
        ids = now.encode(text).ids
        assert ids == before.encode(text).ids
        assert now.decode(ids, skip_special_tokens=False) == text


# 8. A mixture of experts, whose names in the file are not those of its modules.


@pytest.mark.parametrize("family", ["mixtral", "qwen3 moe"])
def test_experts_are_averaged_each_with_its_own(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    models = [FAMILIES[family]() for _ in range(2)]
    for i, model in enumerate(models):
        model.save_pretrained(tmp_path / f"{i}")
    stored = set(arrays(tmp_path / "0"))
    in_memory = set(models[0].state_dict())
    assert len(stored - in_memory) > 8  # names of modules and names in files differ: by the former most are not found
    out = merged(tmp_path / "0", tmp_path / "1", tmp_path / "out")
    result, told = type(models[0]).from_pretrained(out, output_loading_info=True, dtype=torch.float32)
    assert not any(told.values()), told
    states = [model.state_dict() for model in models]
    experts = 0
    for name, number in result.state_dict().items():
        assert torch.allclose(number, (states[0][name] + states[1][name]) / 2, atol=1e-6), name
        experts += number.shape[0] if "experts" in name and number.ndim == 3 else 0
    assert experts == 16  # 4 experts, 2 stacks, 2 layers


def test_a_naive_merge_of_a_copy_is_right(tmp_path: Path) -> None:
    """Where nothing is lost, the naive merge and Cuvée agree: the cases above are what differs."""
    write_model(tmp_path / "a", random_weights(0))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    same = arrays(merged(tmp_path / "a", tmp_path / "b", tmp_path / "out"))
    for name, number in arrays(naive(tmp_path / "a", tmp_path / "b", tmp_path / "naive")).items():
        np.testing.assert_array_equal(same[name], number)
