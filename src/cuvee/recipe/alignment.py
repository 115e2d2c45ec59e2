"""`align:` in a recipe: how the merge is repaired by the texts of its models."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Ridge = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class WrittenAlignment(BaseModel):
    """How a merge is repaired. Settings that are left out are as in the preset."""

    model_config = ConfigDict(extra="forbid", strict=True)

    preset: Literal["align", "regmean_pp"] = "align"
    mix: Share | None = Field(None, description="part of the expert's own inputs in what its answer is wanted for")
    ridge: Ridge | Literal["auto"] | None = Field(None, description="how strongly weights stay at the merge")
    push: Annotated[float, Field(allow_inf_nan=False)] | None = Field(None, description="of the anchor from the base")
    off_diagonal: Share | None = Field(None, description="off-diagonal part of Gram matrices, where mix is 0")
    norm: Literal["frobenius", "trace", "none"] | None = Field(None, description="by which experts count alike")
    positions: Literal["all", "answer", "prompt"] | None = Field(None, description="of the texts that count")
    tokens: Annotated[int, Field(ge=1)] | None = Field(None, description="of each text, at most")
    length: Annotated[int, Field(ge=2)] | None = Field(None, description="of each document in tokens, at most")
    inside: Literal["merged", "expert"] | None = Field(None, description="whose block sees the merged states before it")
    one_by_one: bool | None = Field(None, description="whether a block's inputs are solved for one after the other")
