"""Chat templates: all of a tokenizer's arrive, the one asked for is chosen, and a text that is none is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

import cuvee
from cuvee.errors import CheckpointError, RecipeError
from cuvee.tokenizers.chat import chat_templates, named_templates
from tokenizers_made import BUILDERS, with_model

A, B = "{% for m in messages %}A{{ m.content }}{% endfor %}", "{% for m in messages %}B{{ m.content }}{% endfor %}"
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three models, the templates of which are still to be written."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("abc"):
        with_model(tmp_path / name, BUILDERS["wordpiece"], seed)
        (tmp_path / name / "tokenizer_config.json").write_text('{"x": 1}')
    return tmp_path


def write_template(folder: Path, usual: str, **others: str) -> None:
    """Write templates as transformers 5 does."""
    (folder / "chat_template.jinja").write_text(usual, encoding="utf-8")
    for name, text in others.items():
        (folder / "additional_chat_templates").mkdir(exist_ok=True)
        (folder / "additional_chat_templates" / f"{name}.jinja").write_text(text, encoding="utf-8")


def merge(here: Path, rest: str = "", models: str = "abc") -> cuvee.MergeResult:
    listed = ", ".join(f"{{model: {name}}}" for name in models)
    text = f"merge_method: linear\nmodels: [{listed}]\nparameters: {{weight: 1}}\n{rest}"
    return cuvee.merge(cuvee.recipe_from_text(text), here / "out", overwrite=True)


def named(folder: Path) -> dict[str, str]:
    found = chat_templates(folder)
    return {"default": str(found.usual), **found.others}


@pytest.mark.parametrize("rest", ["", "tokenizer: union\n", "tokenizer: base\n"])
def test_all_templates_of_the_donor_arrive(here: Path, rest: str) -> None:
    write_template(here / "a", A, tool_use="T", rag="R")
    write_template(here / "b", B, other="O")
    assert named(merge(here, rest).folder) == {"default": A, "tool_use": "T", "rag": "R"}


def test_another_tokenizers_templates_arrive_and_none_of_the_donors(here: Path) -> None:
    write_template(here / "a", A, tool_use="T")
    write_template(here / "b", B, rag="R")
    assert named(merge(here, "tokenizer: b\n").folder) == {"default": B, "rag": "R"}


@pytest.mark.parametrize("rest", ["chat_template: c\n", "chat_template: c\ntokenizer: union\n"])
def test_templates_in_a_list_of_the_settings_become_files(here: Path, rest: str) -> None:
    write_template(here / "a", A, tool_use="T")
    listed = [{"name": "default", "template": B}, {"name": "rag", "template": "R"}]
    (here / "c" / "tokenizer_config.json").write_text(json.dumps({"chat_template": listed}))
    result = merge(here, rest)
    assert named(result.folder) == {"default": B, "rag": "R"}
    assert "tool_use is left out" in " ".join(result.notes)


def test_files_go_before_a_list_in_the_settings_and_both_are_kept(here: Path) -> None:
    """So transformers loads the parents."""
    write_template(here / "a", A)
    listed = [{"name": "default", "template": B}, {"name": "rag", "template": "R"}]
    (here / "a" / "tokenizer_config.json").write_text(json.dumps({"chat_template": listed}))
    out = merge(here).folder
    assert named(out) == {"default": A}
    assert json.loads((out / "tokenizer_config.json").read_text()) == {"chat_template": listed}


def test_no_template_stays_in_the_settings_beside_the_chosen_one(here: Path) -> None:
    settings = {"chat_template": A, "added_tokens_decoder": {}}
    (here / "a" / "tokenizer_config.json").write_text(json.dumps(settings))
    out = merge(here, "chat_template: chatml\ntokenizer: union\n").folder
    assert "chat_template" not in json.loads((out / "tokenizer_config.json").read_text())


@pytest.mark.parametrize("blanks", ["\n", " \n\n", "\t"])
def test_auto_does_not_count_blanks_at_the_ends(here: Path, blanks: str) -> None:
    write_template(here / "a", B)
    write_template(here / "b", A, tool_use="T")
    write_template(here / "c", A + blanks)
    assert named(merge(here, "chat_template: auto\n").folder) == {"default": A, "tool_use": "T"}


def test_auto_without_any_template_is_an_error(here: Path) -> None:
    with pytest.raises(CheckpointError, match="no model has a chat template"):
        merge(here, "chat_template: auto\n")


def test_the_names_are_those_of_mergekit() -> None:
    assert sorted(named_templates()) == ["alpaca", "chatml", "exaone", "llama3", "mistral"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "chatml",
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "llama3",
            "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        (
            "alpaca",
            "Be brief.\n\n### Instruction:\nHi\n\n### Response:\nHello</s>\n\n### Instruction:\nBye\n\n### Response:\n",
        ),
        ("mistral", "<s>[INST] Be brief.\n\nHi [/INST] Hello</s>[INST] Bye [/INST]"),
        (
            "exaone",
            "[|system|]Be brief.[|endofturn|]\n[|user|]Hi\n[|assistant|]Hello[|endofturn|]\n[|user|]Bye\n[|assistant|]",
        ),
    ],
)
def test_a_named_template_writes_what_the_format_says(here: Path, name: str, expected: str) -> None:
    transformers: Any = pytest.importorskip("transformers")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (here / "a" / "tokenizer_config.json").write_text(json.dumps(settings))
    out = merge(here, f"chat_template: {name}\n").folder
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    assert tokenizer.apply_chat_template(TALK, tokenize=False, add_generation_prompt=True) == expected
    alone = tokenizer.apply_chat_template(TALK[1:2], tokenize=False)
    assert "Hi" in alone
    assert "Be brief." not in alone


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("llama9", "unknown chat template 'llama9'"),
        ("chat_ml", "did you mean 'chatml'"),
        ("template.jinja", "is a file's path"),
        ("my_template", "is a file's path"),
        ("'{% for m in messages %}{{ m.content }}'", "no Jinja template: line 1: Unexpected end of template"),
        ("'{{ messages | }}'", "no Jinja template: line 1"),
        ('"first line\\nsecond line"', "no Jinja template: nothing in it"),
    ],
)
def test_a_text_that_is_no_template_is_the_recipes_error(here: Path, written: str, words: str) -> None:
    (here / "my_template").write_text(A)
    with pytest.raises(RecipeError) as caught:
        merge(here, f"chat_template: {written}\n")
    assert words in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    "written",
    [
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
        "{% for m in messages %}{% if loop.last %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
    ],
)
def test_tags_that_only_transformers_knows_are_jinja(here: Path, written: str) -> None:
    out = merge(here, f"chat_template: '{written}'\n").folder
    assert named(out) == {"default": written}
