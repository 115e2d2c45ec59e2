"""Multiple choice as the starter kit of the 2024 merging competition scored it, for comparison with its numbers.

The kit tokenises the context, and each choice apart from it; it then sums the log-probabilities of a choice's tokens
from the second on. The first token is read and never scored. Those tokens depend on the tokenizer class that
the model's folder names, because the kit's version of transformers heeds its wish "no start token, an end token" for
some classes only:

- `llama2`: Llama-2 and its kin heed it: [choice..., EOS]. A one-token choice is scored by its EOS alone.
- `llama3`: all others do as they do by themselves; Llama-3 gives [BOS, choice...].

For an encoder-decoder model it scores every token of a choice and the end token, as `sum` does too.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Literal

from cuvee.errors import EvaluationError
from cuvee.evaluation.model import LanguageModel
from cuvee.evaluation.prompt import Prompt
from cuvee.evaluation.question import Question, Tokens
from cuvee.evaluation.task import Sample
from cuvee.evaluation.tokenise import cut_to_fit

KitStyle = Literal["llama2", "llama3"]
TOKENIZERS = ("LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer")
HEEDED_BY = frozenset([*TOKENIZERS, *(f"{name}Fast" for name in TOKENIZERS)])


def kit_style(model: LanguageModel) -> KitStyle:
    """Say which of the two ways the kit would have tokenised choices for this model."""
    return "llama2" if model.tokenizer_class in HEEDED_BY else "llama3"


def kit_questions(model: LanguageModel, samples: Sequence[Sample], prompt: Prompt) -> list[Question]:
    """Tokenise multiple-choice samples as the kit does; the choice separator of the prompt has no part in it."""
    texts = [model.render(prompt, sample.input, sample.choices) for sample in samples]
    contexts = model.encode_default(texts)
    every_choice = list(chain.from_iterable(sample.choices for sample in samples))
    rows = iter(kit_choices(model, every_choice, kit_style(model)))
    questions = []
    for sample, text, context in zip(samples, texts, contexts, strict=True):
        choices = tuple(next(rows) for _ in sample.choices)
        question = Question(context, choices, first_scored=model.encoder_decoder)
        questions.append(cut_to_fit(model, question, sample.id, text))
    return questions


def kit_choices(model: LanguageModel, choices: Sequence[str], style: KitStyle) -> list[Tokens]:
    """Tokenise choices apart from any context."""
    if style == "llama3" or model.encoder_decoder:
        return model.encode_default(choices)
    end = model.tokenizer.eos_token_id
    if end is None:
        raise EvaluationError("the tokenizer has no end token, which kit scoring needs", where=model.name)
    return [[*row, int(end)] for row in model.encode_plain(choices)]
