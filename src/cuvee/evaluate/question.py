"""A multiple-choice item as tokens: one prefix, and what may follow it.

Context and choice are tokenised together, as the model would meet them. The prefix is what all choices of an item share
with the context. Where a token reaches over the border between context and choice, the prefix ends before it for every
choice of the item, so that all of them are conditioned on the same text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cuvee.errors import EvaluationError
from cuvee.evaluate.model import LanguageModel
from cuvee.evaluate.task import Prompt, Sample

Tokens = list[int]


@dataclass(frozen=True)
class Question:
    """Tokens of one item. `cut` is how many were dropped from the left of the prefix for want of room.

    Where `first_scored` is false, the first token of each choice is read and not scored.
    """

    prefix: Tokens
    choices: tuple[Tokens, ...]
    first_scored: bool = True
    cut: int = 0

    @property
    def tokens(self) -> int:
        """How many tokens the model reads; the last of a choice is never an input."""
        return len(self.prefix) + sum(len(choice) - 1 for choice in self.choices)

    @property
    def longest(self) -> int:
        return max(map(len, self.choices))


def make_questions(model: LanguageModel, samples: Sequence[Sample], prompt: Prompt) -> list[Question]:
    """Tokenise multiple-choice samples; contexts that are too long are cut on the left."""
    contexts = [prompt.render(sample.input) for sample in samples]
    joined = [
        context + prompt.choice_separator + choice
        for context, sample in zip(contexts, samples, strict=True)
        for choice in sample.choices
    ]
    rows = iter(model.encode(joined))
    questions = []
    for sample, context in zip(samples, model.encode(contexts), strict=True):
        whole = [next(rows) for _ in sample.choices]
        questions.append(cut_to_fit(model, split(context, whole, model), sample.id))
    return questions


def split(context: Tokens, whole: Sequence[Tokens], model: LanguageModel) -> Question:
    """Split the tokens of context and choice where all choices still agree with the context.

    At least one token of each choice is left to score. An empty prefix becomes the model's start token.
    """
    shared = min(min(_shared(context, row), len(row) - 1) for row in whole)
    prefix = context[:shared] or [model.start_token]
    return Question(prefix, tuple(row[shared:] for row in whole))


def cut_to_fit(model: LanguageModel, question: Question, name: str) -> Question:
    """Drop what is too long for the model from the left of the prefix. A start token stays."""
    room = model.context_length - question.longest + 1
    if room < 1:
        raise EvaluationError(
            f"the choices of item '{name}' take {question.longest} tokens; the model sees {model.context_length}"
        )
    prefix = cut_left(model, question.prefix, room)
    cut = len(question.prefix) - len(prefix)
    return Question(prefix, question.choices, question.first_scored, cut)


def cut_left(model: LanguageModel, tokens: Tokens, room: int) -> Tokens:
    """Keep the last `room` tokens, and a start token before them if there was one."""
    if len(tokens) <= room:
        return tokens
    if room > 1 and tokens[0] == model.tokenizer.bos_token_id:
        return [tokens[0], *tokens[1 - room :]]
    return tokens[-room:]


def _shared(first: Tokens, second: Tokens) -> int:
    if second[: len(first)] == first:
        return len(first)
    return next(place for place, (a, b) in enumerate(zip([*first, -1], [*second, -2], strict=False)) if a != b)
