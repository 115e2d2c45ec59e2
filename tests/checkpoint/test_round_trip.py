"""What is written is read back, by us and by the reference implementation, however it is cut into files."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from cuvee.checkpoint import MemoryCheckpoint, open_checkpoint, tensor_digest, weights_digest
from cuvee.checkpoint.digest import digest_of_entries
from cuvee.checkpoint.dtypes import NUMPY, PACKED, name_of, promoted
from cuvee.checkpoint.stored_file import recorded
from cuvee.checkpoint.write import CheckpointWriter, OutputTensor, lay_out

names = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), max_size=12).filter(
    lambda name: name.isprintable() and name != "__metadata__"
)
shapes = st.lists(st.integers(0, 5), max_size=3).map(tuple)
types = st.sampled_from(sorted(set(NUMPY) - set(PACKED)))
tensors = st.dictionaries(names, st.tuples(types, shapes), min_size=1, max_size=6)
shard_sizes = st.sampled_from([1, 30, 100, 1 << 30])


def random_arrays(specs: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    arrays = {}
    for name, (dtype, shape) in specs.items():
        kind = NUMPY[dtype]
        raw = generator.integers(0, 2 if dtype == "BOOL" else 256, int(np.prod(shape)) * kind.itemsize, np.uint8)
        arrays[name] = raw.view(kind).reshape(shape)
    return arrays


def write(folder: Path, arrays: Mapping[str, np.ndarray], shard_bytes: int = 1 << 30) -> Path:
    outputs = [OutputTensor(name, name_of(array.dtype), array.shape) for name, array in arrays.items()]
    shutil.rmtree(folder, ignore_errors=True)
    with CheckpointWriter(folder, lay_out(outputs, shard_bytes)) as writer:
        for name, array in arrays.items():
            raw = array.reshape(-1).view(np.uint8)
            writer.write(name, raw.size // 2, raw[raw.size // 2 :])
            writer.write(name, 0, raw[: raw.size // 2])
        writer.finish()
    return folder


@settings(max_examples=30, deadline=None)
@given(specs=tensors, shard_bytes=shard_sizes)
def test_any_tensors_read_back_as_they_were_written(tmp_path_factory, specs, shard_bytes):
    arrays = random_arrays(specs)
    folder = write(tmp_path_factory.getbasetemp() / "round-trip", arrays, shard_bytes)
    with open_checkpoint(folder) as checkpoint:
        assert {name: (spec.dtype, spec.shape) for name, spec in checkpoint.tensors.items()} == specs
        assert all(checkpoint.read(name).tobytes() == array.tobytes() for name, array in arrays.items())


@settings(max_examples=25, deadline=None)
@given(specs=tensors, shard_bytes=shard_sizes)
def test_the_reference_implementation_reads_the_same(tmp_path_factory, specs, shard_bytes):
    torch = pytest.importorskip("safetensors.torch")
    assume(hasattr(torch.torch, "float8_e8m0fnu") or all(dtype != "F8_E8M0" for dtype, _ in specs.values()))
    arrays = random_arrays(specs)
    folder = write(tmp_path_factory.getbasetemp() / "reference", arrays, shard_bytes)
    for file in folder.glob("*.safetensors"):
        for name, tensor in torch.load_file(file).items():
            assert tuple(tensor.shape) == arrays[name].shape
            assert tensor.contiguous().reshape(-1).view(torch.torch.uint8).numpy().tobytes() == arrays[name].tobytes()


def test_numpy_users_can_read_what_is_written(tmp_path):
    arrays = random_arrays({"a": ("F32", (2, 3)), "b": ("I64", (4,)), "c": ("F16", ())})
    loaded = load_file(write(tmp_path / "m", arrays) / "model.safetensors")
    assert {name: array.tobytes() for name, array in loaded.items()} == {n: a.tobytes() for n, a in arrays.items()}


@settings(max_examples=25, deadline=None)
@given(specs=tensors, shard_bytes=shard_sizes, order=st.randoms(use_true_random=False))
def test_the_digest_depends_on_neither_shards_nor_order(tmp_path_factory, specs, shard_bytes, order):
    arrays = random_arrays(specs)
    shuffled = dict(order.sample(list(arrays.items()), len(arrays)))
    folder = tmp_path_factory.getbasetemp() / "digest"
    expected = digest_of_entries((n, name_of(a.dtype), a.shape, tensor_digest(a)) for n, a in arrays.items())
    assert weights_digest(write(folder, arrays)) == expected
    assert weights_digest(write(folder, shuffled, shard_bytes)) == expected


@pytest.mark.parametrize(
    "other",
    [
        {"a": np.array([1, 3], np.float32)},
        {"b": np.array([1, 2], np.float32)},
        {"a": np.array([[1, 2]], np.float32)},
        {"a": np.array([1, 2], np.float32).view(np.int32)},
    ],
)
def test_another_number_name_shape_or_type_has_another_digest(tmp_path, other):
    ours = {"a": np.array([1, 2], np.float32)}
    assert weights_digest(write(tmp_path / "other", other)) != weights_digest(write(tmp_path / "ours", ours))


@settings(max_examples=25)
@given(specs=tensors, shard_bytes=shard_sizes)
def test_tensors_start_at_multiples_of_their_size_and_shards_on_a_page(specs, shard_bytes):
    outputs = [OutputTensor(name, dtype, shape) for name, (dtype, shape) in specs.items()]
    for shard in lay_out(outputs, shard_bytes):
        assert len(shard.header) % 4096 == 0
        assert all(shard.starts[t.name] % NUMPY[t.dtype].itemsize == 0 for t in shard.tensors)
        assert len(shard.tensors) == 1 or sum(t.nbytes for t in shard.tensors) <= shard_bytes


def test_shards_are_cut_and_named_as_transformers_does(tmp_path):
    folder = write(tmp_path / "m", random_arrays({"a": ("F32", (4,)), "b": ("F32", (2,)), "c": ("F32", (4,))}), 20)
    assert sorted(file.name for file in folder.iterdir()) == [
        "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors",
        "model-00003-of-00003.safetensors",
        "model.safetensors.index.json",
    ]


def test_one_file_alone_can_be_opened(tmp_path):
    folder = write(tmp_path / "m", random_arrays({"a": ("F32", (4,))}))
    alone = (folder / "model.safetensors").rename(tmp_path / "alone.safetensors")
    with open_checkpoint(alone) as checkpoint:
        assert list(checkpoint.tensors) == ["a"]


def test_parts_of_a_tensor_can_be_read(tmp_path):
    arrays = {"a": np.arange(6, dtype=np.int32)}
    part = np.empty(2, np.int32)
    with open_checkpoint(write(tmp_path / "m", arrays)) as checkpoint:
        checkpoint.will_read("a", 8, 8)
        checkpoint.read_into("a", 8, [part])
    assert part.tolist() == [2, 3]


def test_memory_and_folder_agree(tmp_path):
    arrays = random_arrays({"a": ("BF16", (2, 3)), "b": ("I64", ())})
    memory = MemoryCheckpoint(arrays)
    folder = open_checkpoint(write(tmp_path / "m", arrays))
    specs = [{n: (s.dtype, s.shape, s.nbytes) for n, s in c.tensors.items()} for c in (memory, folder)]
    raw = np.empty(12, np.uint8)
    memory.read_into("a", 0, [raw])
    assert specs[0] == specs[1]
    assert raw.tobytes() == folder.read("a").tobytes()


def test_fingerprints_tell_inputs_apart_by_type_and_shape():
    numbers = np.array([1, 2], np.float32)
    arrays = [numbers, numbers.view(np.int32), numbers.reshape(1, 2)]
    prints = [str(recorded(MemoryCheckpoint({"a": array}).files())) for array in arrays]
    assert len(set(prints)) == 3


def test_a_closed_checkpoint_holds_no_descriptor(tmp_path):
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("counts open files by /proc")
    folder = write(tmp_path / "m", random_arrays({"a": ("F32", (4,))}))
    before = len(list(descriptors.iterdir()))
    checkpoint = open_checkpoint(folder)
    checkpoint.read("a")
    del checkpoint
    assert len(list(descriptors.iterdir())) == before


@pytest.mark.parametrize(
    ("types", "expected"),
    [(["BF16"], "BF16"), (["BF16", "F16"], "F32"), (["F16", "F32"], "F32"), (["BF16", "F64"], "F64")],
)
def test_the_promoted_type_holds_all_exactly(types, expected):
    assert promoted(types) == expected
    assert all(np.promote_types(NUMPY[kind], NUMPY[expected]) == NUMPY[expected] for kind in types)


def test_types_that_the_format_lacks_are_told():
    with pytest.raises(KeyError, match="complex128"):
        name_of(np.dtype(np.complex128))
