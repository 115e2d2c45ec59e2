"""The bundled family and its tasks are complete, well-formed and what the skills say they are."""

import csv
import json
from pathlib import Path

import pytest
import yaml

import cuvee
from cuvee import demo
from cuvee.checkpoint.model_card import card_facts
from cuvee.demo import skills

MODELS = [demo.BASE, *demo.expert_names()]
SKILLS = demo.expert_names()
TASKS = demo.task_names()
TEXTS = [
    "Reverse: k d w ->",
    "Odd: ant bee red -> red",
    "  two  spaces\n\ta tab 1234",
    "Grüße, 世界 🍇 ! don't",
    "x=[1,2];y={'a':None}",
]


def rows(task: str) -> list[dict[str, str]]:
    settings = yaml.safe_load(demo.task_file(task).read_text(encoding="utf-8"))
    with (demo.task_file(task).parent / settings["data"]).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_skill_has_an_expert_a_public_and_a_private_task() -> None:
    assert len(SKILLS) >= 4
    assert sorted([*SKILLS, *(f"{skill}-private" for skill in SKILLS)]) == TASKS


@pytest.mark.parametrize("model", MODELS)
def test_every_model_states_its_licence(model: str) -> None:
    assert card_facts(demo.model_folder(model)).licence == "apache-2.0"


def test_the_card_of_a_blend_states_the_familys_licence(tmp_path: Path) -> None:
    models = "".join(f"  - model: {demo.model_folder(name)}\n" for name in MODELS[1:3])
    recipe = cuvee.recipe_from_text(f"merge_method: linear\nmodels:\n{models}parameters: {{weight: 1}}\n")
    blend = cuvee.merge(recipe, tmp_path / "blend").folder
    assert card_facts(blend).licence == "apache-2.0"
    assert "**Licence:** apache-2.0, as all parents state." in (blend / "README.md").read_text()


@pytest.mark.parametrize("task", TASKS)
def test_a_part_has_two_hundred_different_prompts_and_one_type(task: str) -> None:
    items = rows(task)
    assert len({item["input"] for item in items}) == len(items) >= 200
    assert len({item["id"] for item in items}) == len(items)
    assert len({item["eval_type"] for item in items}) == 1


@pytest.mark.parametrize("skill", SKILLS)
def test_no_prompt_is_in_two_parts(skill: str) -> None:
    for part, task in (("public", skill), ("private", f"{skill}-private")):
        assert {skills.part_of(item["input"]) for item in rows(task)} == {part}


@pytest.mark.parametrize("skill", SKILLS)
def test_public_and_private_prompts_are_disjoint(skill: str) -> None:
    public, private = ({item["input"] for item in rows(task)} for task in (skill, f"{skill}-private"))
    assert not public & private


@pytest.mark.parametrize("task", TASKS)
def test_choices_are_different_and_the_target_is_one_of_them(task: str) -> None:
    for item in rows(task):
        choices = json.loads(item["answer_choices"] or "[]")
        assert bool(choices) == (item["eval_type"] == "multiple_choice")
        assert len(set(choices)) == len(choices)
        assert (int(item["target"]) in range(len(choices))) if choices else item["target"]


def test_both_types_are_there_at_least_twice() -> None:
    types = [rows(skill)[0]["eval_type"] for skill in SKILLS]
    assert types.count("multiple_choice") >= 2
    assert types.count("generation") >= 2


def test_the_shipped_tasks_are_what_the_skills_draw(tmp_path: Path) -> None:
    for skill in skills.SKILLS.values():
        for part in skills.PARTS:
            skills.write_task(skill, part, tmp_path)
    drawn = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert drawn == {file.name: file.read_bytes() for file in (demo.ROOT / "tasks").iterdir()}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_loads_with_every_key_in_place(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    model, loading = transformers.AutoModelForCausalLM.from_pretrained(
        demo.model_folder(name), dtype="auto", output_loading_info=True
    )
    assert not any(loading.values())
    assert model.dtype.is_floating_point
    assert model.dtype.itemsize == 2
    assert model.generation_config.eos_token_id == model.config.eos_token_id


@pytest.mark.parametrize("name", MODELS)
def test_every_folder_has_the_same_tokenizer_files(name: str) -> None:
    for file in ("tokenizer.json", "tokenizer_config.json"):
        assert (demo.model_folder(name) / file).read_bytes() == (demo.model_folder(demo.BASE) / file).read_bytes()


@pytest.mark.parametrize("text", TEXTS)
def test_the_tokenizer_gives_any_text_back(text: str) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(demo.model_folder(demo.BASE))
    tokens = tokenizer(text).input_ids
    assert tokens[0] == tokenizer.bos_token_id
    assert tokenizer.decode(tokens, skip_special_tokens=True) == text


def test_a_prompt_keeps_its_tokens_when_an_answer_follows() -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(demo.model_folder(demo.BASE))
    for task in TASKS:
        for item in rows(task)[:20]:
            prompt = tokenizer(item["input"]).input_ids
            assert tokenizer(f"{item['input']} {item['target']}").input_ids[: len(prompt)] == prompt


def test_the_family_stays_small() -> None:
    assert sum(file.stat().st_size for file in demo.ROOT.rglob("*") if file.is_file()) <= 24_000_000
