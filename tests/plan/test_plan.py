"""Plans as data: forecasts and digests."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cuvee
from cuvee.errors import OutOfBudget
from cuvee.plan import Input, MergeStep
from cuvee.plan.memory import LARGEST_CHUNK, fit, least_memory, worker_bytes
from cuvee.testing import random_weights, write_model

from .conftest import layered

LINEAR = "merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 1}\n"
TIES = "merge_method: ties\nbase_model: base\nmodels: [{model: a}]\nparameters: {weight: 1, density: 0.5}\n"
ELEMENTS = 4 * 2 + 3 * (4 + 2) + 2 + 4 * 2


def test_a_combination_reads_every_input_once(plan):
    made = plan(f"{LINEAR}dtype: float16\n")
    assert made.parameters == ELEMENTS
    assert (made.forecast.bytes_read, made.forecast.bytes_written, made.forecast.passes) == (
        2 * 4 * ELEMENTS,
        2 * ELEMENTS,
        1,
    )


def test_surveys_add_readings_of_the_inputs_and_the_base(plan):
    forecast = plan(f"{TIES}semantics: paper\n").forecast
    assert forecast.passes == 4  # two for the threshold of the whole model, one for its signs, one to merge
    assert forecast.bytes_read == 4 * 2 * 4 * ELEMENTS


def test_a_tensor_that_fits_in_a_chunk_is_read_once_for_its_own_surveys(plan):
    forecast = plan(TIES).forecast
    assert (forecast.passes, forecast.bytes_read) == (1, 2 * 4 * ELEMENTS)


def test_settings_without_effect_cost_no_reading(plan):
    assert plan(TIES.replace("0.5", "1")).forecast.passes == 1


def test_copies_are_read_once(plan):
    buffer = {"ids": np.arange(4)}
    made = plan(TIES, {"base": layered() | buffer, "a": layered() | buffer})
    assert made.forecast.bytes_read == 2 * 4 * ELEMENTS + 2 * 32


@pytest.mark.parametrize(
    "text",
    [
        LINEAR.replace("weight: 1", "weight: 2"),
        LINEAR.replace("weight: 1", "weight: [{filter: mlp, value: 2}, {value: 1}]"),
        LINEAR.replace("{model: a}, {model: b}", "{model: b}, {model: a}"),
        LINEAR + "dtype: bfloat16\n",
        LINEAR + "seed: 1\n",
    ],
    ids=["weight", "filter", "order", "dtype", "seed"],
)
def test_another_recipe_has_another_digest(plan, text):
    assert plan(text).digest != plan(LINEAR).digest


def test_the_digest_follows_the_inputs(plan):
    models = {"a": layered(), "b": layered()}
    same = plan(LINEAR, models).digest
    changed = models | {"b": layered() | {"lm_head.weight": np.zeros((4, 3), np.float32)}}
    changed["a"] = changed["b"]
    assert plan(LINEAR, dict(models)).digest == same
    assert plan(LINEAR, changed).digest != same


def test_the_digest_follows_the_headers_of_files_and_is_the_same_in_another_process(tmp_path):
    write_model(tmp_path / "a", random_weights(1))
    write_model(tmp_path / "b", random_weights(2))
    (tmp_path / "recipe.yaml").write_text(LINEAR, encoding="utf-8")
    first = cuvee.make_plan(cuvee.load_recipe(tmp_path / "recipe.yaml")).digest
    code = (
        "import sys, cuvee; print(cuvee.make_plan(cuvee.load_recipe(sys.argv[1])).digest);"
        "print(*sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "recipe.yaml")]
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert printed.split() == [first]
    (tmp_path / "b").rename(tmp_path / "old")
    write_model(tmp_path / "b", random_weights(2), dtype="BF16")
    assert cuvee.make_plan(cuvee.load_recipe(tmp_path / "recipe.yaml")).digest != first


def step(models: int, elements: int, dtype: str, in_kernels: bool) -> MergeStep:
    inputs = tuple(Input(i, "x", dtype) for i in range(models))
    return MergeStep("x", dtype, (elements,), "merge", inputs, None, {}, in_kernels=in_kernels)


steps = st.lists(
    st.builds(step, st.integers(1, 9), st.integers(0, 1 << 40), st.sampled_from(["F64", "F32", "BF16"]), st.booleans()),
    min_size=1,
).map(tuple)


@given(steps=steps, spare=st.integers(0, 1 << 30), threads=st.integers(1, 64))
def test_workers_and_chunks_stay_within_the_memory_granted(steps, spare, threads):
    memory = least_memory(steps) + spare
    chunk, workers = fit(steps, memory, threads)
    assert 1 <= workers <= (threads if threads == 1 else threads + 1)
    assert chunk <= LARGEST_CHUNK
    assert workers * max(worker_bytes(each, chunk) for each in steps) <= memory


@given(steps=steps)
def test_too_little_memory_is_refused_with_the_figure_needed(steps):
    needed = least_memory(steps)
    with pytest.raises(OutOfBudget, match=f"this merge needs {needed / 1e6:.1f} MB"):
        fit(steps, needed - 1, 1)
