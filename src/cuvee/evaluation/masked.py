"""Masked models: choices and texts by pseudo-log-likelihood (arXiv:1910.14659).

Each token of a choice is masked in turn, with everything else before and behind it to be seen; the sum of the model's
log-probabilities of these tokens is the choice's score. It is no probability of the choice, but ranks choices well.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cuvee.errors import EvaluationError
from cuvee.evaluation.choices import Scoring, scores_of_choices
from cuvee.evaluation.model import LanguageModel
from cuvee.evaluation.prompt import Prompt
from cuvee.evaluation.reads import TOKENS_AT_ONCE, Tokens, refuse, refuse_asking, seen
from cuvee.evaluation.samples import Answer, ScoredChoice
from cuvee.evaluation.task import Sample


@dataclass(frozen=True)
class Masked:
    """A model that guesses the tokens under masks."""

    model: LanguageModel
    kind: str = "masked model"

    def check(self, samples: Sequence[Sample], prompt: Prompt, scoring: Scoring) -> None:
        refuse(self, samples, ("multiple_choice", "text"))
        refuse_asking(self, prompt, scoring, ("sum", "per_byte", "per_character", "per_token"))
        if self.model.tokenizer.mask_token_id is None:
            raise EvaluationError("the tokenizer has no mask token", where=self.model.name)

    def cost(self, sample: Sample, prompt: Prompt) -> int:
        if sample.eval_type == "text":
            return sum(len(row) * len(places) for row, places in self._pieces(sample))
        return sum(len(row) * len(places) for row, places in self._rows(sample, prompt))

    def answers(self, samples: Sequence[Sample], prompt: Prompt, scoring: Scoring) -> list[Answer]:
        return [self._answer(sample, prompt, scoring) for sample in samples]

    def _answer(self, sample: Sample, prompt: Prompt, scoring: Scoring) -> Answer:
        is_text = sample.eval_type == "text"
        rows = self._pieces(sample) if is_text else self._rows(sample, prompt)
        totals = [self._total(row, places) for row, places in rows]
        if any(total != total for total in totals):
            raise EvaluationError(f"the model's output for item '{sample.id}' is not a number")
        tokens, lengths = sum(len(row) for row, _ in rows), [len(places) for _, places in rows]
        if is_text:
            part = ScoredChoice(sample.input, sum(totals), sum(lengths))
            return Answer(sample.id, "", f"{sum(totals):.6f}", tokens, 0, choices=(part,), scores=(sum(totals),))
        scores = scores_of_choices(sample.choices, lengths, totals, scoring)
        return Answer(
            id=sample.id,
            prompt=prompt.render(sample.input, sample.choices),
            prediction=max(range(len(scores)), key=scores.__getitem__),
            tokens=tokens,
            cut=0,
            choices=tuple(map(ScoredChoice, sample.choices, totals, lengths)),
            scores=tuple(scores),
        )

    def _rows(self, sample: Sample, prompt: Prompt) -> list[tuple[Tokens, list[int]]]:
        """Return for each choice the tokens of the whole, and the places of those that are not the context's."""
        context = self.model.render(prompt, sample.input, sample.choices)
        texts = [context, *(context + prompt.separator + choice for choice in sample.choices)]
        first, *rows = self.model.tokenizer(texts, return_special_tokens_mask=True, verbose=False)["input_ids"]
        masks = [self.model.tokenizer.get_special_tokens_mask(row, already_has_special_tokens=True) for row in rows]
        found = []
        for row, mask in zip(rows, masks, strict=True):
            if len(row) > self.model.context_length:
                message = f"the item '{sample.id}' takes {len(row)} tokens; the model sees {self.model.context_length}"
                raise EvaluationError(message, where=self.model.name)
            end = max((place + 1 for place, special in enumerate(mask) if not special), default=0)
            shared = min(_shared(first, row), end - 1)
            found.append((row, list(range(shared, end))))
        return found

    def _pieces(self, sample: Sample) -> list[tuple[Tokens, list[int]]]:
        """Cut a text into pieces that the model can see, each between the special tokens that it expects."""
        tokens = self.model.encode_plain([sample.input])[0]
        if not tokens:
            raise EvaluationError(f"the tokenizer makes no token of the text of item '{sample.id}'")
        whole = self.model.encode_default([sample.input])[0]
        begin = next((place for place in range(len(whole)) if whole[place : place + len(tokens)] == tokens), None)
        if begin is None:
            message = f"the text of item '{sample.id}' has other tokens between special tokens than alone"
            raise EvaluationError(message, where=self.model.name)
        before, behind = whole[:begin], whole[begin + len(tokens) :]
        most = self.model.context_length - len(before) - len(behind)
        rows = []
        for start in range(0, len(tokens), most):
            piece = tokens[start : start + most]
            rows.append(([*before, *piece, *behind], list(range(begin, begin + len(piece)))))
        return rows

    def _total(self, row: Tokens, places: Sequence[int]) -> float:
        size = max(1, TOKENS_AT_ONCE // len(row))
        total = 0.0
        for start in range(0, len(places), size):
            part = torch.tensor(places[start : start + size])
            ids = torch.tensor(row).repeat(len(part), 1)
            ids[range(len(part)), part] = self.model.tokenizer.mask_token_id
            logits = seen(self.model, {"input_ids": ids.to(self.model.device)}).logits
            tables = logits[range(len(part)), part].float().log_softmax(-1)
            total += float(tables[range(len(part)), [row[place] for place in part]].double().sum())
        return total


def _shared(first: Tokens, second: Tokens) -> int:
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (own, other) in pairs if own != other), len(first))
