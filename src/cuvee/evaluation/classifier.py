"""Classifiers and reward models: an item's choices are labels, or answers that a reward is given to.

- Of several labels the answer is the offered label with the largest logit. A choice is a label by its name in
  the config, or by its place where the config has no names (`LABEL_0`).
- A model of a single label is a reward model: each choice is read after the input, and the one with the largest output
  is the answer, so that rows with a chosen and a rejected answer are preference pairs. Encoders read input and answer
  as a pair, decoders as one text or, with `chat_template`, as a chat. It also rates the two texts of a similarity.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import torch

from cuvee.errors import EvaluationError
from cuvee.evaluation.choices import Scoring
from cuvee.evaluation.library import alone_from, is_masked_kind
from cuvee.evaluation.model import LanguageModel
from cuvee.evaluation.prompt import Prompt
from cuvee.evaluation.reads import Tokens, padded, pads, refuse, refuse_asking, seen
from cuvee.evaluation.samples import Answer, ScoredChoice
from cuvee.evaluation.task import Sample
from cuvee.evaluation.turns import chat_text

UNNAMED = re.compile(r"LABEL_\d+")


@dataclass(frozen=True)
class Row:
    """A tokenised text or pair, and how many tokens were cut off for want of room."""

    inputs: Mapping[str, Tokens]
    cut: int = 0

    @property
    def tokens(self) -> int:
        return len(self.inputs["input_ids"])


@dataclass(frozen=True)
class Classifier:
    """A model with a head for a whole text."""

    model: LanguageModel
    kind: str = "classifier"

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the order of the logits."""
        config = self.model.network.config
        return tuple(str(config.id2label.get(place, f"LABEL_{place}")) for place in range(config.num_labels))

    @cached_property
    def pads(self) -> bool:
        """Whether rows of unlike length may be read together: decoders, and some encoders, do not heed a mask."""
        if not is_masked_kind(self.model.network.config):
            return False
        return pads(self.model, lambda output: output.logits, most=self.model.context_length)

    def check(self, samples: Sequence[Sample], prompt: Prompt, scoring: Scoring) -> None:
        if self.model.network.config.problem_type == "multi_label_classification":
            message = "this classifier gives a text several labels at once, which no task here asks for"
            raise EvaluationError(message, where=self.model.name)
        refuse(self, samples, ("multiple_choice", "similarity") if len(self.labels) == 1 else ("multiple_choice",))
        refuse_asking(self, prompt, scoring, ("sum",))
        for sample in samples:
            if len(self.labels) > 1:
                self._places(sample)

    def cost(self, sample: Sample, prompt: Prompt) -> int:
        rows = self._rows(sample, prompt)
        return len(rows) * max(row.tokens for row in rows)

    def answers(self, samples: Sequence[Sample], prompt: Prompt, scoring: Scoring) -> list[Answer]:
        rows = [self._rows(sample, prompt) for sample in samples]
        logits = iter(self._logits(list(chain.from_iterable(rows))))
        answers = []
        for sample, own in zip(samples, rows, strict=True):
            table = torch.stack([next(logits) for _ in own]).double()
            if not bool(table.isfinite().all()):
                raise EvaluationError(f"the model's output for item '{sample.id}' is not a number")
            answers.append(self._answer(sample, prompt, table, own))
        return answers

    def _answer(self, sample: Sample, prompt: Prompt, logits: torch.Tensor, rows: Sequence[Row]) -> Answer:
        tokens = sum(row.tokens for row in rows)
        text, cut = prompt.render(sample.input, sample.choices), max(row.cut for row in rows)
        if sample.eval_type == "similarity":
            rating = float(logits[0, 0])
            return Answer(sample.id, text, f"{rating:.6f}", tokens, cut, scores=(rating,))
        if len(self.labels) == 1:
            values = logits[:, 0].tolist()
        else:
            values = logits[0].log_softmax(-1)[self._places(sample)].tolist()
        choices = tuple(ScoredChoice(choice, value, 1) for choice, value in zip(sample.choices, values, strict=True))
        best = max(range(len(values)), key=values.__getitem__)
        return Answer(sample.id, text, best, tokens, cut, choices=choices, scores=tuple(values))

    def _places(self, sample: Sample) -> list[int]:
        """Return the place of each choice among the labels. Raises EvaluationError for a choice that is no label."""
        have_no_names = all(map(UNNAMED.fullmatch, self.labels))
        if have_no_names and len(sample.choices) == len(self.labels):
            return list(range(len(self.labels)))
        return [self._place(choice, sample.id) for choice in sample.choices]

    def _place(self, choice: str, item: str) -> int:
        """Return the place of a choice among the labels, in their spelling or else in either case."""
        places = _places_of(choice, self.labels)
        if not places:
            folded = [label.casefold() for label in self.labels]
            places = _places_of(choice.casefold(), folded)
        if len(places) != 1:
            message = f"the choice '{choice}' of item '{item}' is none of the model's labels"
            raise EvaluationError(message, where=self.model.name, hint=f"they are {', '.join(self.labels)}")
        return places[0]

    def _rows(self, sample: Sample, prompt: Prompt) -> list[Row]:
        text = prompt.render(sample.input, sample.choices)
        if len(self.labels) > 1:
            return [self._row(text, sample.second or None)]
        if sample.eval_type == "similarity":
            return [self._row(text, sample.second)]
        if prompt.chat_template:
            return [self._chat(sample, prompt, choice) for choice in sample.choices]
        if is_masked_kind(self.model.network.config):
            return [self._row(text, choice) for choice in sample.choices]
        return [self._row(text + prompt.separator + choice, None) for choice in sample.choices]

    def _chat(self, sample: Sample, prompt: Prompt, choice: str) -> Row:
        messages = [*prompt.messages(sample.input, sample.choices), {"role": "assistant", "content": choice}]
        text = chat_text(self.model.tokenizer, messages, self.model.name, asks=False)
        return self._tokenised(text, None, add_special_tokens=False)

    def _row(self, text: str, second: str | None) -> Row:
        return self._tokenised(text, second)

    def _tokenised(self, text: str, second: str | None, **options: Any) -> Row:
        tokenizer, most = self.model.tokenizer, self.model.context_length
        row = Row(tokenizer(text, second, verbose=False, **options))
        if row.tokens <= most:
            return row
        if len(self.labels) == 1:  # its end, which would be cut, is what is judged
            message = f"an item takes {row.tokens} tokens; the model sees {most}"
            raise EvaluationError(message, where=self.model.name)
        cut = Row(tokenizer(text, second, truncation=True, max_length=most, verbose=False, **options))
        return Row(cut.inputs, row.tokens - cut.tokens)

    def _logits(self, rows: Sequence[Row]) -> list[torch.Tensor]:
        """Return the logits of each row. Rows are read together where they are equally long, or may be padded."""
        longest = max(row.tokens for row in rows)
        if self.pads and not self._stands_alone(longest):
            inputs = padded(self.model, [row.inputs for row in rows])
            return list(seen(self.model, inputs).logits.float())
        by_row: list[torch.Tensor] = [torch.empty(0)] * len(rows)
        for group in self._groups([row.tokens for row in rows]):
            inputs = {}
            for name in rows[0].inputs:
                inputs[name] = torch.tensor([rows[place].inputs[name] for place in group], device=self.model.device)
            for place, logits in zip(group, seen(self.model, inputs).logits.float(), strict=True):
                by_row[place] = logits
        return by_row

    def _groups(self, lengths: Sequence[int]) -> list[list[int]]:
        """Put rows of equal length together; each alone where the network takes no more than a single row without
        padding."""
        if self.model.network.config.get_text_config().pad_token_id is None:
            return [[place] for place in range(len(lengths))]
        alone: list[list[int]] = []
        by_length: dict[int, list[int]] = {}
        for place, length in enumerate(lengths):
            if self._stands_alone(length):
                alone.append([place])
            else:
                by_length.setdefault(length, []).append(place)
        return [by_length[length] for length in sorted(by_length)] + alone

    def _stands_alone(self, length: int) -> bool:
        limit = alone_from(self.model.network)
        return limit is not None and length >= limit


def _places_of(word: str, words: Sequence[str]) -> list[int]:
    return [place for place, other in enumerate(words) if other == word]
