"""How well a model foretells texts: each token after those before it, in windows as long as the model sees.

The text is tokenised without special tokens, and the start token stands before it. Windows do not overlap in what they
foretell; the last window reaches back as far as the model sees, as in lm-eval's rolling windows.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

from cuvee.errors import EvaluationError
from cuvee.evaluation.batches import BatchSize, Unit, Work, make_batches
from cuvee.evaluation.likelihoods import Likelihoods
from cuvee.evaluation.memory import halving
from cuvee.evaluation.model import LanguageModel
from cuvee.evaluation.prompt import Prompt
from cuvee.evaluation.question import Question, Tokens
from cuvee.evaluation.samples import Answer, ScoredChoice
from cuvee.evaluation.task import Sample

PIECES_AT_ONCE = 64


def foretell(
    model: LanguageModel, samples: Sequence[Sample], *, batch_size: BatchSize, work: Work
) -> Iterator[list[Answer]]:
    """Answer text samples with the log-likelihood of each, some of them at a time."""
    places = work.places
    if not places:
        return
    if model.encoder_decoder:
        raise EvaluationError("texts are foretold by decoders; this model reads with an encoder", where=model.name)
    texts = model.encode_plain([samples[place].input for place in places])
    tokens = dict(zip(places, texts, strict=True))
    likelihoods = Likelihoods(model, Prompt())
    units = [Unit((place,), (len(tokens[place]),), len(tokens[place])) for place in work.rest]
    most = PIECES_AT_ONCE if batch_size == "auto" else batch_size
    for batch in work.batches(units, batch_size=most, budget=0):
        sums = _totals(likelihoods, [_windows(model, tokens[place], samples[place].id) for place in batch], batch_size)
        yield [_answer(samples[place], total, len(tokens[place])) for place, total in zip(batch, sums, strict=True)]


def windows(tokens: Tokens, start: int, most: int) -> list[Question]:
    """Cut a text into windows of at most `most` tokens that the model reads; each is a question of one choice."""
    questions = [Question([start], (tokens[:most],))]
    done = len(questions[0].choices[0])
    while done < len(tokens):
        end = min(done + most, len(tokens))
        before = tokens[max(0, end - most - 1) : done]
        questions.append(Question(before, (tokens[done:end],)))
        done = end
    return questions


def _windows(model: LanguageModel, tokens: Tokens, name: str) -> list[Question]:
    if not tokens:
        raise EvaluationError(f"the tokenizer makes no token of the text of item '{name}'", where=model.name)
    return windows(tokens, model.start_token, model.context_length)


def _totals(likelihoods: Likelihoods, texts: Sequence[Sequence[Question]], batch_size: BatchSize) -> list[float]:
    """Return the log-likelihood of each text, of which the windows are given."""
    owners: list[int] = []
    for owner, windows in enumerate(texts):
        owners += [owner] * len(windows)
    questions = dict(enumerate(chain.from_iterable(texts)))
    costs = {place: likelihoods.cost(question) for place, question in questions.items()}
    units = likelihoods.units(questions, batch_size)
    batches = make_batches(units, batch_size=batch_size, budget=likelihoods.budget)
    totals = [0.0] * len(texts)
    for batch, rows in halving(batches, costs, lambda batch: likelihoods.of([questions[place] for place in batch])):
        for place, (total,) in zip(batch, rows, strict=True):
            totals[owners[place]] += total
    return totals


def _answer(sample: Sample, total: float, tokens: int) -> Answer:
    if total != total:
        raise EvaluationError(f"the model's output for item '{sample.id}' is not a number")
    part = ScoredChoice(sample.input, total, tokens)
    return Answer(sample.id, "", f"{total:.6f}", tokens, 0, choices=(part,), scores=(total,))
