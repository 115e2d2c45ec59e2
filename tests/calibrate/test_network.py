"""Blocks that run alone, against the whole network as transformers runs it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cuvee.calibrate.network import BlockNetwork
from cuvee.calibrate.sites import find_sites
from cuvee.calibrate.stored import Stored
from cuvee.checkpoint import MemoryCheckpoint, open_checkpoint
from cuvee.errors import CuveeError
from cuvee.evaluation.library import Joined
from evaluation.conftest import byte_tokenizer
from evaluation.families import FAMILIES, make_network

IDS = [5, 9, 3, 7, 11, 2, 8, 6, 4, 9, 1, 3]
TWO_SIDED = {"t5", "switch transformers", "bart", "pegasus", "bigbird pegasus", "fsmt"}
NOT_ALONE = {
    "deepseek 4": "its blocks cannot be run alone",
    "gemma 3n": "hidden states of 12 tokens are",
    "gemma 4": "its blocks cannot be run alone",
    "inkling": "not on the expected device meta",
    "zamba 2": "its blocks cannot be run alone: block 1 is off by",
}
"""Families whose blocks take more than what the block before gives."""

ALONE = sorted(FAMILIES.keys() - TWO_SIDED - NOT_ALONE.keys())


def saved(family: str, folder: Path) -> tuple[torch.nn.Module, BlockNetwork]:
    network = make_network(family)
    network.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return network, BlockNetwork(open_checkpoint(folder), folder, family, device=torch.device("cpu"))


@pytest.mark.parametrize("family", ALONE)
def test_blocks_that_run_alone_give_the_networks_logits(family: str, tmp_path: Path) -> None:
    whole, alone = saved(family, tmp_path)
    ids = torch.tensor([IDS])
    (hidden,) = alone.starts([ids])
    for number in range(alone.depth):
        hidden = alone.run_block(alone.block(number), hidden, alone.call(number, 1, len(IDS)))
    with torch.no_grad():
        wanted = whole.eval()(input_ids=ids, use_cache=False).logits[0]
    torch.testing.assert_close(torch.cat(list(alone.logits(hidden[0]))), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", sorted(NOT_ALONE))
def test_families_whose_blocks_need_more_are_refused(family: str, tmp_path: Path) -> None:
    with pytest.raises(CuveeError, match=NOT_ALONE[family]):
        saved(family, tmp_path)[1].check_alone(IDS)


def test_a_block_that_sees_more_than_its_call_is_found_out(tmp_path: Path) -> None:
    """A block that counts its calls gives something else when it runs alone."""
    _, alone = saved("llama", tmp_path)
    calls: list[int] = []

    def counting(module: torch.nn.Module, arguments: object, output: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return output + 0.1 * len(calls)

    alone._blocks[1].register_forward_hook(counting)
    with pytest.raises(CuveeError, match="block 1 is off by"):
        alone.check_alone(IDS)


def sites_of(family: str, folder: Path) -> list[set[str]]:
    _, alone = saved(family, folder)
    (hidden,) = alone.starts([torch.tensor([IDS])])
    block, call = alone.block(0), alone.call(0, 1, len(IDS))
    found = find_sites(block, len(IDS), lambda: alone.run_block(block, hidden, call))
    return [{own.module for own in site.maps} for site in found]


def test_maps_that_share_an_input_are_one_site(tmp_path: Path) -> None:
    assert sites_of("llama", tmp_path) == [
        {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
        {"self_attn.o_proj"},
        {"mlp.gate_proj", "mlp.up_proj"},
        {"mlp.down_proj"},
    ]


def test_conv1d_and_fused_projections_are_maps(tmp_path: Path) -> None:
    assert sites_of("gpt 2", tmp_path / "1") == [{"attn.c_attn"}, {"attn.c_proj"}, {"mlp.c_fc"}, {"mlp.c_proj"}]
    assert {"self_attn.qkv_proj"} in sites_of("phi 3", tmp_path / "2")


def test_experts_and_routers_are_no_sites(tmp_path: Path) -> None:
    found = set().union(*sites_of("mixtral", tmp_path))
    assert found == {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"}


def test_a_number_alone_is_read_as_such() -> None:
    source = MemoryCheckpoint({"beta": np.array(0.25, np.float32)})  # as the activations of Apertus have them
    read = Stored(Joined((("beta",),)), ()).read(source)
    assert read.shape == ()
    assert float(read) == 0.25
