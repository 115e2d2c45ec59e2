"""What is extracted from a fine-tuned model and applied to its base is the fine-tuned model again."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import cuvee
from adapters.conftest import load, logits, peft_logits, relative_error, torch
from adapters.made import read_changes
from cuvee.adapters.low_rank import Wanted
from cuvee.engine.combine import AdapterResult
from cuvee.engine.extract import Extraction, extract
from cuvee.engine.model_parts import Parts
from cuvee.errors import CheckpointError, RecipeError
from cuvee.foreign import open_files

RANK = 8


@pytest.fixture(scope="module")
def tuned(bases: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a fine-tune of a base: each matrix of the layers changed by one of rank 8, the rest as asked."""

    def make(kind: str, *, rest: bool = False, rank: int = RANK) -> Path:
        torch.manual_seed(3)
        model = load(bases(kind))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim == 2 and (".layers." in name or ".h." in name):
                    out, into = parameter.shape
                    parameter += torch.randn(out, rank) @ torch.randn(rank, into) * 0.02
                elif rest:
                    parameter += torch.randn_like(parameter) * 0.05
        folder = tmp_path_factory.mktemp("tuned") / kind
        model.save_pretrained(folder)
        return folder

    return make


def run(model: Path, base: Path, out: Path, **how: object) -> AdapterResult:
    names = (str(model), str(base))
    return extract(open_files(model), open_files(base), out, Extraction(**how), names=names)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "tied"])
@pytest.mark.parametrize("rest", [False, True])
def test_extract_then_apply_is_the_fine_tune(
    kind: str, rest: bool, bases: Callable[[str], Path], tuned: Callable[..., Path], tmp_path: Path
) -> None:
    model, base = tuned(kind, rest=rest), bases(kind)
    made = run(model, base, tmp_path / "adapter", wanted=Wanted(rank=RANK))
    assert made.discarded < 1e-10
    expected = logits(load(model))
    assert relative_error(logits(load(base)), expected) > 1e-2
    assert relative_error(peft_logits(base, made.folder), expected) < 1e-5
    recipe = f"merge_method: passthrough\nmodels: [{{model: '{base}+{made.folder}'}}]\n"
    applied = cuvee.merge(cuvee.recipe_from_text(recipe), tmp_path / "applied").folder
    found, wanted = open_files(applied), open_files(model)
    for name, spec in wanted.tensors.items():
        numbers = [np.empty(spec.elements, np.float32) for _ in range(2)]
        for source, out in zip((found, wanted), numbers, strict=True):
            source.read_into(name, 0, [out])
        assert np.linalg.norm(numbers[0] - numbers[1]) <= 1e-5 * np.linalg.norm(numbers[1])


def test_the_energy_kept_of_each_module_is_told(
    bases: Callable[[str], Path], tuned: Callable[..., Path], tmp_path: Path
) -> None:
    model, base = tuned("llama"), bases("llama")
    made = run(model, base, tmp_path / "adapter", wanted=Wanted(rank=3))
    assert {module.rank for module in made.modules} == {3}
    name = "model.layers.0.self_attn.q_proj"
    before, after = (np.empty(32 * 32, np.float32) for _ in range(2))
    open_files(base).read_into(f"{name}.weight", 0, [before])
    open_files(model).read_into(f"{name}.weight", 0, [after])
    squares = np.linalg.svd((after - before).reshape(32, 32), compute_uv=False).astype(np.float64) ** 2
    module = next(module for module in made.modules if module.module == name)
    assert module.share == pytest.approx(squares[:3].sum() / squares.sum(), rel=1e-4)
    assert f"| `{name}` | 3 | {module.share:.4%} |" in (made.folder / "README.md").read_text()


def test_a_budget_goes_to_the_strongest_directions(
    bases: Callable[[str], Path], tuned: Callable[..., Path], tmp_path: Path
) -> None:
    model, base = tuned("llama"), bases("llama")
    made = run(model, base, tmp_path / "budget", budget=50)
    even = run(model, base, tmp_path / "even", wanted=Wanted(rank=3))
    assert sum(module.rank for module in made.modules) == 50
    assert sum(module.rank for module in even.modules) == 42
    assert made.discarded < even.discarded * 42 / 50
    assert set(read_changes(made.folder)) == {module.module for module in made.modules if module.rank}
    assert np.isfinite(peft_logits(base, made.folder).numpy()).all()


def test_energy_decides_each_rank(bases: Callable[[str], Path], tuned: Callable[..., Path], tmp_path: Path) -> None:
    made = run(tuned("llama"), bases("llama"), tmp_path / "adapter", wanted=Wanted(energy=0.8))
    assert all(module.share >= 0.8 for module in made.modules)
    assert len({module.rank for module in made.modules}) > 1


def test_embeddings_get_factors_if_asked(
    bases: Callable[[str], Path], tuned: Callable[..., Path], tmp_path: Path
) -> None:
    model, base = tuned("llama", rest=True), bases("llama")
    made = run(model, base, tmp_path / "adapter", wanted=Wanted(rank=32), embeddings=True)
    assert "model.embed_tokens" in {module.module for module in made.modules}
    assert relative_error(peft_logits(base, made.folder), logits(load(model))) < 1e-5


