"""Statistics of a model's inputs are those that a loop over the whole network's hooks finds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from transformers.pytorch_utils import Conv1D  # noqa: E402  # after the skip

from cuvee.calibrate.collect import Collecting, collect  # noqa: E402
from cuvee.calibrate.network import BlockNetwork  # noqa: E402
from cuvee.calibrate.text import Document, Text  # noqa: E402
from cuvee.checkpoint import open_checkpoint  # noqa: E402
from cuvee.errors import CheckpointError, RecipeError  # noqa: E402
from cuvee.progress import Silent  # noqa: E402
from cuvee.statistics import ModelRecord, Record, Statistics, open_statistics  # noqa: E402
from evaluation.conftest import byte_tokenizer  # noqa: E402

SIZES: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24,
    "max_position_embeddings": 64,
}  # fmt: skip
FAMILIES = {
    "llama": transformers.LlamaConfig(**SIZES, num_key_value_heads=2),
    "gpt2": transformers.GPT2Config(vocab_size=300, n_embd=16, n_layer=2, n_head=4, n_positions=64),
    "gpt_neox": transformers.GPTNeoXConfig(**SIZES),
    "phi3": transformers.Phi3Config(**SIZES, num_key_value_heads=2, pad_token_id=0),
}
WHO = ModelRecord(name="model", weights_digest="w", fingerprint="f", tokens_digest=None)


def saved(family: str, folder: Path) -> Path:
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(FAMILIES[family])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def text(*, documents: int = 24, answers: bool = False) -> Text:
    draw = np.random.default_rng(0)
    made = []
    for number in range(documents):
        length = (9, 16, 30)[number % 3]
        made.append(Document(tuple(draw.integers(0, 300, length).tolist()), length - 4 if answers else length))
    return Text("text", tuple(made))


def collected(folder: Path, out: Path, how: Collecting | None = None, words: Text | None = None) -> Statistics:
    network = BlockNetwork(open_checkpoint(folder), folder, "model", device=torch.device("cpu"))
    collect(network, words or text(), out, how or Collecting(), model=WHO, progress=Silent())
    return open_statistics(out)


def by_hooks(folder: Path, words: Text, positions: str, batch: int) -> tuple[dict[str, np.ndarray], float]:
    """Return every linear module's inputs [n, in] at positions that count, and the mean loss of what is predicted."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    seen: dict[str, list[torch.Tensor]] = {}
    now: dict[str, torch.Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear | Conv1D):
            module.register_forward_pre_hook(lambda m, a, name=name: now.__setitem__(name, a[0]))
    nats: list[torch.Tensor] = []
    for length in sorted({len(document.ids) for document in words.documents}):
        alike = [document for document in words.documents if len(document.ids) == length]
        for start in range(0, len(alike), batch):
            rows = alike[start : start + batch]
            ids = torch.tensor([document.ids for document in rows])
            with torch.no_grad():
                logits = model(input_ids=ids).logits
            counted = torch.tensor([document.positions(positions) for document in rows])
            for name, inputs in now.items():
                seen.setdefault(name, []).append(inputs[counted])
            for row, document in enumerate(rows):
                first = document.answer_from - 1 if document.answer_from < length else 0
                own = logits[row, first:-1].double().log_softmax(-1)
                nats.append(-own.gather(1, ids[row, first + 1 :, None])[:, 0])
    return {name: torch.cat(parts).double().numpy() for name, parts in seen.items()}, float(torch.cat(nats).mean())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch", [1, 3, 16])
def test_statistics_are_those_of_a_loop_over_the_whole_network(family: str, batch: int, tmp_path: Path) -> None:
    folder = saved(family, tmp_path / "model")
    found = collected(folder, tmp_path / "out")
    inputs, loss = by_hooks(folder, text(), "all", batch)
    matrices = {name: rows for name, rows in inputs.items() if f"{name}.weight" in found.tensors}
    assert len(matrices) == {"llama": 14, "gpt2": 8, "gpt_neox": 8, "phi3": 8}[family]
    for name, rows in matrices.items():
        np.testing.assert_allclose(found.gram(f"{name}.weight"), rows.T @ rows / len(rows), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.mean_abs(f"{name}.weight"), np.abs(rows).mean(0), rtol=1e-4, atol=1e-6)
    assert found.record.loss == pytest.approx(loss, rel=1e-5)


def test_maps_of_one_input_share_a_site(tmp_path: Path) -> None:
    found = collected(saved("llama", tmp_path / "model"), tmp_path / "out")
    names = [f"model.layers.0.self_attn.{part}_proj.weight" for part in "qkv"]
    assert found.record.sites["model.layers.0.self_attn.q_proj"] == tuple(names)
    assert len(found.record.sites) == 2 * 4


