"""Statistics that a recipe names: read for a merge without torch, and refused where they are of something else."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import cuvee
from cuvee.calibrate.statistics import StatisticsWriter
from cuvee.checkpoint import open_checkpoint
from cuvee.errors import CuveeError
from cuvee.statistics import Figures, ModelRecord, Record, TextRecord, fingerprint, open_statistics
from cuvee.testing import TINY_LLAMA, random_weights, write_model

CONFIG = TINY_LLAMA | {"num_hidden_layers": 1}
SITES = {
    "model.layers.0.self_attn.q_proj": tuple(f"model.layers.0.self_attn.{part}_proj.weight" for part in "qkv"),
    "model.layers.0.self_attn.o_proj": ("model.layers.0.self_attn.o_proj.weight",),
    "model.layers.0.mlp.gate_proj": ("model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.up_proj.weight"),
}
"""All matrices of the layer but one."""


@pytest.fixture
def family(tmp_path: Path) -> Path:
    base = random_weights(0, config=CONFIG)
    write_model(tmp_path / "base", base, config=CONFIG)
    for seed, name in enumerate("ab", start=1):
        write_model(tmp_path / name, random_weights(seed, base=base, config=CONFIG), config=CONFIG)
    return tmp_path


def inputs(seed: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((80, size)).astype(np.float32)


def write(folder: Path, model: Path, seed: int, *, form: str = "gram", **changes: object) -> Path:
    """Write statistics of random inputs, the same for every site."""
    text = {"name": "sort", "digest": "t", "documents": 4, "tokens": 80, "counted": 80, "positions": "all", "length": 9}
    text |= {name: value for name, value in changes.items() if name in text}
    record = Record(
        model=ModelRecord(
            name=str(model), weights_digest="w", fingerprint=fingerprint(open_checkpoint(model)),
            tokens_digest=changes.get("tokens_digest"),
        ),
        text=TextRecord(**text), keep=changes.get("keep", ("gram", "mean_abs")), rows=None, rank=None,
        loss=changes.get("loss", 1.0), loss_tokens=80, dtype="float32", device="cpu", versions={}, sites=SITES,
        figures=Figures(seconds=1, peak_memory_bytes=1),
    )  # fmt: skip
    rows = inputs(seed)
    with StatisticsWriter(folder, 40) as writer:
        for site in SITES:
            for name, numbers in stored(rows, form).items():
                writer.add(f"{name}/{site}", numbers)
            writer.add(f"mean_abs/{site}", np.abs(rows).mean(0))
        writer.finish(record)
    return folder


def stored(rows: np.ndarray, form: str) -> Mapping[str, np.ndarray]:
    gram = rows.T @ rows / len(rows)
    if form == "rows":
        return {"rows": rows}
    if form == "factor":
        values, vectors = np.linalg.eigh(gram)
        factor = np.ascontiguousarray((vectors[:, -4:] * values[-4:] ** 0.5).T)
        return {"factor": factor, "rest": np.diag(gram) - (factor**2).sum(0)}
    return {"gram": gram}


def recipe(family: Path, names: str = "ab", method: str = "regmean", rest: str = "", *, base: bool = False) -> str:
    models = [f"  - {{model: {family}/{name}, statistics: {family}/stats-{name}}}\n" for name in names]
    own = f"base_model: {family}/base\n" if base else ""
    return f"merge_method: {method}\n{own}models:\n{''.join(models)}{rest}"


def planned(text: str) -> cuvee.Plan:
    return cuvee.make_plan(cuvee.recipe_from_text(text))


def both(family: Path, **changes: object) -> None:
    for seed, name in enumerate("ab", start=1):
        write(family / f"stats-{name}", family / name, seed, **changes)


def refused(text: str, words: str) -> CuveeError:
    with pytest.raises(CuveeError, match=words) as stopped:
        planned(text)
    return stopped.value


@pytest.mark.parametrize("form", ["gram", "rows"])
def test_a_merge_does_what_the_method_does_with_the_matrices(family: Path, form: str) -> None:
    both(family, form=form)
    out = cuvee.merge(cuvee.recipe_from_text(recipe(family)), family / "out").folder
    models = [open_checkpoint(family / name) for name in "ab"]
    grams = [rows.T @ rows / len(rows) for rows in (inputs(1), inputs(2))]
    for name in ("self_attn.k_proj", "mlp.up_proj"):
        tensor = f"model.layers.0.{name}.weight"
        wanted = cuvee.merge_tensors("regmean", [model.read(tensor) for model in models], grams=grams)
        np.testing.assert_allclose(open_checkpoint(out).read(tensor), wanted, atol=1e-5)


def test_what_has_no_statistics_is_averaged_and_the_plan_says_so(family: Path) -> None:
    both(family)
    plan = planned(recipe(family))
    assert any("matrices without statistics" in note and "(1 tensor)" in note for note in plan.notes)
    out = cuvee.run_plan(plan, family / "out").folder
    for tensor in ("model.layers.0.mlp.down_proj.weight", "model.norm.weight", "model.embed_tokens.weight"):
        mean = sum(open_checkpoint(family / name).read(tensor) for name in "ab") / 2
        np.testing.assert_allclose(open_checkpoint(out).read(tensor), mean, atol=1e-6)


def test_a_factor_and_the_rest_are_one_matrix(family: Path) -> None:
    found = open_statistics(write(family / "stats-a", family / "a", 1, form="factor"))
    gram = found.gram("model.layers.0.self_attn.q_proj.weight")
    rows = inputs(1)
    np.testing.assert_allclose(np.diag(gram), (rows**2).mean(0), rtol=1e-4)
    assert np.linalg.eigvalsh(gram)[0] > 0


def test_threads_change_no_byte(family: Path) -> None:
    both(family)
    plan = planned(recipe(family))
    first = cuvee.run_plan(plan, family / "one")
    assert cuvee.run_plan(plan, family / "two", threads=2).digest == first.digest


def test_memory_is_counted(family: Path) -> None:
    both(family)
    (step,) = [step for step in planned(recipe(family)).steps if step.name.endswith("o_proj.weight")]
    (other,) = [step for step in planned(recipe(family)).steps if step.name.endswith("down_proj.weight")]
    assert step.holds > other.holds + 2 * 32 * 32 * 8


def test_other_statistics_make_another_plan(family: Path) -> None:
    both(family)
    first = planned(recipe(family)).digest
    assert planned(recipe(family)).digest == first
    for file in (family / "stats-a").iterdir():
        file.unlink()
    (family / "stats-a").rmdir()
    write(family / "stats-a", family / "a", 7)
    assert planned(recipe(family)).digest != first


def test_statistics_of_other_weights_are_refused(family: Path) -> None:
    both(family)
    swapped = recipe(family).replace("stats-a", "stats-x").replace("stats-b", "stats-a").replace("stats-x", "stats-b")
    error = refused(swapped, "other weights")
    assert error.exit_code == 3


def test_weights_that_changed_after_the_plan_stop_the_merge(family: Path) -> None:
    both(family)
    plan = planned(recipe(family))
    write_model(family / "new", random_weights(9, config=CONFIG), config=CONFIG)
    (family / "new" / "model.safetensors").replace(family / "a" / "model.safetensors")
    with pytest.raises(CuveeError, match=r"other weights|changed"):
        cuvee.run_plan(plan, family / "out")


def test_statistics_of_a_private_part_are_refused(family: Path) -> None:
    both(family, name="sort-private")
    assert refused(recipe(family), "private part").exit_code == 3


def test_statistics_made_with_other_tokens_are_refused(family: Path) -> None:
    write(family / "stats-a", family / "a", 1, tokens_digest="one")
    write(family / "stats-b", family / "b", 2, tokens_digest="two")
    assert refused(recipe(family), "other tokens").exit_code == 3


def test_a_method_that_needs_statistics_says_of_which_model(family: Path) -> None:
    both(family)
    text = recipe(family).replace(f", statistics: {family}/stats-b", "")
    assert "cuvee calibrate" in str(refused(text, "'regmean' needs statistics"))


def test_a_kind_that_was_not_kept_is_refused(family: Path) -> None:
    both(family, keep=("mean_abs",))
    refused(recipe(family), "needs 'gram', and its statistics keep mean_abs")


def test_a_folder_without_statistics_is_refused(family: Path) -> None:
    assert refused(recipe(family), "there is no statistics.json").exit_code == 3


def test_a_record_that_is_none_is_refused(family: Path) -> None:
    both(family)
    (family / "stats-a" / "statistics.json").write_text('{"schema": 2}')
    refused(recipe(family), "statistics.json")


def test_without_a_base_only_the_mean_is_a_fallback(family: Path) -> None:
    both(family)
    refused(recipe(family, rest="parameters: {fallback: sum}\n"), "there is none")


def test_the_output_says_what_it_was_made_with(family: Path) -> None:
    both(family)
    result = cuvee.merge(cuvee.recipe_from_text(recipe(family)), family / "out")
    record = (result.folder / "cuvee.json").read_text()
    assert open_statistics(family / "stats-a").digest in record


def test_aim_holds_back_the_channels_where_the_base_is_active(family: Path) -> None:
    write(family / "stats-base", family / "base", 3)
    write(family / "stats-a", family / "a", 1)
    rest = "parameters: {weight: 1}\npost: [{aim: {omega: 0.0}}]\n"
    text = recipe(family, "a", "task_arithmetic", rest, base=True)
    refused(text, "'aim' needs statistics")
    listed = text.replace("models:\n", f"models:\n  - {{model: {family}/base, statistics: {family}/stats-base}}\n")
    out = open_checkpoint(cuvee.merge(cuvee.recipe_from_text(listed), family / "out").folder)
    base, expert = open_checkpoint(family / "base"), open_checkpoint(family / "a")
    activity = np.abs(inputs(3)).mean(0)
    for tensor, factor in (
        ("model.layers.0.mlp.up_proj.weight", 1 - activity / activity.max()),
        ("model.layers.0.mlp.down_proj.weight", 1.0),
    ):
        change = (expert.read(tensor) - base.read(tensor)) * factor
        np.testing.assert_allclose(out.read(tensor), base.read(tensor) + change, atol=1e-6)


def test_losses_on_one_text_are_weights(family: Path) -> None:
    write(family / "stats-a", family / "a", 1, loss=0.5)
    write(family / "stats-b", family / "b", 2, loss=1.5)
    rest = "weights: {rule: loss, temperature: 1.0}\n"
    step = planned(recipe(family, method="linear", rest=rest)).steps[0]
    np.testing.assert_allclose(step.settings["weight"], [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))])


def test_losses_on_several_texts_are_not_compared(family: Path) -> None:
    write(family / "stats-a", family / "a", 1)
    write(family / "stats-b", family / "b", 2, digest="another")
    refused(recipe(family, method="linear", rest="weights: loss\n"), "of 2 texts")


def test_a_model_without_a_loss_is_named(family: Path) -> None:
    write(family / "stats-a", family / "a", 1)
    write(family / "stats-b", family / "b", 2, loss=None)
    refused(recipe(family, method="linear", rest="weights: loss\n"), "needs the loss")


def test_folders_are_found_beside_the_recipe(family: Path) -> None:
    both(family)
    (family / "recipe.yaml").write_text(recipe(family).replace(f"statistics: {family}/", "statistics: "))
    assert len([own for own in cuvee.make_plan(family / "recipe.yaml").statistics if own]) == 2


def test_where_only_given_folders_may_be_read_statistics_are_refused(family: Path) -> None:
    both(family)
    places = {f"{family}/{name}": family / name for name in "ab"}
    with pytest.raises(CuveeError, match="cannot be used here"):
        cuvee.make_plan(cuvee.recipe_from_text(recipe(family)), places=places)


def test_a_merge_with_statistics_imports_no_torch(family: Path) -> None:
    both(family)
    (family / "recipe.yaml").write_text(recipe(family))
    code = "import sys, cuvee; cuvee.merge(sys.argv[1], sys.argv[2]); print('torch' in sys.modules)"
    command = [sys.executable, "-c", code, str(family / "recipe.yaml"), str(family / "out")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "False"
