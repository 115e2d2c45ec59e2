"""A combination of one adapter with weight c is c times that adapter, by PEFT's own forward pass."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters.conftest import Made, load, logits, peft, peft_logits, quiet, relative_error, torch
from cuvee.adapters import open_adapter
from cuvee.adapters.adapter import Adapter
from cuvee.adapters.group import Group
from cuvee.adapters.spaces import InSpace, Merging
from cuvee.engine.combine import How, combine
from cuvee.foreign import open_files

KINDS = (
    "plain", "rslora", "rank and alpha patterns", "layers", "fan_in_fan_out", "bias of all", "bias of lora",
    "bias of B", "embeddings", "tied embedding", "modules_to_save", "modules_to_save, tied", "tokens", "tokens, tied",
)  # fmt: skip
UNTIED = tuple(kind for kind in KINDS if "tied" not in kind)


def combined(made: Made, out: Path, weights: list[float]) -> "torch.Tensor":
    adapters = [open_adapter(made.adapter)] * len(weights)
    combine(adapters, weights, out, How(), base=open_files(made.base))
    return peft_logits(made.base, out)


@pytest.mark.parametrize("kind", KINDS)
def test_one_adapter_with_weight_one_is_itself(kind: str, adapters: Callable[..., Made], tmp_path: Path) -> None:
    made = adapters(kind)
    assert relative_error(combined(made, tmp_path / "out", [1.0]), made.logits) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_two_halves_of_an_adapter_are_itself(kind: str, adapters: Callable[..., Made], tmp_path: Path) -> None:
    made = adapters(kind)
    assert relative_error(combined(made, tmp_path / "out", [0.5, 0.5]), made.logits) < 1e-5


@pytest.mark.parametrize("kind", UNTIED)
def test_a_weight_scales_what_the_adapter_changes(kind: str, adapters: Callable[..., Made], tmp_path: Path) -> None:
    made = adapters(kind)
    found = combined(made, tmp_path / "out", [0.3])
    assert relative_error(found, scaled_logits(made, 0.3)) < 1e-5
    assert relative_error(found, made.logits) > 1e-2


def test_a_saved_matrix_is_read_in_pieces_of_its_rows(
    adapters: Callable[..., Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = adapters("modules_to_save")
    group = Group([open_adapter(made.adapter)], open_files(made.base))
    (whole,) = (whole for whole in group.wholes if len(whole.shape) == 2)
    change = (group.read(whole, 0) - group.read_base(whole)).reshape(-1)
    source = InSpace(Merging(group, "dense"), 0)
    sizes = []
    monkeypatch.setattr(Adapter, "read_rows", counting(Adapter.read_rows, sizes))
    width = whole.shape[1]
    for first in range(0, change.size - 5, change.size // 7):
        assert (source.numbers(whole.name, first, first + 5) == change[first : first + 5]).all()
    assert change.any()
    assert max(sizes) <= 2 * width


def test_a_matrix_that_one_adapter_has_saved_is_not_changed_by_the_others(
    adapters: Callable[..., Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved, plain = adapters("modules_to_save"), adapters("plain")
    group = Group([open_adapter(saved.adapter), open_adapter(plain.adapter)], open_files(saved.base))
    (whole,) = (whole for whole in group.wholes if len(whole.shape) == 2)
    assert group.read_change(whole, 0, 0, 50).any()
    monkeypatch.setattr(Group, "read_base", None)  # it would be read for nothing
    assert not group.read_change(whole, 1, 0, 50).any()


def counting(read: Callable[..., Any], sizes: list[int]) -> Callable[..., Any]:
    def counted(*arguments: Any) -> Any:
        rows = read(*arguments)
        sizes.append(rows.size)
        return rows

    return counted


def scaled_logits(made: Made, factor: float) -> "torch.Tensor":
    """Compute logits with W + factor x (W' - W), where PEFT has merged the adapter into W'."""
    base, model = load(made.base), load(made.base)
    with quiet():
        merged = peft.PeftModel.from_pretrained(load(made.base), made.adapter).merge_and_unload().state_dict()
    before = base.state_dict()
    model.load_state_dict({name: w + factor * (merged[name] - w) for name, w in before.items()})
    return logits(model)
