"""Prompts: what the model reads, and the answer found in what it writes."""

from dataclasses import replace

import pytest

from cuvee.errors import EvaluationError
from cuvee.evaluation import Extraction, Prompt, Sample, Shot, Task, evaluate
from cuvee.evaluation.choices import choose
from cuvee.evaluation.extract import extracted, named_choice
from cuvee.evaluation.generate import generate
from cuvee.evaluation.model import LanguageModel
from cuvee.evaluation.turns import chat_text

from .brute_force import log_likelihood

CHAT = (
    "{% for m in messages %}<s>[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<s>[assistant] {% endif %}"
)


@pytest.fixture
def chatting(model: LanguageModel) -> LanguageModel:
    """The model with a chat template of its own."""
    import copy

    tokenizer = copy.deepcopy(model.tokenizer)
    tokenizer.chat_template = CHAT
    return replace(model, tokenizer=tokenizer)


def test_a_template_lists_the_choices_after_their_letters() -> None:
    prompt = Prompt(template="{input}\n{choices}\nAnswer:", system="Be brief.")
    prompt = replace(prompt, few_shot=(Shot("1+1?", "A", ("2", "3")),))
    assert prompt.render("{choices}?", ("x", "y")) == (
        "Be brief.\n\n1+1?\nA. 2\nB. 3\nAnswer: A\n\n{choices}?\nA. x\nB. y\nAnswer:"
    )


def test_few_shot_examples_are_turns_of_a_chat(chatting: LanguageModel) -> None:
    prompt = Prompt(chat_template=True, system="Be brief.", few_shot=(Shot("1+1?", "2"),))
    rendered = chatting.render(prompt, "2+2?")
    assert rendered == "<s>[system] Be brief.\n<s>[user] 1+1?\n<s>[assistant] 2\n<s>[user] 2+2?\n<s>[assistant] "
    ids = chatting.encode([rendered], chat=True)[0]
    assert ids.count(chatting.tokenizer.bos_token_id) == 5


def test_choices_follow_a_chat_template_without_a_space(chatting: LanguageModel) -> None:
    prompt = Prompt(chat_template=True)
    sample = Sample("0", "Which?", "multiple_choice", ("yes", "no"))
    found = next(choose(chatting, [sample], prompt))[0][1]
    prefix = chatting.encode([chatting.render(prompt, "Which?")], chat=True)[0]
    rows = [chatting.encode_plain([choice])[0] for choice in sample.choices]
    assert found.scores == pytest.approx([log_likelihood(chatting, prefix, row) for row in rows], abs=1e-4)
    assert found.prompt == "<s>[user] Which?\n<s>[assistant] "


PARTS = (
    "{% for m in messages %}<s>[{{ m.role }}] {% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}"
    "{% endif %}{% endfor %}{% endfor %}"
)


def test_a_template_that_reads_parts_is_given_parts(chatting: LanguageModel) -> None:
    chatting.tokenizer.chat_template = PARTS
    rendered = chatting.render(Prompt(chat_template=True, system="Be brief."), "2+2?")
    assert rendered == "<s>[system] Be brief.<s>[user] 2+2?"


def test_a_template_that_reads_text_is_given_text(chatting: LanguageModel) -> None:
    turns = [{"role": "user", "content": [{"type": "text", "text": "2+"}, {"type": "text", "text": "2?"}]}]
    assert chat_text(chatting.tokenizer, turns, "m", asks=False) == "<s>[user] 2+2?\n"
    picture = [{"role": "user", "content": [{"type": "image", "url": "x"}]}]
    with pytest.raises(EvaluationError, match=r"a turn has a part \{'type': 'image'"):
        chat_text(chatting.tokenizer, picture, "m", asks=False)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("Hello!", "leaves out what a turn of the user says"),
        ("{% for m in messages %}", "the chat template fails"),
        ("{{ messages[0].content.nothing.at_all }}", "the chat template fails"),
        ("{{ 1 / 0 }}", "the chat template fails"),
    ],
)
def test_a_template_that_cannot_ask_is_refused(chatting: LanguageModel, template: str, message: str) -> None:
    chatting.tokenizer.chat_template = template
    with pytest.raises(EvaluationError, match=message):
        chatting.render(Prompt(chat_template=True), "x")


def test_a_template_that_writes_the_day_writes_the_same_one_each_day(chatting: LanguageModel) -> None:
    chatting.tokenizer.chat_template = (
        "{% if strftime_now is defined %}\n{{ strftime_now('%A, %d %b %Y') }} {% endif %}{{ messages[0].content }}"
    )
    assert chatting.render(Prompt(chat_template=True), "x") == "Friday, 26 Jul 2024 x"


def test_a_model_without_a_chat_template_is_refused(model: LanguageModel) -> None:
    with pytest.raises(EvaluationError, match="tokenizer has none"):
        model.render(Prompt(chat_template=True), "x")


