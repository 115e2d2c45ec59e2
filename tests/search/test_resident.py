"""A resident model: merged in place it is what the same merge on the disk is, weights and answers."""

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters.made import write_adapter
from cuvee.api import recipe_from_text, stages_from_text
from cuvee.calibrate.calibrate import calibrate
from cuvee.calibrate.collect import ALL_KINDS, Collecting
from cuvee.catalogue import registry
from cuvee.demo import model_folder
from cuvee.engine import merge, merge_stages
from cuvee.errors import CheckpointError, SearchError
from cuvee.evaluation import evaluate
from cuvee.evaluation.model import Dtype, load_model
from cuvee.evaluation.task import Sample, Task
from cuvee.hub import Hub
from cuvee.progress import Silent
from cuvee.search.in_place import same_bits
from cuvee.search.prompts import RememberingTokenizer
from cuvee.search.resident import Items, Resident, Setup, measured, resident_of
from evaluation.conftest import byte_tokenizer
from evaluation.families import make_network

from .conftest import EXPERTS, WORDS, Family

SETTINGS = {"weight": 0.5, "density": 0.4, "t": 0.3}
METHODS = registry()
UNLIKE_LLAMA = ("mixtral", "qwen 3 of experts", "gpt-oss", "gemma 3", "mamba", "gpt 2", "phi 3", "jamba")
HOW = Collecting(keep=ALL_KINDS, length=128)


def recipe(root: Path, method: str, extra: str = "", **settings: float) -> str:
    known = METHODS[method]
    experts = EXPERTS[:1] if known.base == "endpoint" else EXPERTS[: known.models[1]]
    base = "" if known.base == "member" else f"base_model: {root}/base\n"
    statistics = f", statistics: {root}/statistics-{{0}}" if known.inputs else ""
    models = "".join(f"- {{model: {root}/{name}{statistics.format(name)}}}\n" for name in experts)
    values = {name: SETTINGS[name] for name in known.settings if name in SETTINGS} | settings
    return f"merge_method: {method}\n{base}models:\n{models}parameters: {json.dumps(values)}\nseed: 3\n{extra}"


def references(root: Path) -> list[str]:
    return [f"{root}/{name}" for name in ("base", *EXPERTS)]


def assert_as_on_disk(
    resident: Resident, text: str, tasks: list[Task], items: Items, out: Path, answers_in: Dtype = "float32"
) -> None:
    """Merge on the disk and load, as anybody would, and compare."""
    own = resident.measure(items)
    merged = merge(recipe_from_text(text), out)
    assert resident.digest == own.digest == merged.digest
    loaded = load_model(out, device="cpu", dtype=answers_in)
    tensors = loaded.network.state_dict()
    for name, tensor in resident.model.network.state_dict().items():
        assert same_bits(tensor, tensors[name]), name
    for name, tensor in resident.model.network.named_buffers():
        assert same_bits(tensor, loaded.network.get_buffer(name)), name
    if not tasks:
        return
    report = evaluate(loaded, tasks)
    scores = {task.task: {item.id: item.score for item in task.items} for task in report.tasks}
    assert own.scores == {task: [scores[task][name] for name in ids] for task, ids in items.items()}


