"""A fine-tune in its base's place has equal names, shapes, sizes and headers, and here the old time of change, too.

Whatever identifies an input notices it, though one tensor alone differs, by a percent.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import cuvee
from cuvee.catalogue import language
from cuvee.checkpoint import open_checkpoint
from cuvee.checkpoint.dtypes import NUMPY
from cuvee.engine.adapters import combine_adapters
from cuvee.engine.combine import How
from cuvee.engine.parts import Part, run_part
from cuvee.engine.run import run_plan
from cuvee.errors import CheckpointError, RecipeError
from cuvee.evaluation.parents import parents_of
from cuvee.hub import Hub
from cuvee.plan import make_plan
from cuvee.progress import Silent
from cuvee.recipe.stages import parse_stages
from cuvee.testing import random_weights, write_model
from cuvee.verify import Check, verify

TENSOR = "model.layers.2.mlp.down_proj.weight"
"""In the last layer: of a model of several files it is not in the first."""

RECIPE = "merge_method: task_arithmetic\nbase_model: base\nmodels: [{model: a}, {model: b}]\nweights: metagpt\n"


def tune(file: Path, tensor: str = TENSOR) -> None:
    """Make the numbers of one tensor larger by a percent; the time of change stays."""
    times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    with open_checkpoint(file) as opened:
        spec = opened.tensors[tensor]
    numbers = np.memmap(file, NUMPY[spec.dtype], "r+", spec.start, (spec.elements,))
    numbers[:] = (numbers.astype(np.float32) * 1.01).astype(numbers.dtype)
    numbers.flush()
    os.utime(file, ns=times)


def file_with(folder: Path, tensor: str = TENSOR) -> Path:
    with open_checkpoint(folder) as opened:
        return opened.tensors[tensor].file


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base and two fine-tunes, one in several files."""
    monkeypatch.chdir(tmp_path)
    base = random_weights(0)
    write_model(tmp_path / "base", base, dtype="BF16")
    write_model(tmp_path / "a", random_weights(1, base=base), dtype="BF16", shard_bytes=40_000)
    write_model(tmp_path / "b", random_weights(2, base=base), dtype="BF16")
    return tmp_path


def merged(here: Path, text: str = RECIPE, out: str = "out", **options: object) -> Path:
    return cuvee.merge(cuvee.recipe_from_text(text), here / out, **options).folder


def parents(out: Path) -> Check:
    return next(check for check in verify(out).checks if check.name == "parents")


@pytest.mark.parametrize("model", ["base", "a", "b"])
def test_verify_finds_a_swapped_parent(here: Path, model: str) -> None:
    out = merged(here)
    assert parents(out) == Check(
        "parents", "passed", "3 parents are those of the merge, by sizes, headers and sampled contents"
    )
    file = file_with(here / model)
    tune(file)
    found = parents(out)
    assert (found.state, found.found) == ("failed", f"not those of the merge: {model}/{file.name}")


def test_a_record_without_samples_is_compared_by_headers_and_verify_says_how_little_that_is(here: Path) -> None:
    out = merged(here)
    record = json.loads((out / "cuvee.json").read_text())
    for entry in record["inputs"]:
        for file in entry["files"].values():
            del file["sampled_blake3"]
    (out / "cuvee.json").write_text(json.dumps(record))
    tune(file_with(here / "a"))
    found = parents(out)
    assert found.state == "passed"
    files = sum(len(entry["files"]) for entry in record["inputs"])
    assert found.found.endswith(
        f"by sizes and headers; {files} of the files only by what all fine-tunes of one base share"
    )


def test_verify_finds_a_swapped_parent_of_an_earlier_stage(here: Path) -> None:
    text = f"name: inner\n{RECIPE}---\n{RECIPE.replace('{model: b}', '{model: inner}')}"
    out = cuvee.merge_stages(parse_stages(text, language()), here / "out").folder
    found = parents(out)
    assert (found.state, found.found[:9]) == ("passed", "3 parents")
    tune(file_with(here / "b"))
    assert parents(out).state == "failed"


