"""One model's answers to the samples of a task, in batches, as they come."""

from collections.abc import Collection, Iterator, Sequence

from cuvee.evaluate.batches import BatchSize
from cuvee.evaluate.choices import Choice, Scoring, choose
from cuvee.evaluate.generate import Text, generate
from cuvee.evaluate.model import LanguageModel
from cuvee.evaluate.samples import Answer
from cuvee.evaluate.task import EvalType, Prompt, Sample


def answer(
    model: LanguageModel,
    samples: Sequence[Sample],
    prompt: Prompt,
    *,
    scoring: Scoring,
    batch_size: BatchSize,
    done: Collection[str] = (),
) -> Iterator[list[Answer]]:
    """Answer samples, multiple choice first. Batches whose ids are all in `done` are left out, others come whole."""
    yield from _choices(model, _of("multiple_choice", samples), prompt, scoring, batch_size, done)
    yield from _texts(model, _of("generation", samples), prompt, batch_size, done)


def _of(eval_type: EvalType, samples: Sequence[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.eval_type == eval_type]


def _places(samples: Sequence[Sample], done: Collection[str]) -> set[int]:
    return {place for place, sample in enumerate(samples) if sample.id in done}


def _choices(
    model: LanguageModel,
    samples: Sequence[Sample],
    prompt: Prompt,
    scoring: Scoring,
    batch_size: BatchSize,
    done: Collection[str],
) -> Iterator[list[Answer]]:
    known = _places(samples, done)
    for batch in choose(model, samples, prompt, scoring=scoring, batch_size=batch_size, done=known):
        yield [_of_choice(samples[place].id, choice) for place, choice in batch]


def _of_choice(name: str, choice: Choice) -> Answer:
    return Answer(name, choice.index, choice.tokens, choice.cut, scores=choice.scores)


def _texts(
    model: LanguageModel, samples: Sequence[Sample], prompt: Prompt, batch_size: BatchSize, done: Collection[str]
) -> Iterator[list[Answer]]:
    prompts = [prompt.render(sample.input) for sample in samples]
    batches = generate(
        model,
        prompts,
        max_new_tokens=prompt.max_new_tokens,
        stop=prompt.stop,
        batch_size=batch_size,
        done=_places(samples, done),
    )
    for batch in batches:
        yield [_of_text(samples[place].id, text, prompt) for place, text in batch]


def _of_text(name: str, text: Text, prompt: Prompt) -> Answer:
    return Answer(name, prompt.extracted(text.text), text.tokens, text.cut, text=text.text)
