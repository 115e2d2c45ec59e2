"""A recipe's keys for the tokenizer: `tokenizer`, mergekit's `tokenizer_source`, and `chat_template`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from cuvee.documents.shown import shown
from cuvee.recipe.reference import ModelRef, parse_reference

TokenRows = Literal["model", "token", "zero", "mean"]


@dataclass(frozen=True)
class TokenRule:
    """Where the row of a token comes from in models that lack it, or with `force` in all of them.

    Of "model" the model's own row of the same token; of "token" its row of another, by text or id; "zero" is zeros, and
    "mean" the mean of each model's own rows of tokens. `special` says that an added token is special.
    """

    token: str
    rows: TokenRows
    model: ModelRef | None = None
    text: str | None = None
    number: int | None = None
    force: bool = False
    special: bool = False


@dataclass(frozen=True)
class TokenizerChoice:
    """The output's tokenizer: "base", "union", or that of a model of the recipe."""

    source: Literal["base", "union"] | ModelRef
    rules: tuple[TokenRule, ...] = ()
    pad_to_multiple_of: int | None = None


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())


class ModelToken(_Strict):
    """A token's row of a model."""

    kind: Literal["model_token"]
    model: str
    token: str | None = None
    token_id: int | None = Field(None, ge=0)


class ZeroRow(_Strict):
    """A row of zeros."""

    kind: Literal["zero"]


class MeanRow(_Strict):
    """The mean of a model's own rows of tokens."""

    kind: Literal["mean"]


_SOURCES: dict[Any, type[BaseModel]] = {"model_token": ModelToken, "zero": ZeroRow, "mean": MeanRow}


def _chosen_source(written: Any) -> Any:
    """Check a source by its kind, so that problems are told of that kind only."""
    if not isinstance(written, dict):
        return written
    kind = _SOURCES.get(written.get("kind"))
    if kind is None:
        raise ValueError(f"expected kind: model_token, kind: zero or kind: mean, found {shown(written)}")
    return kind.model_validate(written)


class TokenDocument(_Strict):
    """The source of a token's row where a model lacks it, or everywhere."""

    source: Annotated[str | ModelToken | ZeroRow | MeanRow, BeforeValidator(_chosen_source)]
    force: bool = False
    special: bool = Field(False, description="of a token that is added: decoding may leave it out")


class TokenizerDocument(_Strict):
    """The output's tokenizer, and rules for single tokens."""

    source: str = Field("union", description="union, base, or one of the models")
    tokens: dict[str, TokenDocument] | None = None
    pad_to_multiple_of: int | None = Field(None, ge=1)


def _chosen_form(written: Any) -> Any:
    if not isinstance(written, str | dict | None):
        raise ValueError(f"expected union, base, a model, or a mapping with 'source', found {shown(written)}")
    if isinstance(written, dict):
        return TokenizerDocument.model_validate(written)
    return written


TokenizerKey = Annotated[str | TokenizerDocument | None, BeforeValidator(_chosen_form)]
"""The value of `tokenizer`: a text, or the whole of it."""


def read_choice(written: str | TokenizerDocument) -> TokenizerChoice:
    """Return the choice that a checked document states. Raises ValueError."""
    if isinstance(written, str):
        return TokenizerChoice(_source(written))
    tokens = written.tokens or {}
    rules = tuple(_rule(token, rule) for token, rule in tokens.items())
    return TokenizerChoice(_source(written.source), rules, written.pad_to_multiple_of)


def _source(text: str) -> Literal["base", "union"] | ModelRef:
    if text in ("base", "union"):
        return text  # type: ignore[return-value]  # one of the two
    return parse_reference(text)


def _rule(token: str, written: TokenDocument) -> TokenRule:
    source, is_special = written.source, written.special
    if isinstance(source, str):
        return TokenRule(token, "model", parse_reference(source), force=written.force, special=is_special)
    if isinstance(source, ZeroRow | MeanRow):
        return TokenRule(token, source.kind, force=written.force, special=is_special)
    if (source.token is None) == (source.token_id is None):
        raise ValueError(f"the token {shown(token)} needs one of 'token' and 'token_id'")
    model = parse_reference(source.model)
    return TokenRule(token, "token", model, source.token, source.token_id, written.force, is_special)


def models_named(choice: TokenizerChoice) -> list[ModelRef]:
    """List the models that a choice names."""
    models = [choice.source] if isinstance(choice.source, ModelRef) else []
    for rule in choice.rules:
        if rule.model is not None:
            models.append(rule.model)
    return models


def canonical_choice(choice: TokenizerChoice | None) -> Mapping[str, Any] | None:
    """Return a choice as plain data."""
    if choice is None:
        return None
    rules = []
    for rule in choice.rules:
        model = str(rule.model) if rule.model else None
        plain: list[Any] = [rule.token, rule.rows, model, rule.text, rule.number, rule.force]
        rules.append([*plain, "special"] if rule.special else plain)
    return {"source": str(choice.source), "tokens": rules, "pad_to_multiple_of": choice.pad_to_multiple_of}
