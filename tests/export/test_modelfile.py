"""A chat template in Ollama's words says what the Jinja template says, or is left out."""

import json
from pathlib import Path

import pytest

from foreign.test_gguf import MADE
from tokenizers_made import byte_level_bpe

pytest.importorskip("gguf")
pytest.importorskip("torch")
pytest.importorskip("transformers")

from cuvee.errors import RecipeError  # after the skips
from cuvee.export import export_gguf
from cuvee.export.chat_format import chat_format
from cuvee.tokenizers.chat import named_templates

CHATML = named_templates()["chatml"]
QWEN = "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are kind.<|im_end|>\n{% endif %}" + CHATML
GEMMA = (
    "{{ bos_token }}{% set s = messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' if s %}"
    "{% for m in (messages[1:] if s else messages) %}<start_of_turn>"
    "{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ (first if loop.first and s else '') + m['content'] }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}" + CHATML


def test_texts_around_messages_are_found():
    found = chat_format(GEMMA, {"bos_token": "<bos>"}, leave_out="<bos>")
    assert found is not None
    assert found.system_before == "<start_of_turn>user\n"
    assert found.system_after == "\n\n"
    talk = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    assert found.text(talk) == "<start_of_turn>user\nBe kind.\n\nHi<end_of_turn>\n<start_of_turn>model\n"


def test_a_message_of_the_templates_own_comes_before_the_first():
    found = chat_format(QWEN, {})
    assert found is not None
    assert found.opening == "<|im_start|>system\nYou are kind.<|im_end|>\n<|im_start|>user\n"
    assert found.user == "<|im_start|>user\n"


def test_a_template_without_a_system_has_none():
    found = chat_format(NO_SYSTEM, {})
    assert found is not None
    assert found.system_before is None
    assert "system" not in found.go_template().replace('"system"', "")


@pytest.mark.parametrize(
    "template",
    [
        "{{ strftime_now('%d') }}" + CHATML,
        "{{ messages[-1]['content'] }}",
        "{% if %}",
        CHATML.replace("<|im_start|>", "{{ '{{' }}"),
        CHATML + "{{ messages | length }}",
    ],
)
def test_what_says_more_than_texts_around_messages_is_left_out(template):
    assert chat_format(template, {}) is None


@pytest.fixture
def folder(tmp_path) -> Path:
    model = MADE["llama"]()
    model.resize_token_embeddings(352)
    model.generation_config.update(do_sample=True, temperature=0.7, top_p=0.9, eos_token_id=[0, 5])
    model.save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "tokenizer.json").write_text(byte_level_bpe(size=340), encoding="utf-8")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}
    (tmp_path / "m" / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "m" / "chat_template.jinja").write_text(CHATML)
    return tmp_path / "m"


def test_a_modelfile_names_the_file_the_template_the_ends_and_how_to_sample(folder, tmp_path):
    made = export_gguf(folder, tmp_path / "m.gguf", ollama=True)
    lines = (tmp_path / "Modelfile").read_text(encoding="utf-8").splitlines()
    assert made.modelfile == tmp_path / "Modelfile"
    assert lines[0] == "FROM ./m.gguf"
    assert lines[1].startswith('TEMPLATE """{{ range $i, $m := .Messages }}')
    ends = [line for line in lines if line.startswith("PARAMETER")]
    assert ends[0] == 'PARAMETER stop "<|endoftext|>"'
    assert ends[-2:] == ["PARAMETER temperature 0.7", "PARAMETER top_p 0.9"]


def test_a_modelfile_that_is_there_is_replaced_only_if_asked(folder, tmp_path):
    (tmp_path / "Modelfile").write_text("precious")
    with pytest.raises(RecipeError, match="the output exists already"):
        export_gguf(folder, tmp_path / "m.gguf", ollama=True)
    assert (tmp_path / "Modelfile").read_text() == "precious"
    assert not (tmp_path / "m.gguf").exists()


def test_a_template_that_ollama_cannot_say_is_noted(folder, tmp_path):
    (folder / "chat_template.jinja").write_text("{{ messages[-1]['content'] }}")
    made = export_gguf(folder, tmp_path / "m.gguf", ollama=True)
    assert any("Modelfile has none" in note for note in made.notes)
    assert "TEMPLATE" not in (tmp_path / "Modelfile").read_text()