def test_a_single_number_is_found_if_hashes_were_noted(here: Path) -> None:
    out = merged(here, hash_inputs=True)
    file = here / "b" / "model.safetensors"
    raw = np.memmap(file, np.uint8, "r+")
    with open_checkpoint(file) as opened:
        spec = opened.tensors["lm_head.weight"]
    raw[spec.start + 2050] ^= 1
    raw.flush()
    assert parents(out).state == "failed"


def test_a_card_tells_a_model_from_another_of_its_shape(here: Path) -> None:
    first = (merged(here) / "README.md").read_text()
    tune(file_with(here / "a"))
    second = (merged(here, out="again") / "README.md").read_text()
    lines = [[line for line in text.splitlines() if line.startswith("- `")] for text in (first, second)]
    assert [one == other for one, other in zip(*lines, strict=True)] == [True, False, True]


def test_a_card_has_the_hashes_that_were_asked_for(here: Path) -> None:
    import hashlib

    out = merged(here, hash_inputs=True)
    card = (out / "README.md").read_text()
    assert f"`{hashlib.sha256((here / 'b' / 'model.safetensors').read_bytes()).hexdigest()}`" in card


class Stop:
    """Progress that interrupts a merge once something is written."""

    def __init__(self, journal: Path) -> None:
        self.journal = journal

    def start(self, what: str, total: int, unit: str) -> None:
        pass

    def advance(self, amount: int) -> None:
        if self.journal.exists() and self.journal.read_bytes().count(b"\n") > 2:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        pass

    def finish(self) -> None:
        pass


def test_a_stopped_merge_does_not_go_on_with_another_model(here: Path) -> None:
    plan = make_plan(cuvee.recipe_from_text(RECIPE))
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, here / "out", progress=Stop(here / ".out.partial" / "journal.jsonl"))
    tune(file_with(here / "a"))
    with pytest.raises(RecipeError, match=f"an input has changed since: a: {file_with(here / 'a').name}"):
        merged(here)


def test_parts_of_swapped_inputs_do_not_come_together(here: Path) -> None:
    def run(number: int) -> None:
        run_part(make_plan(cuvee.recipe_from_text(RECIPE)), here / "out", Part(number, 2), shard_bytes=40_000)

    run(1)
    tune(file_with(here / "a"))
    with pytest.raises(RecipeError, match="an input has changed since: a: "):
        run(2)


def test_what_surveys_found_is_not_taken_for_another_model(here: Path) -> None:
    def run(out: str) -> int:
        plan = make_plan(cuvee.recipe_from_text(RECIPE))
        return run_plan(plan, here / out, cache=here / "cache").figures.bytes_read

    first, second = run("first"), run("second")
    assert second < first
    tune(file_with(here / "a"))
    assert run("third") == first


def test_a_stage_of_another_model_is_made_anew(here: Path) -> None:
    stages = parse_stages(f"name: inner\n{RECIPE}---\n{RECIPE.replace('{model: b}', '{model: inner}')}", language())
    before = cuvee.merge_stages(stages, here / "out-1", folder=here / "kept").digest
    tune(file_with(here / "b"))  # only the first stage reads it
    after = cuvee.merge_stages(stages, here / "out-2", folder=here / "kept").digest
    assert len(list((here / "kept").iterdir())) == 2
    assert before != after


def test_a_blend_is_not_measured_against_a_swapped_parent(here: Path) -> None:
    out = merged(here)
    assert len(parents_of(out, Hub(offline=True), Silent())) == 3
    tune(file_with(here / "a"))
    with pytest.raises(CheckpointError, match="not the file that was merged"):
        parents_of(out, Hub(offline=True), Silent())


def as_single_file(here: Path) -> tuple[str, Callable[[], None]]:
    return "b/model.safetensors", lambda: tune(here / "b" / "model.safetensors")