def test_what_is_left_out_is_told(bases: Callable[[str], Path], tuned: Callable[..., Path], tmp_path: Path) -> None:
    made = run(tuned("llama", rest=True), bases("llama"), tmp_path / "adapter", rest=False)
    assert "model.embed_tokens.weight" in made.notes[0]
    assert "are left out, as asked" in made.notes[0]


def test_only_some_parts_are_extracted_and_the_rest_is_told(
    bases: Callable[[str], Path], tuned: Callable[..., Path], tmp_path: Path
) -> None:
    model, base = tuned("llama", rest=True), bases("llama")
    parts = Parts(only=("attention", "norms"), without=("v_proj", "layers.1"))
    made = run(model, base, tmp_path / "adapter", parts=parts)
    names = {module.module.rpartition(".")[2] for module in made.modules}
    assert names == {"q_proj", "k_proj", "o_proj"}
    assert all(".layers.0." in module.module for module in made.modules)
    tensors = open_files(made.folder / "adapter_model.safetensors").tensors
    assert {n for n in tensors if "norm" in n} == {
        f"base_model.model.model.{n}.weight"
        for n in ("norm", "layers.0.input_layernorm", "layers.0.post_attention_layernorm")
    }
    assert "of the energy of all changes" in made.notes[0]


def test_a_part_that_no_model_has_is_refused(bases: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="'atention' is no part of this model") as caught:
        run(bases("llama"), bases("llama"), tmp_path / "adapter", parts=Parts(only=("atention",)))
    assert "did you mean 'attention'?" in str(caught.value)


@pytest.mark.parametrize("moved", [("lm_head",), ("embed_tokens",), ("embed_tokens", "lm_head"), ("q_proj",)])
def test_a_head_of_its_own_is_extracted_over_a_tied_base(
    moved: tuple[str, ...], bases: Callable[[str], Path], tmp_path: Path
) -> None:
    model = load(bases("tied"))
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
    model.config.tie_word_embeddings = False
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(word in name for word in moved):
                parameter += torch.randn_like(parameter) * 0.05
    model.save_pretrained(tmp_path / "tuned")
    run(tmp_path / "tuned", bases("tied"), tmp_path / "adapter", wanted=Wanted(energy=1.0))
    assert relative_error(peft_logits(bases("tied"), tmp_path / "adapter"), logits(model)) < 1e-5
    cuvee.apply_adapter(bases("tied"), tmp_path / "adapter", tmp_path / "whole")
    assert relative_error(logits(load(tmp_path / "whole")), logits(model)) < 1e-5


def test_equal_models_have_nothing_to_extract(bases: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nothing to extract"):
        run(bases("llama"), bases("llama"), tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def test_models_of_different_shape_are_refused(bases: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no tensor 'transformer"):
        run(bases("llama"), bases("gpt2"), tmp_path / "adapter")


MOVED: dict[str, tuple[str, tuple[str, ...]]] = {
    "experts one by one": ("qwen3-moe", ("gate_up_proj", "down_proj", "q_proj.weight")),
    "experts and their router": ("mixtral", ("gate_up_proj", "down_proj", "gate.weight")),
    "experts in stacks": ("gpt-oss", ("gate_up_proj", "down_proj")),
    "one stack of square matrices": ("square gpt-oss", ("down_proj",)),
    "biases of stacks": ("gpt-oss", ("gate_up_proj_bias", "q_proj.weight")),
    "parameters beside matrices": ("gpt-oss", ("sinks", "k_proj.weight", "lm_head.weight")),
    "norms alone": ("gpt2", ("ln_1.weight",)),
    "weights of norms and matrices": ("gpt2", ("ln_1.weight", "c_attn.weight")),
    "biases without their matrices": ("gpt2", ("c_fc.bias", "c_attn.weight")),
    "biases with their matrices": ("gpt2", ("c_attn.bias", "c_attn.weight")),
}
"""What changes in a fine-tune, by the ends of names: also what PEFT can hold only as parameters or whole modules."""


@pytest.mark.parametrize("what", MOVED)
def test_peft_loads_what_was_extracted_and_so_do_we(what: str, bases: Callable[[str], Path], tmp_path: Path) -> None:
    kind, ends = MOVED[what]
    torch.manual_seed(4)
    model = load(bases(kind))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(ends):
                parameter += torch.randn_like(parameter) * 0.1
    model.save_pretrained(tmp_path / "tuned")
    wanted = logits(model)
    run(tmp_path / "tuned", bases(kind), tmp_path / "adapter", wanted=Wanted(rank=64), embeddings=True)
    assert relative_error(logits(load(bases(kind))), wanted) > 1e-3
    assert relative_error(peft_logits(bases(kind), tmp_path / "adapter"), wanted) < 1e-5
    cuvee.apply_adapter(bases(kind), tmp_path / "adapter", tmp_path / "whole")
    assert relative_error(logits(load(tmp_path / "whole")), wanted) < 1e-5