TEXT = "First I thought (A). Then B was likely, 1,200 of 3 ways. The answer is (C). -4.5 is not it."


@pytest.mark.parametrize(
    ("pattern", "answer"),
    [
        (Extraction(r"answer is \(?([A-J])\)?"), "C"),
        (Extraction(find="letter"), "A"),
        (Extraction(find="letter", match="last"), "C"),
        (Extraction(find="number"), "1,200"),
        (Extraction(find="number", match="last"), "-4.5"),
        (Extraction(r"never"), TEXT),
    ],
)
def test_answers_are_found_in_text(pattern: Extraction, answer: str) -> None:
    assert extracted(TEXT, [pattern], None) == answer


def test_the_first_pattern_that_matches_gives_the_answer() -> None:
    patterns = [Extraction(r"answer is (\w+)"), Extraction(r"\d+")]
    texts = ["it is 3, the answer is four", " so 12 or 13", " none \n"]
    assert [extracted(text, patterns, None) for text in texts] == ["four", "12", "none"]
    assert extracted("none", patterns, "A") == "A"
    assert [extracted(text, [], "A") for text in (" all ", " \n")] == ["all", "A"]


def test_letters_beyond_the_choices_are_no_answers() -> None:
    assert extracted("I say B, not D", [Extraction(find="letter")], None, ("x", "y")) == "B"


@pytest.mark.parametrize(
    ("answer", "index"),
    [("run  away", 1), ("RUN", 0), ("B", 1), ("(c).", 2), ("D", None), ("fly", None), ("", None)],
)
def test_an_answer_names_a_choice_by_text_or_letter(answer: str, index: int | None) -> None:
    assert named_choice(answer, ("run", "Run away", "sleep")) == index


def test_multiple_choice_can_be_answered_by_writing(model: LanguageModel) -> None:
    sample = Sample("0", "What did the fox do then?", "multiple_choice", ("run", "hide"), 1)
    said = next(generate(model, [sample], Prompt(max_new_tokens=6)))[0][1].text
    letter = Extraction(pattern=f"(?s)^.{{{len(said)}}}()")  # finds nothing but blank
    otherwise = replace(Prompt(max_new_tokens=6), answer_by="generation", extract=(Extraction("never"),), otherwise="B")
    blank = replace(otherwise, extract=(letter,), otherwise=None)
    right, none = (evaluate(model, [Task("t", (sample,), ("accuracy",), prompt=each)]) for each in (otherwise, blank))
    assert [(item.prediction, item.score) for item in right.tasks[0].items] == [(1, 1.0)]
    assert [(item.prediction, item.score) for item in none.tasks[0].items] == [("", 0.0)]
    assert none.notes == ("t: 1 of 1 predictions are blank",)


SAMPLED = Prompt(max_new_tokens=8, temperature=1.0, seed=3)


def texts(model: LanguageModel, prompt: Prompt, batch_size: int = 16) -> list[str]:
    samples = [Sample(str(n), f"Say {'y' * n}", "generation") for n in range(6)]
    by_place = dict(pair for batch in generate(model, samples, prompt, batch_size=batch_size) for pair in batch)
    return [by_place[place].text for place in range(6)]


def test_sampled_texts_depend_on_the_seed_and_not_on_the_batch(model: LanguageModel) -> None:
    first = texts(model, SAMPLED)
    assert first == texts(model, SAMPLED, batch_size=1) == texts(model, SAMPLED, batch_size=4)
    assert first != texts(model, replace(SAMPLED, seed=4))
    assert texts(model, replace(SAMPLED, top_p=1e-9)) == texts(model, Prompt(max_new_tokens=8))


def test_draws_follow_the_probabilities(model: LanguageModel) -> None:
    import numpy as np
    import torch

    from cuvee.evaluation.sampling import Sampler

    probabilities = [0.5, 0.3, 0.15, 0.05]
    logits = torch.tensor(probabilities).log().repeat(4000, 1)
    for top_p, expected in ((1.0, probabilities), (0.75, [0.625, 0.375, 0, 0])):
        sampler = Sampler(replace(SAMPLED, top_p=top_p), [str(n) for n in range(4000)])
        counts = np.bincount(sampler.pick(logits, range(4000), [0] * 4000).numpy(), minlength=4)
        assert counts / 4000 == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(("end", "notes"), [("<think>\n", 1), ("<think>\n\n</think>\n\n", 0), ("", 0)])
def test_choices_scored_inside_a_thought_get_a_note(chatting: LanguageModel, end: str, notes: int) -> None:
    chatting.tokenizer.chat_template = CHAT.replace("[assistant] ", f"[assistant] {end}")
    task = Task(
        "t",
        (Sample("0", "Which?", "multiple_choice", ("yes", "no"), 0),),
        ("accuracy",),
        prompt=Prompt(chat_template=True),
    )
    report = evaluate(chatting, [task])
    assert len([note for note in report.notes if "begins an answer with <think>" in note]) == notes
