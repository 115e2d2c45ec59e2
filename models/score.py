"""Score a model on questions, as the project's evaluator does, with one forward pass over the right answers.

Greedy decoding writes the right answer exactly when the likeliest token is the right one at every place of it, so
nothing needs to be generated.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from text import EOS, IGNORED, Row, padded, tokens_of
from torch import nn
from transformers import PreTrainedTokenizerFast

from cuvee.demo.skills import Question, choices

ROWS_AT_ONCE = 200


def right_answers(model: nn.Module, tokenizer: PreTrainedTokenizerFast, questions: Sequence[Question]) -> list[bool]:
    """Say for each question whether the model picks, or writes, the right answer."""
    offered = [choices(question) or [question.answer] for question in questions]
    rows = [
        tokens_of(tokenizer, question.prompt, answer)
        for question, answers in zip(questions, offered, strict=True)
        for answer in answers
    ]
    scores = [score for part in parts(rows) for score in answer_scores(model, part)]
    following = iter(scores)
    return [
        is_right(question, answers, list(islice(following, len(answers))))
        for question, answers in zip(questions, offered, strict=True)
    ]


def parts(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), ROWS_AT_ONCE):
        yield rows[start : start + ROWS_AT_ONCE]


class AnswerScore(NamedTuple):
    """An answer's log-likelihood without the end mark, and whether greedy decoding writes just this answer."""

    log_likelihood: float
    is_greedy: bool


@torch.inference_mode()
def answer_scores(model: nn.Module, rows: Sequence[Row]) -> list[AnswerScore]:
    model.eval()
    tokens, labels = padded(rows)
    likelihoods = model(input_ids=tokens[:, :-1]).logits.float().log_softmax(-1)
    labels = labels[:, 1:]
    ignored = labels == IGNORED
    is_greedy = ((likelihoods.argmax(-1) == labels) | ignored).all(1)
    of_labels = likelihoods.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    sums = of_labels.masked_fill(ignored | (labels == EOS), 0.0).sum(1)
    return [AnswerScore(*score) for score in zip(sums.tolist(), is_greedy.tolist(), strict=True)]


def is_right(question: Question, answers: Sequence[str], scores: Sequence[AnswerScore]) -> bool:
    if not question.wrong:
        return scores[0].is_greedy
    best = max(range(len(answers)), key=lambda index: scores[index].log_likelihood)
    return answers[best] == question.answer
