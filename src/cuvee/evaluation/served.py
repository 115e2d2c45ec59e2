"""A model behind a server: choices scored by echoed log-probabilities, texts written by it.

For each item the context alone and the context with each choice are sent to be echoed with log-probabilities. The
tokens that all of them share are the prefix, and the tokens behind it are the choice, which is scored: the same
definition as for a model in memory, by the server's own tokenizer. A server that does not tell the log-probabilities of
a prompt cannot score choices, and is refused; llama.cpp's own server is of this kind.

The server itself wrote the last echoed token, for most servers do not take `max_tokens: 0`.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from blake3 import blake3

from cuvee.errors import EvaluationError, RecipeError
from cuvee.evaluation.answers import answer_of_text, check_writable
from cuvee.evaluation.batches import BatchSize
from cuvee.evaluation.choices import Scoring, check_letters, scores_of_choices
from cuvee.evaluation.client import Client
from cuvee.evaluation.generate import Text
from cuvee.evaluation.prompt import Prompt
from cuvee.evaluation.samples import Answer, ScoredChoice, batch_name
from cuvee.evaluation.task import Sample

AT_ONCE = 8
"""Requests under way at a time; a server makes batches of them."""


@dataclass(frozen=True)
class Echo:
    """A text as a server reads it: its tokens, and the log-probability of each after those before it."""

    tokens: tuple[str, ...]
    log_probabilities: tuple[float | None, ...]


@dataclass(frozen=True)
class Served:
    """A model of a server, by its address and the name that the server gives it."""

    client: Client
    model: str
    digest: str
    context_length: int

    files_digest: str = ""

    @property
    def name(self) -> str:
        return f"{self.client.address}#{self.model}"

    def settings(self) -> dict[str, str]:
        """Return the settings of the server, as far as they are known."""
        return {"server": self.client.address, "served_model": self.model}

    def answers(
        self,
        samples: Sequence[Sample],
        prompt: Prompt,
        *,
        scoring: Scoring,
        batch_size: BatchSize,
        missing: Collection[str],
    ) -> Iterator[list[Answer]]:
        """Answer the samples whose ids are in `missing`, a few at a time."""
        asked = [sample for sample in samples if sample.id in missing]
        _refuse_what_servers_cannot(asked, prompt, scoring)
        size = AT_ONCE if batch_size == "auto" else batch_size
        with ThreadPoolExecutor(max_workers=size) as pool:
            for start in range(0, len(asked), size):
                batch = asked[start : start + size]
                answers = list(pool.map(lambda sample: self._answer(sample, prompt, scoring), batch))
                name = batch_name([answer.id for answer in answers])
                yield [replace(answer, batch=name) for answer in answers]

    def _answer(self, sample: Sample, prompt: Prompt, scoring: Scoring) -> Answer:
        return self._choice(sample, prompt, scoring) if _is_scored(sample, prompt) else self._text(sample, prompt)

    def _choice(self, sample: Sample, prompt: Prompt, scoring: Scoring) -> Answer:
        if prompt.chat_template:
            hint = "set chat_template: false, or answer_by: generation"
            raise EvaluationError("a server echoes no chat, so that choices in it cannot be scored", hint=hint)
        context = prompt.render(sample.input, sample.choices)
        first, *rows = self.echo([context, *(context + prompt.separator + choice for choice in sample.choices)])
        shared = min(min(_shared(first, row), len(row.tokens) - 1) for row in rows)
        if shared < 1:
            raise EvaluationError(f"the server reads nothing before the choices of item '{sample.id}'", where=self.name)
        totals = [_total(row, shared, sample.id) for row in rows]
        lengths = [len(row.tokens) - shared for row in rows]
        scores = scores_of_choices(sample.choices, lengths, totals, scoring)
        return Answer(
            id=sample.id,
            prompt=context,
            prediction=max(range(len(scores)), key=scores.__getitem__),
            tokens=shared + sum(length - 1 for length in lengths),
            cut=0,
            choices=tuple(map(ScoredChoice, sample.choices, totals, lengths)),
            scores=tuple(scores),
        )

    def _text(self, sample: Sample, prompt: Prompt) -> Answer:
        options: dict[str, Any] = {
            "model": self.model,
            "max_tokens": prompt.max_new_tokens,
            "temperature": prompt.temperature,
        }
        options |= {"top_p": prompt.top_p, "seed": prompt.seed} if prompt.temperature else {}
        options |= {"stop": list(prompt.stop)} if prompt.stop else {}
        rendered = prompt.render(sample.input, sample.choices)
        if prompt.chat_template:
            messages = prompt.messages(sample.input, sample.choices)
            answer = self.client.post("chat/completions", {**options, "messages": messages})
        else:
            answer = self.client.post("completions", {**options, "prompt": rendered})
        try:
            (choice,) = answer["choices"]
            content = choice["message"]["content"] if prompt.chat_template else choice["text"]
            text = str(content or "")
            used = int((answer.get("usage") or {}).get("total_tokens", 0))
        except (KeyError, TypeError, ValueError) as error:
            raise _not_understood(self.name, answer) from error
        return answer_of_text(sample, prompt, Text(text, used, 0, rendered))

    def echo(self, texts: Sequence[str]) -> list[Echo]:
        """Let the server read texts. Raises EvaluationError if it does not tell their log-probabilities."""
        body = {"model": self.model, "prompt": list(texts), "max_tokens": 1, "temperature": 0}
        answer = self.client.post("completions", {**body, "echo": True, "logprobs": 1})
        try:
            choices = sorted(answer["choices"], key=lambda choice: choice["index"])
            rows = [(list(each["logprobs"]["tokens"]), list(each["logprobs"]["token_logprobs"])) for each in choices]
            usage = answer.get("usage") or {}
            read = usage.get("prompt_tokens")
        except (KeyError, TypeError) as error:
            raise _no_echo(self.name) from error
        extra = len(rows)
        if read is not None:
            extra = sum(len(tokens) for tokens, _ in rows) - int(read)
        if len(rows) != len(texts) or extra not in (0, len(rows)):
            raise _no_echo(self.name)
        end = -1 if extra else None
        return [Echo(tuple(tokens[:end]), tuple(values[:end])) for tokens, values in rows]


def _refuse_what_servers_cannot(samples: Sequence[Sample], prompt: Prompt, scoring: Scoring) -> None:
    """Raise CuveeError for texts, for the kit's scores, and for items that a server cannot answer in this way."""
    for sample in samples:
        if sample.eval_type == "text":
            raise RecipeError("texts are foretold in memory, not by a server", hint="give the model's folder")
        check_writable(sample)
    if scoring == "kit":
        raise RecipeError("a server cannot score as the kit does", hint="score choices with 'sum'")
    if scoring == "letter":
        check_letters([sample for sample in samples if _is_scored(sample, prompt)])


