"""Every key that a recipe file may have, and the type of its value."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from cuvee.recipe.alignment import WrittenAlignment
from cuvee.recipe.groups import Missing
from cuvee.recipe.prompt import WrittenPrompt
from cuvee.recipe.recipe import (
    EIGHT_BITS,
    ComputeDType,
    DType,
    OutDType,
    Rounding,
    Semantics,
    UnknownLayers,
    UnlikeConfigs,
)
from cuvee.recipe.vocabulary import TokenizerKey


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())


class _Model(_Strict):
    """A model that takes part and its own parameters."""

    model: str = Field(description="folder, .safetensors file or org/name[@revision][+adapter]")
    name: str | None = Field(None, description="what random draws depend on instead of the reference")
    text: str | None = Field(None, description="what the merge is aligned with this model by: a file or a task's name")
    statistics: str | None = Field(
        None, description="the folder that cuvee calibrate wrote for this model, or competition:NAME"
    )
    parameters: dict[str, Any] | None = None


class _SliceSource(_Model):
    layer_range: list[int] = Field(description="[first, last), counted from 0", min_length=2, max_length=2)


class _Slice(_Strict):
    """Sources whose layers become the next layers of the output."""

    sources: list[_SliceSource] = Field(min_length=1)
    base_model: str | None = None
    parameters: dict[str, Any] | None = None


class _Module(_Strict):
    """A part of a model of several: the models that are merged in it, all of them as whole models, or slices."""

    models: list[_Model] | None = Field(None, min_length=1)
    slices: list[_Slice] | None = Field(None, min_length=1)
    parameters: dict[str, Any] | None = None


def _without_torch(written: Any) -> Any:
    """Let `torch.bfloat16` be `bfloat16`, as mergekit does. Raises ValueError for eight bits, which need scales."""
    if not isinstance(written, str):
        return written
    word = written.removeprefix("torch.")
    if word.startswith(("fp8_", "float8")):
        raise ValueError("eight bits need scales: say 'out_dtype: fp8' or 'out_dtype: fp8-compressed-tensors'")
    return word


def _not_eight_bits(written: Any) -> Any:
    """Raises ValueError for eight bits, which no merge is computed in."""
    if written in EIGHT_BITS:
        raise ValueError(f"merges are computed in more than eight bits: say 'out_dtype: {written}'")
    return _without_torch(written)


WrittenDType = Annotated[DType, BeforeValidator(_not_eight_bits)]
WrittenOutDType = Annotated[OutDType, BeforeValidator(_without_torch)]

_TAKEN = "merge, base, or the model of the recipe that this part is taken from as it is"


class RecipeDocument(_Strict):
    """A merge recipe: mergekit's YAML, checked strictly."""

    merge_method: str
    models: list[_Model] | None = Field(None, min_length=1)
    slices: list[_Slice] | None = Field(None, min_length=1)
    modules: dict[str, _Module] | None = Field(None, min_length=1, description="parts of a model, each merged its way")
    base_model: str | None = None
    parameters: dict[str, Any] | None = None
    dtype: WrittenDType | None = Field(None, description="type of the written tensors, unless out_dtype says another")
    out_dtype: WrittenOutDType | None = Field(None, description="the same; fp8 has scales for blocks of matrices")
    compute_dtype: ComputeDType = Field("float32", description="as_loaded rounds inputs and task vectors to dtype")
    semantics: Semantics = Field("mergekit", description="where mergekit and the paper differ")
    seed: int = Field(0, ge=0, lt=2**63)
    weights: Any = Field(None, description="a rule that gives each model its weight")
    post: Any = Field(None, description="modifiers of the merged change, one after another")
    rounding: Rounding = Field("nearest", description="of the numbers written; stochastic is right on average")
    tokenizer: TokenizerKey = Field(None, description="union, base or one of the models")
    tokenizer_source: str | None = Field(None, description="mergekit's older form of tokenizer")
    chat_template: str | None = Field(
        None, description="auto, the name of a known one, one of the models, or a Jinja template"
    )
    prompt: WrittenPrompt | None = Field(None, description="how the output is asked, in place of a task's prompt")
    align: WrittenAlignment | None = Field(None, description="repairs the merge by the texts of its models")
    missing: Missing = Field("fail", description="what becomes of a tensor that only some models have")
    embeddings: str | None = Field(None, description=_TAKEN)
    experts: str | None = Field(None, description=_TAKEN)
    routers: str | None = Field(None, description=_TAKEN)
    language: str | None = Field(None, description=_TAKEN)
    vision: str | None = Field(None, description=_TAKEN)
    audio: str | None = Field(None, description=_TAKEN)
    projector: str | None = Field(None, description=_TAKEN)
    encoder: str | None = Field(None, description=_TAKEN)
    decoder: str | None = Field(None, description=_TAKEN)
    head: str | None = Field(
        None, description="merge, base, a model of the recipe, or keep: heads that predict no tokens"
    )
    mtp: str | None = Field(None, description="merge, base, a model of the recipe, or drop: layers that predict ahead")
    unknown_layers: UnknownLayers = Field("refuse", description="of slices in families whose layer rules are not known")
    unlike_configs: UnlikeConfigs = Field("keep", description="of models whose config.json compute otherwise")
    sweep: Any = Field(
        None, description="places of the recipe and the values of each merge: several merges in one pass"
    )
    name: str | None = None
