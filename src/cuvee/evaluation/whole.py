"""The plain way: each choice behind its prefix as one sequence alone. No cache, no padding, no other row."""

from collections.abc import Sequence

from cuvee.evaluation.forward import plain_logits
from cuvee.evaluation.library import Network
from cuvee.evaluation.question import Question, Tokens


def log_likelihoods(network: Network, questions: Sequence[Question]) -> list[list[float]]:
    """Sum the log-probabilities of the scored tokens of each choice of each question."""
    return [[_of_choice(network, question, choice) for choice in question.choices] for question in questions]


def _of_choice(network: Network, question: Question, choice: Tokens) -> float:
    if network.encoder_decoder:
        logits = plain_logits(network, [network.start_token, *choice[:-1]], question.prefix)
    else:
        logits = plain_logits(network, [*question.prefix, *choice[:-1]])[len(question.prefix) - 1 :]
    tables = logits.float().log_softmax(-1)
    chosen = tables[range(len(choice)), choice].double()
    return float(chosen.sum() if question.first_scored else chosen[1:].sum())