def open_server(address: str, *, key: str | None = None) -> Served:
    """Reach a server; `#NAME` after its address names a model, which is needed if the server has several.

    The digest is of the address and the server's description of the model: weights that change behind an unchanged
    name are not noticed. Raises EvaluationError.
    """
    place, _, name = address.partition("#")
    client = Client(place.rstrip("/"), key)
    answer = client.get("models")
    try:
        models = {str(entry["id"]): entry for entry in answer["data"]}
    except (KeyError, TypeError) as error:
        raise _not_understood(place, answer) from error
    if not name and len(models) != 1:
        hint = f"write {place}#NAME, of {', '.join(models)}"
        raise RecipeError(f"the server has {len(models)} models", where=place, hint=hint)
    chosen = name or next(iter(models))
    if chosen not in models:
        raise EvaluationError(f"the server has no model '{chosen}'", where=place, hint=f"it has {', '.join(models)}")
    entry = models[chosen]
    steady = [client.address, chosen, *(str(entry.get(field)) for field in ("root", "parent", "max_model_len"))]
    length = entry.get("max_model_len")
    digest = blake3("\n".join(steady).encode()).hexdigest()
    return Served(client, chosen, digest, length if isinstance(length, int) else 0)


def _is_scored(sample: Sample, prompt: Prompt) -> bool:
    return sample.eval_type == "multiple_choice" and prompt.answer_by == "likelihood"


def _shared(first: Echo, second: Echo) -> int:
    pairs = zip(first.tokens, second.tokens, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _total(row: Echo, start: int, item: str) -> float:
    values = []
    for value in row.log_probabilities[start:]:
        if not isinstance(value, int | float) or math.isnan(value):
            raise EvaluationError(f"the server does not tell all log-probabilities of item '{item}'")
        values.append(value)
    return float(sum(values))


def _no_echo(name: str) -> EvaluationError:
    return EvaluationError(
        "the server does not tell the log-probabilities of a prompt, so that choices cannot be scored",
        where=name,
        hint="vLLM and SGLang do (echo with logprobs); with others use answer_by: generation in the task's prompt",
    )


def _not_understood(name: str, found: Any) -> EvaluationError:
    return EvaluationError(f"the server's answer is not understood: {str(found)[:200]}", where=name)
