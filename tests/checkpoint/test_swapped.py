"""Models of one shape are told apart by samples of their numbers; only a few changed numbers can escape them."""

from pathlib import Path

import numpy as np
import pytest

from cuvee.checkpoint import MemoryCheckpoint, open_checkpoint
from cuvee.checkpoint.sample import BLOCK_BYTES, BLOCKS, sampled_blocks
from cuvee.checkpoint.stored_file import changed_files, in_a_card, recorded
from cuvee.testing import write_model

SHAPES = {"embedding": (700, 64), "matrix": (256, 256), "norm": (64,)}


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {name: generator.standard_normal(shape, np.float32) for name, shape in SHAPES.items()}


def prints(folder: Path) -> dict[str, dict[str, object]]:
    with open_checkpoint(folder) as opened:
        return recorded(opened.files())


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
@pytest.mark.parametrize("tensor", SHAPES)
def test_a_slight_change_throughout_one_tensor_is_seen(tmp_path: Path, tensor: str, dtype: str) -> None:
    tuned = weights()
    tuned[tensor] = tuned[tensor] * np.float32(1.01)
    before = prints(write_model(tmp_path / "base", weights(), dtype=dtype))["model.safetensors"]
    after = prints(write_model(tmp_path / "tuned", tuned, dtype=dtype))["model.safetensors"]
    assert before["header_blake3"] == after["header_blake3"]
    assert before["sampled_blake3"] != after["sampled_blake3"]


@pytest.mark.parametrize("place", [0, -1])
def test_the_first_and_the_last_number_are_sampled(tmp_path: Path, place: int) -> None:
    tuned = weights()
    tuned["matrix"].reshape(-1)[place] += 1
    paths = [write_model(tmp_path / name, arrays) for name, arrays in (("base", weights()), ("tuned", tuned))]
    assert prints(paths[0]) != prints(paths[1])


def test_one_number_between_the_samples_is_not_seen(tmp_path: Path) -> None:
    tuned = weights()
    blocks = sampled_blocks(tuned["matrix"].nbytes, 4)
    between = blocks[0].nbytes // 4
    assert between * 4 < blocks[1].start
    tuned["matrix"].reshape(-1)[between] += 1
    paths = [write_model(tmp_path / name, arrays) for name, arrays in (("base", weights()), ("tuned", tuned))]
    assert prints(paths[0]) == prints(paths[1])


@pytest.mark.parametrize("itemsize", [1, 2, 4, 8])
def test_blocks_depend_on_the_size_alone_and_lie_within_it(itemsize: int) -> None:
    for elements in (0, 1, 100, 2048, 2049, 65_537, 10**9 + 7):
        nbytes = elements * itemsize
        blocks = sampled_blocks(nbytes, itemsize)
        assert all(block.start % itemsize == block.nbytes % itemsize == 0 for block in blocks)
        ends = [block.start + block.nbytes for block in blocks]
        assert (blocks[0].start, ends[-1]) == (0, nbytes)
        assert all(end <= block.start for end, block in zip(ends, blocks[1:], strict=False))
        assert sum(block.nbytes for block in blocks) == min(nbytes, BLOCKS * BLOCK_BYTES)


def test_the_fingerprint_is_the_documented_one(tmp_path: Path) -> None:
    from blake3 import blake3

    array = weights()["matrix"]
    raw = array.tobytes()
    last = len(raw) - 2048
    sampled = b"".join(raw[last * k // 7 // 4 * 4 :][:2048] for k in range(8))
    expected = blake3(b'["matrix", "F32", [256, 256]]\n' + sampled).hexdigest()
    folder = write_model(tmp_path / "m", {"matrix": array})
    assert prints(folder)["model.safetensors"]["sampled_blake3"] == expected
    memory = MemoryCheckpoint({"matrix": array}).files()["memory"]
    assert memory.sampled_blake3 == expected


def test_files_that_came_or_went_have_changed(tmp_path: Path) -> None:
    whole = prints(write_model(tmp_path / "whole", weights()))
    with open_checkpoint(write_model(tmp_path / "cut", weights(), shard_bytes=100_000)) as cut:
        names = set(changed_files(whole, cut.files()))
    assert names == {"model.safetensors", *cut.files()}


def test_the_second_file_counts_in_a_card(tmp_path: Path) -> None:
    tuned = weights()
    tuned["norm"] += 1
    cards = []
    for name, arrays in (("base", weights()), ("tuned", tuned)):
        files = prints(write_model(tmp_path / name, arrays, shard_bytes=100_000))
        assert len(files) > 1
        cards.append(in_a_card(files))
    assert cards[0] != cards[1]
    assert cards[0].startswith("fingerprint of sampled contents of its 3 files, `model-00001-of-00003.safetensors` to")


def test_known_hashes_of_several_files_are_those_of_what_sha256sum_says() -> None:
    import hashlib

    files = {f"{n}.safetensors": {"sha256": f"{n}" * 64, "sampled_blake3": None} for n in (2, 1)}
    lines = f"{'1' * 64}  1.safetensors\n{'2' * 64}  2.safetensors\n"
    assert hashlib.sha256(lines.encode()).hexdigest() in in_a_card(files)