@pytest.fixture(scope="session")
def counted(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A family with statistics of its models' inputs."""
    root = family()
    text = tmp_path_factory.mktemp("text") / "text.jsonl"
    text.write_text("".join(json.dumps({"text": f"Which of {word}? Write {word}: "}) + "\n" for word in WORDS * 8))
    for name in EXPERTS:
        out = root / f"statistics-{name}"
        calibrate(f"{root}/{name}", str(text), out, HOW, device="cpu", hub=Hub(), progress=Silent())
    return root


@pytest.fixture(scope="session")
def resident(family: Family, tasks: list[Task]) -> Resident:
    return Resident(references(family()), tasks, device="cpu")


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_gives_in_place_what_it_gives_on_disk(
    counted: Path, resident: Resident, tasks: list[Task], items: Items, tmp_path: Path, method: str
) -> None:
    resident.apply(recipe(counted, "linear"))
    if "lambda" in METHODS[method].settings:
        resident.apply(recipe(counted, method, **{"lambda": 0.4}))
    text = recipe(counted, method)
    resident.apply(text)
    assert_as_on_disk(resident, text, tasks, items, tmp_path / "out")
    assert resident.notes == []


@pytest.mark.parametrize("answers_in", ["bfloat16", "float16"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_network_of_fewer_bits_answers_as_the_loaded_folder(
    family: Family, tasks: list[Task], items: Items, tmp_path: Path, dtype: str, answers_in: Dtype
) -> None:
    root = family(dtype)
    resident = Resident(references(root), tasks, device="cpu", dtype=answers_in)
    resident.apply(recipe(root, "task_arithmetic"))
    text = recipe(root, "ties", weight=0.7)
    resident.apply(text)
    assert resident.in_place
    assert str(resident.model.network.dtype) == f"torch.{answers_in}"
    assert_as_on_disk(resident, text, tasks, items, tmp_path / "out", answers_in)
    resident.check_on_disk(text)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_types_and_tied_heads_are_as_when_the_folder_is_loaded(
    family: Family, tasks: list[Task], items: Items, tmp_path: Path, dtype: str, tied: bool
) -> None:
    root = family(dtype, tied=tied)
    resident = Resident(references(root), tasks, device="cpu", threads=2)
    resident.apply(recipe(root, "task_arithmetic"))
    network = resident.model.network
    for number, extra in enumerate(("", "dtype: float16\n", "dtype: float32\n", "dtype: bfloat16\n")):
        text = recipe(root, "ties", extra, weight=0.7)
        resident.apply(text)
        assert_as_on_disk(resident, text, tasks, items, tmp_path / str(number))
    again = recipe(root, "task_arithmetic", weight=0.9)
    resident.apply(again)
    assert_as_on_disk(resident, again, tasks, items, tmp_path / "again")
    assert (network.lm_head.weight.data_ptr() == network.model.embed_tokens.weight.data_ptr()) is tied
    assert resident.notes == []


def test_the_network_stays_and_its_weights_change(family: Family, resident: Resident, items: Items) -> None:
    resident.apply(recipe(family(), "task_arithmetic", weight=0.3))
    network, before = resident.model.network, resident.digest
    weight = network.model.layers[0].mlp.up_proj.weight
    first = weight.clone()
    resident.apply(recipe(family(), "task_arithmetic", weight=0.9))
    assert resident.model.network is network
    assert resident.in_place
    assert not torch.equal(weight, first)
    assert resident.digest != before
    resident.apply(recipe(family(), "task_arithmetic", weight=0.3))
    assert torch.equal(weight, first)
    assert resident.digest == before


def test_a_recipe_that_is_merged_already_is_not_merged_again(
    family: Family, resident: Resident, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = recipe(family(), "linear")
    resident.apply(text)
    monkeypatch.setattr(resident, "_merge", None)
    resident.apply(text)


def test_what_the_network_can_do_is_tried_anew_now_and_then(
    family: Family, resident: Resident, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cuvee.search.resident.TRIED_EVERY", 2)
    abilities = []
    for weight in (0.9, 0.8, 0.7, 0.6, 0.5):
        resident.apply(recipe(family(), "linear", weight=weight))
        abilities.append(resident.model.abilities)
    anew = [after is not before for before, after in pairwise(abilities)]
    assert anew in ([True, False, True, False], [False, True, False, True])


def test_tasks_asked_together_are_answered_as_each_alone(family: Family, resident: Resident, items: Items) -> None:
    resident.apply(recipe(family(), "linear"))
    alone = {name: resident.measure({name: ids}).scores[name] for name, ids in items.items()}
    assert resident.measure(items).scores == alone


def test_adapters_are_experts(family: Family, tasks: list[Task], items: Items, tmp_path: Path) -> None:
    root = family()
    modules = {f"model.layers.{layer}.self_attn.q_proj": 4 for layer in range(2)}
    for seed in range(2):
        write_adapter(tmp_path / f"lora{seed}", modules, seed=seed, shape=(32, 32), alpha=8)
    models = [f"{root}/base+{tmp_path}/lora{seed}" for seed in range(2)]
    resident = Resident([f"{root}/base", *models], tasks, device="cpu")
    for number, weight in enumerate((0.5, 1.2)):
        listed = "".join(f"- {{model: {model}, parameters: {{weight: {weight}}}}}\n" for model in models)
        text = f"merge_method: task_arithmetic\nbase_model: {root}/base\nmodels:\n{listed}"
        resident.apply(text)
        assert_as_on_disk(resident, text, tasks, items, tmp_path / str(number))
    assert resident.in_place


@pytest.mark.parametrize("name", UNLIKE_LLAMA)
def test_networks_that_rename_or_join_tensors_are_what_the_folder_gives(name: str, tmp_path: Path) -> None:
    folders = [made(name, seed, tmp_path / str(seed)) for seed in range(2)]
    resident = Resident([str(folder) for folder in folders], [], device="cpu")
    for number, weight in enumerate((0.5, 0.9)):
        listed = "".join(f"- {{model: {folder}, parameters: {{weight: {weight}}}}}\n" for folder in folders)
        text = f"merge_method: linear\nmodels:\n{listed}parameters: {{normalize: false}}\n"
        resident.apply(text)
        assert_as_on_disk(resident, text, [], {}, tmp_path / f"out{number}")
    assert resident.in_place, resident.notes


def made(family: str, seed: int, folder: Path) -> Path:
    torch.manual_seed(seed)
    make_network(family).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def test_two_tensors_of_one_place_are_kept_apart_once_they_differ(tmp_path: Path) -> None:
    folders = [made("t5", seed, tmp_path / str(seed)) for seed in range(2)]
    for folder in folders:
        weights = load_file(folder / "model.safetensors")
        weights["encoder.embed_tokens.weight"] = weights["shared.weight"].clone()
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    resident = Resident([str(folder) for folder in folders], [], device="cpu")
    filtered = "[{filter: encoder.embed_tokens, value: 0.2}, {value: 0.5}]"
    for number, weight in enumerate(("0.5", "0.7", filtered, "0.5")):
        listed = "".join(f"- {{model: {folder}, parameters: {{weight: {weight}}}}}\n" for folder in folders)
        text = f"merge_method: linear\nmodels:\n{listed}parameters: {{normalize: false}}\n"
        resident.apply(text)
        assert_as_on_disk(resident, text, [], {}, tmp_path / f"out{number}")
        network = resident.model.network
        shared = network.shared.weight.data_ptr() == network.encoder.embed_tokens.weight.data_ptr()
        assert shared is (number < 2)
    assert resident.in_place


def test_a_recipe_that_fails_leaves_nothing_behind(
    family: Family, tasks: list[Task], items: Items, tmp_path: Path
) -> None:
    root = family()
    resident = Resident(references(root), tasks, device="cpu")
    text = recipe(root, "task_arithmetic")
    resident.apply(text)
    scores = resident.measure(items).scores
    weights = load_file(root / "e2" / "model.safetensors")
    weights["model.norm.weight"][0] = torch.nan
    shutil.copytree(root / "e2", tmp_path / "broken")
    save_file(weights, tmp_path / "broken" / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight' holds nan"):
        resident.apply(text.replace(f"{root}/e2", f"{tmp_path}/broken"))
    with pytest.raises(SearchError, match="no recipe is merged"):
        resident.measure(items)
    resident.apply(text)
    assert resident.measure(items).scores == scores


def test_models_that_change_meanwhile_are_refused(family: Family, tasks: list[Task], tmp_path: Path) -> None:
    shutil.copytree(family(), tmp_path / "own")
    resident = Resident(references(tmp_path / "own"), tasks, device="cpu")
    resident.apply(recipe(tmp_path / "own", "linear"))
    shutil.copy(tmp_path / "own/e1/model.safetensors", tmp_path / "own/e0/model.safetensors")
    with pytest.raises(SearchError, match="e0: the model's files have changed since the search began"):
        resident.apply(recipe(tmp_path / "own", "linear", weight=0.3))


def test_without_room_for_models_the_weights_are_the_same(family: Family, tasks: list[Task]) -> None:
    text = recipe(family(), "ties")
    digests = set()
    for memory in (0, 30_000, 10**9):
        resident = Resident(references(family()), tasks, device="cpu", memory_bytes=memory)
        resident.apply(recipe(family(), "linear"))
        resident.apply(text)
        digests.add(resident.digest)
    assert len(digests) == 1


def test_stages_are_merged_on_the_disk_and_a_note_says_so(
    family: Family, tasks: list[Task], items: Items, tmp_path: Path
) -> None:
    root = family()
    first = recipe(root, "linear", "name: first\n")
    text = f"{first}---\nname: last\nmerge_method: linear\nmodels: [{{model: first}}, {{model: {root}/e2}}]\n"
    text += "parameters: {weight: 0.5}\n"
    resident = Resident(references(root), tasks, device="cpu")
    resident.apply(text)
    assert resident.digest == merge_stages(stages_from_text(text), tmp_path / "out").digest
    assert "it has stages" in resident.notes[0]
    resident.check_on_disk(recipe(root, "linear"))
    assert resident.measure(items).scores.keys() == items.keys()


def test_a_difference_from_the_disk_is_found(family: Family, tasks: list[Task]) -> None:
    resident = Resident(references(family()), tasks, device="cpu")
    text = recipe(family(), "ties")
    resident.check_on_disk(text)
    with torch.no_grad():
        resident.model.network.model.norm.weight[0] += 1
    with pytest.raises(SearchError, match=r"other numbers in 'model\.norm\.weight'"):
        resident.check_on_disk(text)


def test_items_are_scored_in_the_order_in_which_they_are_asked_for(family: Family, resident: Resident) -> None:
    resident.apply(recipe(family(), "linear"))
    every = resident.measure({"writing": [f"w{place}" for place in range(8)]})
    some = resident.measure({"writing": ["w5", "w1"]})
    assert some.scores["writing"] == [every.scores["writing"][5], every.scores["writing"][1]]
    assert 0 < some.tokens < every.tokens


def test_unknown_tasks_and_items_are_refused(family: Family, resident: Resident) -> None:
    resident.apply(recipe(family(), "linear"))
    with pytest.raises(SearchError, match="there is no task 'reading'"):
        resident.measure({"reading": []})
    with pytest.raises(SearchError, match="task 'writing' has no item 'w99'"):
        resident.measure({"writing": ["w99"]})


def test_items_without_a_target_are_refused() -> None:
    task = Task("blank", (Sample("b0", "Write:", "generation"),), ("exact_match",))
    with pytest.raises(SearchError, match="blank: item 'b0' has no target"):
        Resident([], [task], device="cpu")


def test_a_process_keeps_one_resident_model_for_its_setup() -> None:
    experts = [str(model_folder(name)) for name in ("sort", "reverse")]
    base = str(model_folder("base"))
    listed = "".join(f"- {{model: {model}, parameters: {{weight: 0.6}}}}\n" for model in experts)
    text = f"merge_method: task_arithmetic\nbase_model: {base}\nmodels:\n{listed}"
    setup = Setup((base, *experts), ("sort", "odd"), device="cpu")
    items = {"sort": ["sort-000", "sort-001"], "odd": ["odd-004"]}
    first = measured(setup, text, items)
    assert first.scores.keys() == items.keys()
    assert [len(scores) for scores in first.scores.values()] == [2, 1]
    resident = resident_of(setup)
    assert measured(setup, text, items).scores == first.scores
    assert resident_of(replace(setup)) is resident
    assert resident_of(replace(setup, threads=2)) is not resident


def test_texts_are_tokenised_once_and_as_ever() -> None:
    tokenizer = byte_tokenizer()
    remembering = RememberingTokenizer(tokenizer)
    texts = ["sort 1", "turn", "sort 1"]
    for special in (True, False):
        expected = tokenizer(texts, add_special_tokens=special)["input_ids"]
        assert remembering(texts, add_special_tokens=special)["input_ids"] == expected
    cut = {"add_special_tokens": True, "truncation": True, "max_length": 2}
    assert remembering(texts, **cut)["input_ids"] == tokenizer(texts, **cut)["input_ids"]
    remembering._tokenizer = None
    rows = remembering(texts[1:], add_special_tokens=True)["input_ids"]
    assert rows == tokenizer(texts[1:])["input_ids"]
