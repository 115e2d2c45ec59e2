"""Multiple-choice items made into tokens: where a context ends and a choice begins.

For a decoder, context and choice are tokenised together, as the model would meet them. The prefix is the part of the
context that all choices of an item share. Where a token reaches over the border between context and choice, the prefix
ends before it for every choice of the item, so that all of them are conditioned on the same text.

An encoder-decoder model reads the context with its encoder; a choice is the text that its decoder would write, with the
end token that it was trained to write after an answer.
"""

from collections.abc import Sequence
from itertools import chain

from cuvee.errors import EvaluationError
from cuvee.evaluation.model import LanguageModel
from cuvee.evaluation.prompt import Prompt
from cuvee.evaluation.question import Question, Tokens
from cuvee.evaluation.task import Sample

PROBES = ("Zebra", "7", "(")


def make_questions(model: LanguageModel, samples: Sequence[Sample], prompt: Prompt) -> list[Question]:
    """Tokenise multiple-choice samples; contexts that are too long are cut on the left."""
    contexts = [model.render(prompt, sample.input, sample.choices) for sample in samples]
    prefixes = model.encode(contexts, chat=prompt.chat_template)
    if model.encoder_decoder:
        rows = iter(model.encode_default(list(chain.from_iterable(sample.choices for sample in samples))))
    else:
        joined: list[str] = []
        for context, sample in zip(contexts, samples, strict=True):
            joined += [context + prompt.separator + choice for choice in sample.choices]
        rows = iter(model.encode(joined, chat=prompt.chat_template))
    questions = []
    for sample, context, prefix in zip(samples, contexts, prefixes, strict=True):
        whole = [next(rows) for _ in sample.choices]
        question = Question(prefix, tuple(whole)) if model.encoder_decoder else split(prefix, whole, model)
        questions.append(cut_to_fit(model, question, sample.id, context))
    return questions


def split(context: Tokens, whole: Sequence[Tokens], model: LanguageModel) -> Question:
    """Split the tokens of context and choice where all choices still agree with the context.

    At least a token of each choice is left to score. An empty prefix becomes the model's start token.
    """
    shared = min(min(_shared(context, row), len(row) - 1) for row in whole)
    prefix = context[:shared] or [model.start_token]
    return Question(prefix, tuple(row[shared:] for row in whole))


def cut_to_fit(model: LanguageModel, question: Question, name: str, prompt: str = "") -> Question:
    """Cut the prefix on the left where it is too long for the model. A start token stays."""
    apart = model.encoder_decoder  # encoder and decoder have room of their own
    room = model.context_length - (0 if apart else question.longest - 1)
    if room < 1 or question.longest > model.context_length:
        raise EvaluationError(
            f"the choices of item '{name}' take {question.longest} tokens; the model sees {model.context_length}"
        )
    prefix = cut_left(model, question.prefix, room)
    cut = len(question.prefix) - len(prefix)
    return Question(prefix, question.choices, question.first_scored, cut, prompt)


def cut_left(model: LanguageModel, tokens: Tokens, room: int) -> Tokens:
    """Keep the last `room` tokens, and a start token before them if there was any."""
    if len(tokens) <= room:
        return tokens
    if room > 1 and tokens[0] == model.tokenizer.bos_token_id:
        return [tokens[0], *tokens[1 - room :]]
    return tokens[-room:]


def opening(model: LanguageModel, prompt: Prompt) -> Tokens:
    """Return the tokens with which every item of a prompt begins, whatever its input: system text and examples.

    They depend on the prompt alone and not on the items at hand, so that every run shares the same.
    """
    rows = model.encode([model.render(prompt, probe) for probe in PROBES], chat=prompt.chat_template)
    return rows[0][: min(_shared(rows[0], row) for row in rows)]


def _shared(first: Tokens, second: Tokens) -> int:
    if second[: len(first)] == first:
        return len(first)
    return next(place for place, (a, b) in enumerate(zip([*first, -1], [*second, -2], strict=False)) if a != b)
