"""What is copied beside the weights, and what is left out by name."""

from pathlib import Path

import pytest

from cuvee.checkpoint.companions import HIDDEN, UNMERGED, Companions, companions_of, copy_companions, in_words, sort_out

MERGED = ("model.safetensors",)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name, encoding="utf-8")
    return folder


def test_all_is_copied_but_weights_and_what_a_merge_writes_anew(tmp_path: Path) -> None:
    kept = ["chat_template.jinja", "generation_config.json", "modeling_x.py", "preprocessor_config.json"]
    kept += ["processor_config.json", "tokenizer.json", "vocab.txt"]
    anew = [
        "config.json",
        "cuvee.json",
        "README.md",
        "recipe.yaml",
        "model.safetensors",
        "model.safetensors.index.json",
    ]
    touch(tmp_path, *kept, *anew)
    assert companions_of(tmp_path, MERGED) == Companions(tuple(kept), {})


def test_sub_folders_without_weights_are_copied_whole(tmp_path: Path) -> None:
    kept = ["1_Pooling/config.json", "a/b/c/README.md", "additional_chat_templates/tool_use.jinja", "custom_st.py"]
    touch(tmp_path, *kept, "model.safetensors")
    (tmp_path / "out").mkdir()
    assert copy_companions(tmp_path, tmp_path / "out", MERGED) == kept
    assert (tmp_path / "out" / "a" / "b" / "c" / "README.md").read_text() == "a/b/c/README.md"


@pytest.mark.parametrize(
    ("folder", "files"),
    [
        ("onnx", ["model.onnx", "config.json", "tokenizer/tokenizer.json"]),
        ("onnx", ["decoder_model_merged.onnx", "decoder_model_merged.onnx_data"]),
        ("openvino", ["openvino_model.xml", "openvino_model.bin"]),
        ("coreml/text.mlpackage", ["Manifest.json", "Data/com.apple.CoreML/weights/weight.bin"]),
        ("saved_model/1", ["saved_model.pb", "variables/variables.index"]),
        ("checkpoint-500", ["model.safetensors", "optimizer.pt", "trainer_state.json"]),
        ("original", ["consolidated.00.pth", "params.json"]),
        ("adapter", ["adapter_config.json", "adapter_model.safetensors"]),
        ("gguf", ["model-Q4_K_M.gguf"]),
    ],
)
def test_a_folder_of_weights_that_are_not_merged_is_left_out_by_name(
    tmp_path: Path, folder: str, files: list[str]
) -> None:
    touch(tmp_path, *MERGED, "tokenizer.json", *(f"{folder}/{name}" for name in files))
    assert companions_of(tmp_path, MERGED) == Companions(("tokenizer.json",), {f"{folder}/": UNMERGED})


@pytest.mark.parametrize(
    "name",
    [
        "adapter_config.json", "adapter_model.safetensors", "flax_model.msgpack", "model.fp16.safetensors",
        "optimizer.pt",
        "openvino_model.xml", "pytorch_model.bin", "rust_model.ot", "tf_model.h5", "training_args.bin",
    ],
)  # fmt: skip
def test_files_about_weights_that_are_not_merged_are_left_out_by_name(tmp_path: Path, name: str) -> None:
    touch(tmp_path, *MERGED, name)
    assert companions_of(tmp_path, MERGED) == Companions((), {name: UNMERGED})


def test_hidden_files_and_folders_are_left_out_by_name(tmp_path: Path) -> None:
    touch(tmp_path, *MERGED, ".gitattributes", ".git/config", ".git/objects/ab/cd", ".cache/x", "__pycache__/m.pyc")
    left_out = companions_of(tmp_path, MERGED).left_out
    assert left_out == dict.fromkeys([".gitattributes", ".git/", ".cache/", "__pycache__/"], HIDDEN)


def test_links_that_are_not_followed_are_left_out_by_name(tmp_path: Path) -> None:
    donor = touch(tmp_path / "donor", *MERGED)
    (donor / "loop").symlink_to(donor, target_is_directory=True)
    (donor / "nothing.json").symlink_to(tmp_path / "gone")
    (donor / "tokenizer.json").symlink_to(touch(tmp_path / "blobs", "1234") / "1234")
    found = companions_of(donor, MERGED)
    assert found.copied == ("tokenizer.json",)
    assert found.left_out == {"loop/": "a link to a folder", "nothing.json": "not a file that can be read"}


def test_what_is_left_out_is_said_by_reason() -> None:
    names = ["onnx/model.onnx", "optimizer.pt", ".gitattributes", "hf_quant_config.json", "tokenizer.json"]
    text = in_words(sort_out(names, ()))
    assert text == (
        ".gitattributes (hidden); hf_quant_config.json (of quantised weights); "
        "onnx/, optimizer.pt (weights that are not merged)"
    )
    assert in_words(sort_out(["tokenizer.json"], ())) is None


def test_a_folder_of_merged_weights_has_its_companions_copied() -> None:
    names = ["2_Dense/config.json", "2_Dense/model.safetensors", "2_Dense/pytorch_model.bin", "model.safetensors"]
    found = sort_out(names, ("model.safetensors", "2_Dense/model.safetensors"))
    assert found == Companions(("2_Dense/config.json",), {"2_Dense/pytorch_model.bin": UNMERGED})
