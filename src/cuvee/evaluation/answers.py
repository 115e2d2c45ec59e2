"""A model's answers to the samples of a task, in batches, as they come."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from cuvee.errors import EvaluationError
from cuvee.evaluation.batches import BatchSize, Work
from cuvee.evaluation.choices import Choice, Scoring, choose
from cuvee.evaluation.extract import extracted, named_choice
from cuvee.evaluation.generate import Text, generate
from cuvee.evaluation.model import LanguageModel
from cuvee.evaluation.perplexity import foretell
from cuvee.evaluation.prompt import Prompt
from cuvee.evaluation.samples import Answer, ScoredChoice, batch_name
from cuvee.evaluation.task import Sample


def answer(
    model: LanguageModel,
    samples: Sequence[Sample],
    prompt: Prompt,
    *,
    scoring: Scoring,
    batch_size: BatchSize,
    missing: Collection[str],
    batches: Sequence[Sequence[str]] = (),
) -> Iterator[list[Answer]]:
    """Answer the samples whose ids are in `missing`, those whose choices are scored first.

    A batch of `batches`, known by its ids, is computed again as a whole where some of it is missing.
    """
    scored: list[Sample] = []
    written: list[Sample] = []
    foretold: list[Sample] = []
    for sample in samples:
        check_writable(sample)
        if sample.eval_type == "text":
            foretold.append(sample)
        elif sample.eval_type == "multiple_choice" and prompt.answer_by == "likelihood":
            scored.append(sample)
        else:
            written.append(sample)
    work = work_of(scored, missing, batches)
    yield from map(named, _choices(model, scored, prompt, scoring, batch_size, work))
    work = work_of(written, missing, batches)
    yield from map(named, _texts(model, written, prompt, batch_size, work))
    work = work_of(foretold, missing, batches)
    yield from map(named, foretell(model, foretold, batch_size=batch_size, work=work))


def check_writable(sample: Sample) -> None:
    """Raise for an item that a model that writes text cannot answer: pairs of texts."""
    if sample.eval_type == "similarity":
        message = f"the item '{sample.id}' is a similarity, which an embedding model answers; this model writes text"
        raise EvaluationError(message)
    if sample.second:
        message = f"the item '{sample.id}' has a second text, which a classifier reads; this model writes text"
        raise EvaluationError(message, hint="put both texts into 'input'")


def named(batch: list[Answer]) -> list[Answer]:
    """Give each answer the name of its batch."""
    name = batch_name([answer.id for answer in batch])
    return [replace(answer, batch=name) for answer in batch]


def work_of(samples: Sequence[Sample], missing: Collection[str], batches: Sequence[Sequence[str]]) -> Work:
    """Return which samples are to be computed, those of a kept batch together."""
    places = {sample.id: place for place, sample in enumerate(samples)}
    left = {place for name, place in places.items() if name in missing}
    groups = []
    for ids in batches:
        if not places.keys() >= set(ids):
            continue
        group = tuple(places[name] for name in ids)
        if not left.isdisjoint(group):
            groups.append(group)
            left -= set(group)
    return Work(tuple(groups), tuple(sorted(left)))


def _choices(
    model: LanguageModel,
    samples: Sequence[Sample],
    prompt: Prompt,
    scoring: Scoring,
    batch_size: BatchSize,
    work: Work,
) -> Iterator[list[Answer]]:
    for batch in choose(model, samples, prompt, scoring=scoring, batch_size=batch_size, work=work):
        yield [_of_choice(samples[place], choice) for place, choice in batch]


def _of_choice(sample: Sample, choice: Choice) -> Answer:
    parts = zip(sample.choices, choice.log_likelihoods, choice.lengths, strict=True)
    return Answer(
        id=sample.id,
        prompt=choice.prompt,
        prediction=choice.index,
        tokens=choice.tokens,
        cut=choice.cut,
        choices=tuple(ScoredChoice(*part) for part in parts),
        scores=choice.scores,
    )


def _texts(
    model: LanguageModel, samples: Sequence[Sample], prompt: Prompt, batch_size: BatchSize, work: Work
) -> Iterator[list[Answer]]:
    for batch in generate(model, samples, prompt, batch_size=batch_size, work=work):
        yield [answer_of_text(samples[place], prompt, text) for place, text in batch]


def answer_of_text(sample: Sample, prompt: Prompt, text: Text) -> Answer:
    """Make an answer of a written text; for a multiple-choice item the choice that it names, blank for none."""
    choices = sample.choices if sample.eval_type == "multiple_choice" else ()
    words = extracted(text.text, prompt.extract, prompt.otherwise, choices)
    prediction: int | str = words
    if sample.eval_type == "multiple_choice":
        choice = named_choice(words, sample.choices)
        prediction = "" if choice is None else choice
    return Answer(sample.id, text.prompt, prediction, text.tokens, text.cut, text=text.text, extracted=words)
