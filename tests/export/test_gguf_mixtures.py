"""Files have the types that llama.cpp's own quantiser chooses; see llama_quantize.py for where they come from."""

import json
from pathlib import Path
from typing import get_args

import pytest

from cuvee.export.gguf_mixtures import FILE_TYPES, Kind, Mixture, type_of

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "gguf_types.json").read_text())


@pytest.mark.parametrize("case", GOLDEN)
def test_tensors_have_the_types_of_llama_quantize(case):
    entry = GOLDEN[case]
    for kind, types in entry["types"].items():
        mixture = Mixture(kind=kind, **entry["mixture"])
        for name, shape in entry["shapes"].items():
            expected = types["others"].get(name, types["usual"])
            assert type_of(name, tuple(shape), mixture) == expected, (kind, name)


def test_vectors_and_routers_stay_float32():
    for kind in get_args(Kind):
        mixture = Mixture(kind, 4, 8, is_tied=False, is_70b=False)
        assert type_of("blk.0.attn_norm.weight", (256,), mixture) == "F32"
        assert type_of("blk.0.ffn_gate_inp.weight", (8, 256), mixture) == "F32"


def test_rows_that_are_no_blocks_at_all_are_float16():
    for kind in set(get_args(Kind)) - {"f32"}:
        assert type_of("blk.0.attn_q.weight", (256, 40), Mixture(kind, 4, 0, is_tied=False, is_70b=False)) == "F16"


def test_every_kind_has_its_number():
    assert set(FILE_TYPES) == set(get_args(Kind))
