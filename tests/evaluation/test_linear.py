"""Layers that oneDNN multiplies give what torch gives, in every shape and use."""

import copy
from pathlib import Path

import pytest
import torch

from cuvee.evaluation import linear
from cuvee.evaluation.linear import OneDnnLinear, hasten


@pytest.fixture
def on_amd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    information = tmp_path / "cpuinfo"
    information.write_text("vendor_id : AuthenticAMD\nflags : fpu avx2 avx512f\n")
    monkeypatch.setattr(linear, "CPU_INFO", information)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)


def network(bias: bool = True, width: int = 512) -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(width, 520, bias=bias), torch.nn.Linear(520, 8))


@pytest.mark.usefixtures("on_amd")
@pytest.mark.parametrize("shape", [(512,), (1, 512), (5, 512), (2, 3, 512), (0, 512)])
@pytest.mark.parametrize("bias", [True, False])
def test_products_are_those_of_torch(shape: tuple[int, ...], bias: bool) -> None:
    plain, hastened = network(bias), network(bias)
    assert hasten(hastened) == 1
    rows = torch.randn(shape)
    with torch.inference_mode():
        assert hastened(rows) == pytest.approx(plain(rows), abs=1e-5)


@pytest.mark.usefixtures("on_amd")
def test_a_copy_multiplies_its_own_weights() -> None:
    hastened = network()
    hasten(hastened)
    copied = copy.deepcopy(hastened)
    with torch.inference_mode():
        copied[0].weight.zero_()
        assert not torch.equal(copied(torch.ones(512)), hastened(torch.ones(512)))


@pytest.mark.usefixtures("on_amd")
def test_gradients_are_as_before() -> None:
    hastened = network()
    hasten(hastened)
    hastened(torch.ones(512)).sum().backward()
    assert hastened[0].weight.grad.abs().sum() > 0


@pytest.mark.usefixtures("on_amd")
def test_small_and_sixteen_bit_layers_stay_as_they_are() -> None:
    assert hasten(network(width=64)) == 0
    assert hasten(network().to(torch.bfloat16)) == 0


def test_on_a_processor_that_mkl_knows_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    information = tmp_path / "cpuinfo"
    information.write_text("vendor_id : GenuineIntel\nflags : avx512f\n")
    monkeypatch.setattr(linear, "CPU_INFO", information)
    assert hasten(network()) == 0


@pytest.mark.usefixtures("on_amd")
def test_a_torch_without_the_operation_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> torch.Tensor:
        raise AttributeError("no such operation")

    monkeypatch.setattr(linear, "_product", missing)
    hastened = network()
    assert hasten(hastened) == 0
    assert not any(isinstance(layer, OneDnnLinear) for layer in hastened)
