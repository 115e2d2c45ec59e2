"""One test a door: the shell, Python, and transformers reading what came out."""

import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import cuvee
from cuvee.evaluation import load_model
from cuvee.testing import TINY_LLAMA, random_weights, write_model

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def tokenizer_files(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())[:61]
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    fast.save_pretrained(folder)


@contextmanager
def heard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Let caplog hear transformers, whose logger hands nothing on to the root logger: older pytests hear only that."""
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.WARNING, logger="transformers"):
            yield
    finally:
        logger.removeHandler(caplog.handler)


def about_keys(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the messages that mention missing or unexpected keys, in the words of transformers 4 or 5."""
    words = re.compile("missing|unexpected|mismatch|newly initialized|not used|not initialized", re.IGNORECASE)
    return [message for message in caplog.messages if words.search(message)]


def test_a_merged_folder_loads_in_transformers_and_computes_what_a_merge_by_hand_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = random_weights(0)
    experts = [random_weights(i, base=base) for i in (1, 2)]
    for name, weights in (("base", base), ("a", experts[0]), ("b", experts[1])):
        write_model(tmp_path / name, weights)
        tokenizer_files(tmp_path / name)
    (tmp_path / "recipe.yaml").write_text(
        "merge_method: task_arithmetic\nbase_model: base\nmodels:\n"
        "  - {model: a, parameters: {weight: 0.7}}\n  - {model: b, parameters: {weight: 0.4}}\n"
    )
    merged = cuvee.merge(cuvee.load_recipe(tmp_path / "recipe.yaml"), tmp_path / "out", shard_bytes=60_000)
    out = merged.folder

    with heard(caplog):
        model, said = transformers.AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    assert not any(said[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert about_keys(caplog) == []
    assert tokenizer.decode(tokenizer("ABC").input_ids) == "ABC"
    assert load_model(out, device="cpu").digest == merged.digest

    by_hand = transformers.LlamaForCausalLM(transformers.LlamaConfig(**TINY_LLAMA))
    hand = {n: base[n] + 0.7 * (experts[0][n] - base[n]) + 0.4 * (experts[1][n] - base[n]) for n in base}
    by_hand.load_state_dict({name: torch.tensor(array) for name, array in hand.items()})
    ids = torch.tensor([[1, 5, 9, 30, 2]])
    with torch.inference_mode():
        torch.testing.assert_close(model.eval()(ids).logits, by_hand.eval()(ids).logits, rtol=1e-5, atol=1e-5)


def test_a_folder_whose_names_do_not_fit_is_heard(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without this the silence after a merge would prove nothing."""
    weights = random_weights(0)
    weights["no.such.weight"] = weights.pop("model.layers.1.mlp.up_proj.weight")
    with heard(caplog):
        transformers.AutoModelForCausalLM.from_pretrained(write_model(tmp_path / "odd", weights))
    assert any("no.such.weight" in message for message in about_keys(caplog))


def test_a_merge_on_a_cpu_imports_neither_torch_nor_transformers(tmp_path: Path) -> None:
    for i in (0, 1):
        write_model(tmp_path / f"m{i}", random_weights(i))
    (tmp_path / "recipe.yaml").write_text(
        "merge_method: linear\nmodels: [{model: m0}, {model: m1}]\nparameters: {weight: 1}\n"
    )
    code = """
import sys
from cuvee.cli.app import app
for arguments in (["--help"], ["plan", sys.argv[1]], ["merge", sys.argv[1], sys.argv[2]]):
    try:
        app(arguments, standalone_mode=False)
    except SystemExit:
        pass
heavy = sorted(name for name in ("torch", "transformers", "tokenizers") if name in sys.modules)
print("heavy", heavy)
"""
    arguments = [sys.executable, "-c", code, str(tmp_path / "recipe.yaml"), str(tmp_path / "out")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert "heavy []" in done.stdout
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_importing_cuvee_and_asking_for_help_is_light() -> None:
    code = """
import sys
import cuvee
sys.argv = ["cuvee", "--help"]
try:
    from cuvee.cli import main
    main()
except SystemExit:
    pass
print("light", not {"torch", "transformers", "numpy", "numba", "pydantic"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "light True" in done.stdout


def test_python_merges_plain_arrays() -> None:
    ones = np.ones(3, np.float32)
    merged = cuvee.merge_tensors("task_arithmetic", [2 * ones, 3 * ones], base=ones, weight=[1, 1], lambda_=0.5)
    np.testing.assert_allclose(merged, 2.5 * ones)
