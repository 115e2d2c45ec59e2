"""Text generation in batches: greedy or sampled, until an end token, a stop string or enough tokens."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch

from cuvee.errors import EvaluationError
from cuvee.evaluate.batches import BatchSize, Unit, Work, everything
from cuvee.evaluate.budget import token_budget
from cuvee.evaluate.memory import halving
from cuvee.evaluate.model import LanguageModel
from cuvee.evaluate.prompt import Prompt
from cuvee.evaluate.question import Tokens
from cuvee.evaluate.sampling import Sampler
from cuvee.evaluate.shared import SharedStart
from cuvee.evaluate.task import Sample
from cuvee.evaluate.tokenise import cut_left

LOOK_EVERY = 4  # decoding to look for stop strings costs as much as a step of a small model


@dataclass(frozen=True)
class Text:
    """What a model wrote after a prompt, the tokens read and written, and how many were cut off the prompt."""

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
    without it.
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
    whole = [row or [model.start_token] for row in model.encode(texts, chat=prompt.chat_template)]
    rows = {place: cut_left(model, row, room) for place, row in zip(places, whole, strict=True)}
    costs = {place: len(row) + prompt.max_new_tokens for place, row in rows.items()}
    units = [Unit((place,), (len(rows[place]),), costs[place]) for place in asked.rest]
    batches = asked.batches(units, batch_size=batch_size, budget=token_budget(model))
    start = SharedStart(model, prompt)
    known = {place: (text, len(row)) for place, text, row in zip(places, texts, whole, strict=True)}

    def compute(batch: list[int]) -> list[Tokens]:
        sampler = Sampler(prompt, [samples[place].id for place in batch])
        asked = [rows[place] for place in batch]
        written = write(model, asked, prompt, sampler, start)
        way = model.abilities.way(max(map(len, asked)) + prompt.max_new_tokens)
        model.abilities.reading.items[way.name] += len(batch)
        return written

    for batch, written in halving(batches, costs, compute):
        found = []
        for place, text, tokens in zip(batch, _texts(model, written, prompt.stop), written, strict=True):
            rendered, length = known[place]
            read = len(rows[place])
            found.append((place, Text(text, read + len(tokens), length - read, rendered)))
        yield found


@torch.inference_mode()
def write(
    model: LanguageModel, rows: Sequence[Tokens], prompt: Prompt, sampler: Sampler, start: SharedStart
) -> list[Tokens]:
    """Write tokens after each row, without the end token. A few may follow a stop string."""
    written: list[Tokens] = [[] for _ in rows]
    active = list(range(len(rows)))  # the row that each line of the batch belongs to
    going = set(active)
    seen = start.read(rows, follow=prompt.max_new_tokens)
    for step in range(1, prompt.max_new_tokens + 1):
        if seen.logits.isnan().any():
            raise EvaluationError("the model's output is not a number")
        tokens = sampler.pick(seen.logits, active, step - 1)
        going -= _append(written, active, going, tokens.tolist(), model.end_tokens)
        if prompt.stop and step % LOOK_EVERY == 0:
            going -= _stopped(model, written, sorted(going), prompt.stop)
        if not going or step == prompt.max_new_tokens:
            break
        if 2 * len(going) <= len(active):
            lines = torch.tensor([line for line, row in enumerate(active) if row in going], device=model.device)
            seen, tokens, active = seen.select(lines), tokens[lines], sorted(going)
        _, seen = seen.read_on(tokens[:, None], last_only=True)
    return written


def _append(
    written: list[Tokens], active: list[int], going: set[int], tokens: list[int], ends: Collection[int]
) -> set[int]:
    """Append a token to each row that goes on; return the rows that have come to their end."""
    ended = set()
    for row, token in zip(active, tokens, strict=True):
        if token in ends:
            ended.add(row)
        elif row in going:
            written[row].append(token)
    return ended


def _stopped(model: LanguageModel, written: list[Tokens], rows: list[int], stop: Sequence[str]) -> set[int]:
    texts = _decode(model, [written[row] for row in rows])
    return {row for row, text in zip(rows, texts, strict=True) if any(ending in text for ending in stop)}


def _texts(model: LanguageModel, written: Sequence[Tokens], stop: Sequence[str]) -> list[str]:
    return [_before(text, stop) for text in _decode(model, written)]


def _before(text: str, stop: Sequence[str]) -> str:
    ends = [place for ending in stop if (place := text.find(ending)) >= 0]
    return text[: min(ends)] if ends else text


def _decode(model: LanguageModel, rows: Sequence[Tokens]) -> list[str]:
    if not rows:
        return []  # the tokenizer makes one empty text of no rows
    texts: list[str] = model.tokenizer.batch_decode(
        list(rows), skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return texts
