"""One model's answers to the samples of a task, in batches, as they come."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from cuvee.evaluate.batches import BatchSize, Work
from cuvee.evaluate.choices import Choice, Scoring, choose
from cuvee.evaluate.extract import extracted, named_choice
from cuvee.evaluate.generate import Text, generate
from cuvee.evaluate.model import LanguageModel
from cuvee.evaluate.prompt import Prompt
from cuvee.evaluate.samples import Answer, ScoredChoice, batch_name
from cuvee.evaluate.task import Sample


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
    by_kind: dict[bool, list[Sample]] = {True: [], False: []}
    for sample in samples:
        by_kind[sample.eval_type == "multiple_choice" and prompt.answer_by == "likelihood"].append(sample)
    for scored, kind in by_kind.items():
        work = _work(kind, missing, batches)
        compute = _choices(model, kind, prompt, scoring, batch_size, work) if scored else None
        for batch in compute or _texts(model, kind, prompt, batch_size, work):
            name = batch_name([each.id for each in batch])
            yield [replace(each, batch=name) for each in batch]


def _work(samples: Sequence[Sample], missing: Collection[str], batches: Sequence[Sequence[str]]) -> Work:
    places = {sample.id: place for place, sample in enumerate(samples)}
    left = {place for name, place in places.items() if name in missing}
    groups = []
    for ids in batches:
        group = tuple(places[name] for name in ids if name in places)
        if len(group) == len(ids) and not left.isdisjoint(group):
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
    """Make an answer of what was written; for a multiple-choice item the choice that it names, blank for none."""
    chosen = sample.eval_type == "multiple_choice"
    found = extracted(text.text, prompt.extract, prompt.otherwise, sample.choices if chosen else ())
    named = named_choice(found, sample.choices) if chosen else None
    prediction: int | str = found if not chosen else "" if named is None else named
    return Answer(sample.id, text.prompt, prediction, text.tokens, text.cut, text=text.text, extracted=found)
