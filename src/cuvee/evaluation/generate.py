"""Text generation in batches: greedy or sampled, until an end token, a stop string or enough tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cuvee.errors import EvaluationError
from cuvee.evaluation.batches import BatchSize, Unit, Work, everything
from cuvee.evaluation.budget import written_tokens
from cuvee.evaluation.continuous import decode, write
from cuvee.evaluation.memory import halving
from cuvee.evaluation.model import LanguageModel
from cuvee.evaluation.prompt import Prompt
from cuvee.evaluation.question import Tokens
from cuvee.evaluation.sampling import Sampler
from cuvee.evaluation.shared import SharedStart
from cuvee.evaluation.task import Sample
from cuvee.evaluation.tokenise import cut_left

TURNS = 8
"""A batch has so many times the rows that are written at once, so that others can enter when some have ended."""

MOST_LINES = 64


@dataclass(frozen=True)
class Text:
    """The text that a model wrote after a prompt, the tokens read and written, and how many were cut off the prompt."""

    text: str
    tokens: int
    cut: int
    prompt: str


def generate(
    model: LanguageModel,
    samples: Sequence[Sample],
    prompt: Prompt,
    *,
    batch_size: BatchSize = "auto",
    work: Work | None = None,
) -> Iterator[list[tuple[int, Text]]]:
    """Let the model answer samples, a batch at a time, as pairs of a sample's position and its text.

    The text ends before the first stop string, at the model's end token, or after the prompt's `max_new_tokens`;
    special tokens are left out. Prompts that are too long are cut on the left. `work` says which samples; all
    without it. `batch_size` rows are written at a time; a batch has TURNS times as many, which enter as others end.
    """
    asked = everything(len(samples)) if work is None else work
    places = asked.places
    if not places:
        return
    room = model.context_length - (0 if model.encoder_decoder else prompt.max_new_tokens)
    if room < 1:
        raise EvaluationError(
            f"max_new_tokens is {prompt.max_new_tokens}; the model sees {model.context_length} tokens in all"
        )
    texts = [model.render(prompt, samples[place].input, samples[place].choices) for place in places]
    encoded = model.encode(texts, chat=prompt.chat_template)
    whole = [row or [model.start_token] for row in encoded]
    rows = {place: cut_left(model, row, room) for place, row in zip(places, whole, strict=True)}
    costs = {place: len(row) + prompt.max_new_tokens for place, row in rows.items()}
    units = [Unit((place,), (len(rows[place]),), costs[place]) for place in asked.rest]
    budget = written_tokens(model)
    at_once = batch_size if batch_size == "auto" else batch_size * TURNS
    batches = asked.batches(units, batch_size=at_once, budget=budget * TURNS)
    start = SharedStart(model, prompt)
    prompts = {place: (text, len(row)) for place, text, row in zip(places, texts, whole, strict=True)}

    def compute(batch: list[int]) -> list[Tokens]:
        sampler = Sampler(prompt, [samples[place].id for place in batch])
        asked = [rows[place] for place in batch]
        largest = max(costs[place] for place in batch)
        lines = max(1, min(MOST_LINES, budget // largest)) if batch_size == "auto" else batch_size
        written = write(model, asked, prompt, sampler, start, lines=lines)
        way = model.abilities.way(max(map(len, asked)) + prompt.max_new_tokens)
        model.abilities.meter.took(way.name, len(batch))
        return written

    for batch, written in halving(batches, costs, compute):
        found = []
        for place, text, tokens in zip(batch, _texts(model, written, prompt.stop), written, strict=True):
            rendered, length = prompts[place]
            read = len(rows[place])
            found.append((place, Text(text, read + len(tokens), length - read, rendered)))
        yield found


def _texts(model: LanguageModel, written: Sequence[Tokens], stop: Sequence[str]) -> list[str]:
    return [_before(text, stop) for text in decode(model, written)]


def _before(text: str, stop: Sequence[str]) -> str:
    ends = [text.index(ending) for ending in stop if ending in text]
    return text[: min(ends, default=len(text))]
