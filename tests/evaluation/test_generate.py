"""Generation equals transformers' own greedy search, in any batch."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from cuvee.errors import EvaluationError
from cuvee.evaluation.continuous import LOOK_EVERY, write
from cuvee.evaluation.generate import Text, generate
from cuvee.evaluation.model import LanguageModel
from cuvee.evaluation.prompt import Prompt
from cuvee.evaluation.sampling import Sampler
from cuvee.evaluation.shared import SharedStart
from cuvee.evaluation.task import Sample

PROMPTS = ["a", "The fox", "What did the fox do then?", "1 + 1 =", "A longer prompt, to be padded against.", "zz"]
LENGTH = 12


def texts(model: LanguageModel, prompts: Sequence[str], batch_size: int = 16, **options: object) -> list[Text]:
    prompt = Prompt(**{"max_new_tokens": LENGTH, **options})  # type: ignore[arg-type]  # a dict of options
    found = generate(model, ask(prompts), prompt, batch_size=batch_size)
    by_place = dict(pair for batch in found for pair in batch)
    return [by_place[place] for place in range(len(prompts))]


def ask(prompts: Sequence[str]) -> list[Sample]:
    return [Sample(str(n), text, "generation") for n, text in enumerate(prompts)]


def written(model: LanguageModel, rows: Sequence[list[int]], stop: tuple[str, ...] = ()) -> list[list[int]]:
    prompt = Prompt(max_new_tokens=LENGTH, stop=stop)
    sampler = Sampler(prompt, [str(place) for place in range(len(rows))])
    return write(model, rows, prompt, sampler, SharedStart(model, prompt))


def greedy(model: LanguageModel, prompt: str) -> list[int]:
    ids = torch.tensor([model.tokenizer(prompt)["input_ids"]])
    ends = model.network.generation_config.eos_token_id
    out = model.network.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=LENGTH, pad_token_id=0
    )[0, ids.shape[1] :].tolist()
    return out[: out.index(ends)] if ends in out else out


@pytest.fixture(scope="module")
def ending(model: LanguageModel) -> LanguageModel:
    """A model whose end token is one that it likes to write."""
    network = copy.deepcopy(model.network)
    network.generation_config.eos_token_id = greedy(model, PROMPTS[2])[5]
    return replace(model, network=network)


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_the_text_is_that_of_transformers(model: LanguageModel, batch_size: int) -> None:
    expected = [model.tokenizer.decode(greedy(model, prompt)) for prompt in PROMPTS]
    assert [found.text for found in texts(model, PROMPTS, batch_size)] == expected


def test_a_row_stops_at_its_end_token_while_others_go_on(ending: LanguageModel) -> None:
    expected = [greedy(ending, prompt) for prompt in PROMPTS]
    lengths = {len(row) for row in expected}
    assert min(lengths) < LENGTH == max(lengths)
    assert written(ending, ending.encode(PROMPTS)) == expected


def test_finished_rows_leave_the_batch(ending: LanguageModel) -> None:
    prompts = [PROMPTS[2]] * 5 + PROMPTS
    assert written(ending, ending.encode(prompts)) == [greedy(ending, prompt) for prompt in prompts]


def test_rows_may_all_end_just_when_stop_strings_are_looked_for(model: LanguageModel) -> None:
    whole = next(row for row in (greedy(model, p) for p in PROMPTS) if row[LOOK_EVERY - 1] not in row[: LOOK_EVERY - 1])
    network = copy.deepcopy(model.network)
    network.generation_config.eos_token_id = whole[LOOK_EVERY - 1]
    prompt = next(p for p in PROMPTS if greedy(model, p) == whole)
    ends = replace(model, network=network)
    assert written(ends, ends.encode([prompt]), ("no such text",)) == [whole[: LOOK_EVERY - 1]]


def test_the_text_ends_before_the_earliest_stop_string(model: LanguageModel) -> None:
    whole = [found.text for found in texts(model, PROMPTS)]
    stops = (whole[0][4:6], whole[1][7:9])
    cut = [min((text.find(stop) for stop in stops if stop in text), default=len(text)) for text in whole]
    assert [found.text for found in texts(model, PROMPTS, stop=stops)] == [
        text[:end] for text, end in zip(whole, cut, strict=True)
    ]


def test_all_rows_stopped_ends_the_work_early(model: LanguageModel) -> None:
    first = texts(model, PROMPTS[:1])[0].text[0]
    assert [len(row) for row in written(model, model.encode(PROMPTS[:1]), (first,))] == [4]


def test_long_prompts_are_cut_on_the_left(make_model: Callable[..., LanguageModel]) -> None:
    model = make_model(max_position_embeddings=32)
    long = "y" * 50 + "end of the prompt"
    found = texts(model, [long, "short"])
    kept = [0, *model.tokenizer(long)["input_ids"][-19:]]
    assert [each.cut for each in found] == [1 + 67 - 20, 0]
    assert found[0].text == model.tokenizer.decode(written(model, [kept])[0], skip_special_tokens=True)


def test_more_new_tokens_than_the_model_sees_are_refused(model: LanguageModel) -> None:
    with pytest.raises(EvaluationError, match="max_new_tokens is 256; the model sees 256"):
        texts(model, PROMPTS, max_new_tokens=256)


def test_a_model_that_gives_nan_is_refused(make_model: Callable[..., LanguageModel]) -> None:
    model = make_model()
    model.network.model.norm.weight.data[0] = float("nan")
    with pytest.raises(EvaluationError, match="not a number"):
        texts(model, PROMPTS[:1])