def as_torch_files(here: Path) -> tuple[str, Callable[[], None]]:
    torch = pytest.importorskip("torch")

    def write(tensors: dict[str, np.ndarray]) -> None:
        halves: dict[str, dict[str, object]] = {"pytorch_model-1.bin": {}, "pytorch_model-2.bin": {}}
        for name, array in tensors.items():
            halves[f"pytorch_model-{1 + (name == TENSOR)}.bin"][name] = torch.from_numpy(array)
        weight_map = {name: file for file, half in halves.items() for name in half}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
        for file, half in halves.items():
            torch.save(half, folder / file)
            os.utime(folder / file, ns=(1, 1))

    folder = here / "torch"
    folder.mkdir()
    shutil.copy(here / "b" / "config.json", folder)
    weights = random_weights(3)
    write(weights)
    tuned = {**weights, TENSOR: weights[TENSOR] * np.float32(1.01)}
    return "torch", lambda: write(tuned)


def as_gguf(here: Path) -> tuple[str, Callable[[], None]]:
    pytest.importorskip("gguf")
    pytest.importorskip("transformers")
    from foreign.test_gguf import write

    file, _ = write(here, "llama", "Q8_0")

    def swap() -> None:
        raw = np.memmap(file, np.uint8, "r+")
        raw[-20_000:] ^= 1
        raw.flush()
        os.utime(file, ns=(1, 1))

    os.utime(file, ns=(1, 1))
    return "model.gguf", swap


def as_base_of_an_adapter(here: Path) -> tuple[str, Callable[[], None]]:
    write_lora(here)
    return "base+lora", lambda: tune(here / "base" / "model.safetensors")


def as_adapter(here: Path) -> tuple[str, Callable[[], None]]:
    return "base+lora", lambda: tune(write_lora(here), "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight")


def write_lora(here: Path) -> Path:
    from adapters.made import write_adapter

    folder = here / "lora"
    if not folder.exists():
        module = "model.layers.1.self_attn.q_proj"
        with open_checkpoint(here / "base") as base:
            shape = base.tensors[f"{module}.weight"].shape
        write_adapter(folder, {module: 4}, seed=0, shape=(shape[0], shape[1]), alpha=8.0)
    return folder / "adapter_model.safetensors"


FORMS = [as_single_file, as_torch_files, as_gguf, as_base_of_an_adapter, as_adapter]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__.removeprefix("as_"))
def test_a_swapped_model_is_found_whatever_it_is_stored_as(
    here: Path, form: Callable[[Path], tuple[str, Callable[[], None]]]
) -> None:
    reference, swap = form(here)
    if "lora" in reference:
        write_lora(here)
    text = f"merge_method: passthrough\nmodels: [{{model: {reference}}}]\n"
    out = merged(here, text)
    assert parents(out).state == "passed"
    swap()
    assert parents(out).state == "failed"


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__.removeprefix("as_"))
def test_every_file_of_a_model_is_hashed_and_verified(
    here: Path, form: Callable[[Path], tuple[str, Callable[[], None]]]
) -> None:
    reference, _ = form(here)
    if "lora" in reference:
        write_lora(here)
    out = merged(here, f"merge_method: passthrough\nmodels: [{{model: {reference}}}]\n", hash_inputs=True)
    (entry,) = json.loads((out / "cuvee.json").read_text())["inputs"]
    unhashed = [name for name, file in entry["files"].items() if file["sha256"] is None]
    assert unhashed == (["+adapter_config"] if "lora" in reference else [])
    found = parents(out)
    assert found.state == "passed"
    assert found.found.endswith("hashes")


def test_an_adapters_card_and_record_tell_swapped_parents_apart(here: Path) -> None:
    file = write_lora(here)
    how = How("linear")
    lines = []
    for out in ("one", "two"):
        combine_adapters(["lora"], [1.0], here / out, how, base="base")
        card = (here / out / "README.md").read_text()
        record = json.loads((here / out / "cuvee.json").read_text())
        lines.append((card.partition("## Parents")[2].partition("##")[0], record["inputs"]))
        tune(file, "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight")
    assert lines[0][0] != lines[1][0]
    assert lines[0][1] != lines[1][1]
