"""A prompt as it is written in a recipe or a `task.yaml`, checked key by key."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def _template(text: str) -> str:
    unknown = sorted(set(re.findall(r"\{(\w+)\}", text)) - {"input", "choices"})
    if unknown:
        raise ValueError(f"unknown placeholder '{{{unknown[0]}}}'; there are '{{input}}' and '{{choices}}'")
    if "{input}" not in text:
        raise ValueError("has no '{input}'")
    return text


def _regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return text


def _mapping(value: object) -> object:
    """Let a pattern alone stand for its first match."""
    return {"pattern": value} if isinstance(value, str) else value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class WrittenShot(_Strict):
    """A solved example."""

    input: str
    target: str
    choices: list[str] = []


class WrittenExtraction(_Strict):
    """Where an answer stands: `pattern`, or what to `find`."""

    pattern: Annotated[str, AfterValidator(_regex)] = ""
    match: Literal["first", "last"] = "first"
    find: Literal["letter", "number"] | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> "WrittenExtraction":
        if bool(self.pattern) == bool(self.find):
            raise ValueError("expected either 'pattern' or 'find'")
        return self


class WrittenPrompt(_Strict):
    """The text around an input, and how the answer is read."""

    template: Annotated[str, AfterValidator(_template)] = "{input}"
    few_shot: list[WrittenShot] = []
    chat_template: bool = False
    system: str | None = None
    stop: list[Annotated[str, Field(min_length=1)]] = []
    max_new_tokens: Annotated[int, Field(ge=1)] = 64
    extract: list[Annotated[WrittenExtraction, BeforeValidator(_mapping)]] = []
    otherwise: str | None = None
    choice_separator: str | None = None
    answer_by: Literal["likelihood", "generation"] = "likelihood"
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
