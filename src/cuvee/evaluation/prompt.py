"""How an item becomes text, and how text becomes an answer."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from cuvee.evaluation.extract import LETTERS, Extraction

SHOT_SEPARATOR = "\n\n"
PLACEHOLDER = re.compile(r"\{(input|choices)\}")
Message = dict[str, str]


@dataclass(frozen=True)
class Shot:
    """A solved example that stands before the question. `choices` are for a template that lists them."""

    input: str
    target: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prompt:
    """The text around an input, and the treatment of the model's answer.

    In `template`, `{input}` is the input and `{choices}` the choices, one a line after their letters.
    `choice_separator` stands between an input and its answer: before each choice, and in the few-shot examples; by
    default a space, and nothing where a chat template makes the answer a turn of its own.

    `answer_by` says how a multiple-choice item is answered: `likelihood` scores each choice, `generation` lets the
    model write and takes the choice that the extracted answer names. `temperature` 0 is greedy; above it tokens are
    drawn from the most likely that together have the probability `top_p`, by `seed`, the item's id and the position
    alone.
    """

    template: str = "{input}"
    few_shot: tuple[Shot, ...] = ()
    chat_template: bool = False
    system: str | None = None
    stop: tuple[str, ...] = ()
    max_new_tokens: int = 64
    extract: tuple[Extraction, ...] = ()
    otherwise: str | None = None
    choice_separator: str | None = None
    answer_by: Literal["likelihood", "generation"] = "likelihood"
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    @property
    def separator(self) -> str:
        """Return the text between an input and its answer."""
        if self.choice_separator is None:
            return "" if self.chat_template else " "
        return self.choice_separator

    def render(self, text: str, choices: Sequence[str] = ()) -> str:
        """Put the system text, the few-shot examples, each followed by a blank line, and the template around an input.

        This is the text for a model without a chat template; `messages` are for one with it.
        """
        shots = [self.fill(shot.input, shot.choices) + self.separator + shot.target for shot in self.few_shot]
        opening = [] if self.system is None else [self.system]
        return SHOT_SEPARATOR.join([*opening, *shots, self.fill(text, choices)])

    def messages(self, text: str, choices: Sequence[str] = ()) -> list[Message]:
        """Return the same as the turns of a chat, the input last."""
        turns = [] if self.system is None else [("system", self.system)]
        for shot in self.few_shot:
            turns += [("user", self.fill(shot.input, shot.choices)), ("assistant", shot.target)]
        turns.append(("user", self.fill(text, choices)))
        return [{"role": role, "content": content} for role, content in turns]

    def fill(self, text: str, choices: Sequence[str] = ()) -> str:
        """Put an input and its choices into the template."""
        listed = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
        values = {"input": text, "choices": listed}
        return PLACEHOLDER.sub(lambda found: values[found.group(1)], self.template)

    def to_json(self) -> dict[str, Any]:
        """Return the settings that differ from the defaults, in plain types."""
        written = asdict(self)
        return {field.name: written[field.name] for field in fields(self) if getattr(self, field.name) != field.default}
