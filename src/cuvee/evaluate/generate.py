"""Greedy text generation in batches: at every step the most likely token, the lowest id of equals."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch

from cuvee.errors import EvaluationError
from cuvee.evaluate.batches import BatchSize, make_batches, unfinished
from cuvee.evaluate.forward import read, read_on, token_budget
from cuvee.evaluate.model import LanguageModel
from cuvee.evaluate.question import Tokens, cut_left

LOOK_EVERY = 4  # decoding to look for stop strings costs as much as a step of a small model


@dataclass(frozen=True)
class Text:
    """What a model wrote after a prompt, the tokens read and written, and how many were cut off the prompt."""

    text: str
    tokens: int
    cut: int


def generate(
    model: LanguageModel,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    stop: Sequence[str] = (),
    batch_size: BatchSize = "auto",
    done: Collection[int] = (),
) -> Iterator[list[tuple[int, Text]]]:
    """Continue prompts, a batch at a time, as pairs of a prompt's position and its text.

    The text ends before the first stop string, at the model's end token, or after `max_new_tokens`; special tokens
    are left out. Prompts that are too long are cut on the left. Batches that are all in `done` are left out.
    """
    room = model.context_length - max_new_tokens
    if prompts and room < 1:
        raise EvaluationError(
            f"max_new_tokens is {max_new_tokens}; the model sees {model.context_length} tokens in all"
        )
    whole = model.encode(prompts)
    rows = [cut_left(model, row or [model.start_token], room) for row in whole]
    costs = [len(row) + max_new_tokens for row in rows]
    batches = make_batches([(len(row),) for row in rows], costs, batch_size=batch_size, budget=token_budget(model))
    for batch in unfinished(batches, done):
        written = write(model, [rows[index] for index in batch], max_new_tokens, stop)
        texts = _texts(model, written, stop)
        yield [
            (index, Text(text, len(rows[index]) + len(tokens), max(0, len(whole[index]) - len(rows[index]))))
            for index, text, tokens in zip(batch, texts, written, strict=True)
        ]


@torch.inference_mode()
def write(model: LanguageModel, rows: Sequence[Tokens], max_new_tokens: int, stop: Sequence[str] = ()) -> list[Tokens]:
    """Write tokens after each row, without the end token. A few may follow a stop string."""
    written: list[Tokens] = [[] for _ in rows]
    active = list(range(len(rows)))  # the row that each line of the batch belongs to
    going = set(active)
    seen = read(model, rows)
    for step in range(1, max_new_tokens + 1):
        if seen.logits.isnan().any():
            raise EvaluationError("the model's output is not a number")
        tokens = seen.logits.argmax(-1)
        going -= _append(written, active, going, tokens.tolist(), model.end_tokens)
        if stop and step % LOOK_EVERY == 0:
            going -= _stopped(model, written, sorted(going), stop)
        if not going or step == max_new_tokens:
            break
        if 2 * len(going) <= len(active):
            lines = torch.tensor([line for line, row in enumerate(active) if row in going], device=model.device)
            seen, tokens, active = seen.select(lines), tokens[lines], sorted(going)
        _, seen = read_on(model, seen, tokens[:, None], last_only=True)
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