@pytest.mark.parametrize("positions", ["answer", "prompt"])
def test_only_positions_that_count_do(positions: Any, tmp_path: Path) -> None:
    folder, words = saved("llama", tmp_path / "model"), text(documents=80, answers=True)
    found = collected(folder, tmp_path / "out", Collecting(positions=positions), words)
    inputs, loss = by_hooks(folder, words, positions, 16)
    for name in ("model.layers.1.mlp.gate_proj", "model.layers.0.self_attn.o_proj"):
        rows = inputs[name]
        assert len(rows) == found.record.text.counted
        np.testing.assert_allclose(found.gram(f"{name}.weight"), rows.T @ rows / len(rows), rtol=1e-4, atol=1e-5)
    assert found.record.loss == pytest.approx(loss, rel=1e-5)
    assert found.record.loss_tokens == 80 * 4


def test_rows_are_a_sample_of_positions_and_stand_for_their_gram_matrix(tmp_path: Path) -> None:
    folder = saved("llama", tmp_path / "model")
    found = collected(folder, tmp_path / "out", Collecting(rows=10**6))
    inputs, _ = by_hooks(folder, text(), "all", 16)
    rows = inputs["model.layers.1.mlp.down_proj"]
    gram = found.gram("model.layers.1.mlp.down_proj.weight")
    np.testing.assert_allclose(gram, rows.T @ rows / len(rows), atol=2e-2 * np.abs(gram).max())
    few = collected(folder, tmp_path / "few", Collecting(rows=5))
    assert np.linalg.matrix_rank(few.gram("model.layers.1.mlp.down_proj.weight")) == 5


def test_a_factor_and_the_rest_keep_the_strongest_directions_and_the_diagonal(tmp_path: Path) -> None:
    folder = saved("llama", tmp_path / "model")
    whole = collected(folder, tmp_path / "whole").gram("model.layers.1.mlp.up_proj.weight")
    short = collected(folder, tmp_path / "short", Collecting(rank=3)).gram("model.layers.1.mlp.up_proj.weight")
    np.testing.assert_allclose(np.diag(short), np.diag(whole), rtol=1e-5)
    values, vectors = np.linalg.eigh(whole)
    strongest = (vectors[:, -3:] * values[-3:]) @ vectors[:, -3:].T
    beside = ~np.eye(len(whole), dtype=bool)
    np.testing.assert_allclose(short[beside], strongest[beside], atol=1e-5)


def test_the_same_text_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = saved("llama", tmp_path / "model")
    for name in ("one", "two"):
        collected(folder, tmp_path / name)
    first, second = ((tmp_path / name / "statistics.safetensors").read_bytes() for name in ("one", "two"))
    assert first == second


def test_what_is_not_to_be_kept_is_not_there(tmp_path: Path) -> None:
    found = collected(saved("llama", tmp_path / "model"), tmp_path / "out", Collecting(keep=("mean_abs",)))
    assert found.has("mean_abs", "model.layers.0.mlp.up_proj.weight")
    assert not found.has("gram", "model.layers.0.mlp.up_proj.weight")
    assert not found.has("mean_abs", "model.embed_tokens.weight")


def test_numbers_that_are_not_finite_name_the_block_and_leave_nothing(tmp_path: Path) -> None:
    folder = saved("llama", tmp_path / "model")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    model.save_pretrained(folder)
    with pytest.raises(CheckpointError, match="block 1"):
        collected(folder, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_text_of_too_few_positions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="256 at least"):
        collected(saved("llama", tmp_path / "model"), tmp_path / "out", words=text(documents=3))


def test_an_output_that_exists_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(RecipeError, match="exists already") as raised:
        collected(saved("llama", tmp_path / "model"), tmp_path / "out")
    assert raised.value.hint == "name another"


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (Collecting(keep=("grams",)), "cannot keep 'grams'"),  # type: ignore[arg-type]  # as somebody types it
        (Collecting(keep=()), "nothing is to be kept"),
        (Collecting(rows=4, rank=4), "give one"),
        (Collecting(keep=("mean",), rows=4), "not to be kept"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(how: Collecting, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        how.check()


def test_the_record_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    found = collected(saved("llama", tmp_path / "model"), tmp_path / "out")
    content = json.loads((tmp_path / "out" / "statistics.json").read_text())
    assert content["schema"] == 1
    assert content["text"]["counted"] == text().counted("all")
    assert found.record == Record.model_validate(content)
