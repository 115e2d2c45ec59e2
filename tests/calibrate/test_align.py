"""Repairs of the bundled family's merge: how good, how kept when killed, what is refused."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from calibrate.conftest import experts
from cuvee import demo
from cuvee.calibrate.depth_loop import Candidate
from cuvee.calibrate.journal import BlockJournal
from cuvee.calibrate.network import BlockNetwork
from cuvee.calibrate.outcome import MapFit
from cuvee.calibrate.repair import _solved, align
from cuvee.calibrate.settings import Alignment, alignment
from cuvee.checkpoint import open_checkpoint, weights_digest
from cuvee.cli.align import print_aligned
from cuvee.errors import CheckpointError, EvaluationError, OutOfBudget, RecipeError
from cuvee.evaluation import evaluate, load_model, load_task

FEW = alignment(ridge=3e-4)
MOMENTS = 10


def private_macro(folder: Path) -> float:
    tasks = [load_task(f"{name}-private") for name in demo.expert_names()]
    return 100 * evaluate(load_model(folder, device="cpu"), tasks).macro.value


def test_a_hundred_texts_a_skill_bring_the_merge_near_its_experts(blend: Path, tmp_path: Path) -> None:
    """The merge scores 69.5, the best method without data 76.9, the experts on their own skills 94.1."""
    aligned = align(str(blend), tmp_path / "out", experts(128, tmp_path), FEW, threads=2)
    assert aligned.aligned == 28
    assert private_macro(tmp_path / "out") >= 84


def test_eight_texts_a_skill_beat_every_method_without_data(blend: Path, tmp_path: Path) -> None:
    align(str(blend), tmp_path / "out", experts(8, tmp_path), FEW)
    assert private_macro(tmp_path / "out") >= 78


def test_the_ridge_is_chosen_by_held_out_text(blend: Path, tmp_path: Path) -> None:
    names = ["sort", "shift"]
    aligned = align(str(blend), tmp_path / "out", experts(16, tmp_path, names), Alignment(), compares=True)
    solved = {name: value for name, value in aligned.divergences.items() if name != "before"}
    assert aligned.ridge == float(min(solved, key=lambda name: solved[name]))
    assert min(solved.values()) < aligned.divergences["before"]
    for before, after in zip(aligned.before, aligned.blocks, strict=True):
        assert after.distance < before.distance
        assert all(own.after <= own.before + 1e-6 for own in after.maps)


def test_one_expert_with_the_merge_at_its_own_place_is_unchanged(tmp_path: Path) -> None:
    folder = str(demo.model_folder("sort"))
    align(folder, tmp_path / "out", experts(16, tmp_path, ["sort"]), alignment(ridge=0.0))
    with open_checkpoint(Path(folder)) as before, open_checkpoint(tmp_path / "out") as after:
        for name in before.tensors:
            own, other = after.read(name).astype(np.float32), before.read(name).astype(np.float32)
            np.testing.assert_allclose(own, other, atol=2e-2 * np.abs(other).max())


def test_the_bytes_do_not_depend_on_threads_or_memory(blend: Path, tmp_path: Path) -> None:
    digests = set()
    for number, options in enumerate(({"threads": 1}, {"threads": 2}, {"threads": 2, "memory_bytes": 60_000_000})):
        folder = tmp_path / f"out-{number}"
        align(str(blend), folder, experts(8, tmp_path, ["sort", "shift"]), FEW, **options)
        digests.add(weights_digest(folder))
    assert len(digests) == 1


def killed(blend: Path, out: Path, texts: dict[str, str], seconds: float) -> int:
    """Repair in a process of its own, kill it after so long, and return how many blocks it left done."""
    child = os.fork()
    if child == 0:
        align(str(blend), out, texts, FEW)
        os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    journal = out.with_name(f".{out.name}.partial") / "aligned"
    return len(list(journal.glob("block-*.safetensors")))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_repair_killed_at_any_of_ten_moments_goes_on_and_ends_with_the_same_bytes(
    blend: Path, tmp_path: Path
) -> None:
    texts = experts(6, tmp_path, ["sort", "shift"])
    align(str(blend), tmp_path / "whole", texts, FEW)
    started = time.perf_counter()
    align(str(blend), tmp_path / "again", texts, FEW)  # the first one imported what it needs
    seconds = time.perf_counter() - started
    blocks = []
    for number in range(MOMENTS):
        out = tmp_path / f"out-{number}"
        blocks.append(killed(blend, out, texts, seconds * (number + 0.5) / MOMENTS))
        if not out.exists():
            align(str(blend), out, texts, FEW)
            assert not out.with_name(f".{out.name}.partial").exists()
        assert weights_digest(out) == weights_digest(tmp_path / "whole")
    assert any(done > 0 for done in blocks)  # how many each moment finds depends on what else the machine does


def test_a_repair_with_other_settings_starts_anew(blend: Path, tmp_path: Path) -> None:
    texts = experts(8, tmp_path, ["sort", "shift"])
    journal = tmp_path / ".out.partial" / "aligned"
    journal.mkdir(parents=True)
    (journal / "identity.json").write_text("{}")
    (journal / "block-0000-0.0003.safetensors").write_bytes(b"of another repair")
    align(str(blend), tmp_path / "out", texts, FEW)
    assert not journal.exists()


def test_a_repair_as_an_adapter_is_loaded_by_peft(blend: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    texts = experts(8, tmp_path, ["sort", "shift"])
    align(str(blend), tmp_path / "whole", texts, FEW)
    align(str(blend), tmp_path / "adapter", texts, FEW, adapter_rank=160)
    ids = torch.tensor([[5, 9, 3, 7, 11, 2]])
    with torch.no_grad():
        wanted = load_model(tmp_path / "whole", device="cpu").network(input_ids=ids).logits
        before = load_model(blend, device="cpu").network
        found = peft.PeftModel.from_pretrained(before, tmp_path / "adapter").eval()(input_ids=ids).logits
    assert float((found - wanted).abs().max()) < 0.02 * float(wanted.abs().max())


def test_where_it_came_from_is_noted(blend: Path, tmp_path: Path) -> None:
    texts = experts(8, tmp_path, ["sort", "shift"])
    aligned = align(str(blend), tmp_path / "out", texts, FEW)
    record = json.loads((tmp_path / "out" / "cuvee.json").read_text())
    assert record["kind"] == "aligned"
    assert record["align"]["ridge"] == 3e-4
    assert [text["digest"] for text in record["align"]["texts"]] == [text.digest for text in aligned.texts]
    assert {entry["model"] for entry in record["inputs"]} == {str(blend), *texts}


def test_a_nan_in_an_expert_names_the_block(blend: Path, tmp_path: Path) -> None:
    from cuvee.engine import merge

    broken = tmp_path / "broken"
    recipe = tmp_path / "copy.yaml"
    recipe.write_text(f"merge_method: passthrough\nmodels:\n  - model: {demo.model_folder('sort')}\n")
    merge(recipe, broken)
    with open_checkpoint(broken) as source:
        spec = source.tensors["model.layers.2.mlp.down_proj.weight"]
    with (broken / "model.safetensors").open("r+b") as file:
        file.seek(spec.start)
        file.write(b"\xff\x7f" * 8)
    texts = experts(8, tmp_path, ["sort"])
    with pytest.raises(CheckpointError, match="block 2 gives numbers that are not finite"):
        align(str(blend), tmp_path / "out", {str(broken): next(iter(texts.values()))}, FEW)
    assert not (tmp_path / "out").exists()


def changed(model: str, folder: Path, change: Callable[[Any], None]) -> str:
    """Write a bundled expert again with something changed."""
    network = AutoModelForCausalLM.from_pretrained(demo.model_folder(model), dtype=torch.float32)
    with torch.no_grad():
        change(network)
    network.save_pretrained(folder)
    AutoTokenizer.from_pretrained(demo.model_folder(model)).save_pretrained(folder)
    return str(folder)


def down(network: Any) -> torch.Tensor:
    weight: torch.Tensor = network.model.layers[1].mlp.down_proj.weight
    return weight


def test_numbers_that_are_not_finite_are_laid_to_the_model_that_has_them(blend: Path, tmp_path: Path) -> None:
    broken = changed("sort", tmp_path / "broken", lambda network: down(network).fill_(float("inf")))
    text = next(iter(experts(8, tmp_path, ["sort"]).values()))
    blind = alignment(ridge=3e-4, mix=0.0)  # no expert is run
    with pytest.raises(CheckpointError, match=r"'mlp\.down_proj\.weight' of block 1 has numbers") as error:
        align(str(blend), tmp_path / "out", {broken: text}, blind)
    assert error.value.where == broken
    with pytest.raises(CheckpointError, match="block 1 gives numbers that are not finite") as error:
        align(broken, tmp_path / "out", {str(demo.model_folder("sort")): text}, FEW)
    assert error.value.where == broken


def with_more_tokens(network: Any) -> None:
    network.resize_token_embeddings(network.config.vocab_size + 8, mean_resizing=False)


def test_an_expert_with_more_tokens_is_compared_on_those_of_the_merge(blend: Path, tmp_path: Path) -> None:
    text = next(iter(experts(12, tmp_path, ["sort"]).values()))
    larger = changed("sort", tmp_path / "larger", with_more_tokens)
    wide = align(str(blend), tmp_path / "wide", {larger: text}, Alignment())
    plain = align(str(blend), tmp_path / "plain", {str(demo.model_folder("sort")): text}, Alignment())
    assert wide.divergences == pytest.approx(plain.divergences, rel=1e-6)
    assert wide.result.digest == plain.result.digest


def test_an_adapter_says_how_much_of_the_repair_it_keeps(
    blend: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = experts(8, tmp_path, ["sort"])
    kept = []
    for rank in (2, 64):
        aligned = align(str(blend), tmp_path / f"repair-{rank}", texts, FEW, adapter_rank=rank)
        print_aligned(aligned, as_json=False)
        line = next(line for line in capsys.readouterr().err.splitlines() if "energy of the repair" in line)
        kept.append(float(line.split()[3].rstrip("%")))
    assert kept[0] < kept[1]
    assert kept[1] > 99


def test_too_little_memory_is_refused_with_the_figure(blend: Path, tmp_path: Path) -> None:
    with pytest.raises(OutOfBudget, match="and --memory is"):
        align(str(blend), tmp_path / "out", experts(8, tmp_path), FEW, memory_bytes=1_000_000)


def test_settings_out_of_range_are_refused() -> None:
    for settings in ({"mix": 2.0}, {"ridge": -1.0}, {"off_diagonal": 0.5}, {"tokens": 0}, {"inside": "both"}):
        with pytest.raises(RecipeError):
            alignment(**settings)
    with pytest.raises(RecipeError, match="there is no preset"):
        alignment("none")


def test_a_single_document_cannot_choose_the_ridge(blend: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="nothing could be held out"):
        align(str(blend), tmp_path / "out", experts(1, tmp_path, ["sort"]), Alignment())
    assert os.listdir(tmp_path) == ["sort-1.jsonl"]


def test_a_text_of_ten_tokens_is_refused(blend: Path, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("Sort: 3 1\n")
    expert = str(demo.model_folder("sort"))
    with pytest.raises(RecipeError, match="positions that count, expected 12 at least"):
        align(str(blend), tmp_path / "out", {expert: str(tmp_path / "short.txt")}, FEW)


def test_an_expert_with_another_tokenizer_is_refused(blend: Path, tmp_path: Path) -> None:
    import shutil

    other = tmp_path / "other"
    shutil.copytree(demo.model_folder("sort"), other)
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    digits = [word for word in vocabulary if word.strip("Ġ").isdigit()]
    turned = [vocabulary[word] for word in [*digits[1:], digits[0]]]
    vocabulary.update(zip(digits, turned, strict=True))
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    text = next(iter(experts(32, tmp_path, ["sort"]).values()))
    with pytest.raises(CheckpointError, match="other tokenizers"):
        align(str(blend), tmp_path / "out", {str(other): text}, FEW)


def test_few_positions_give_what_their_gram_matrices_give(blend: Path, tmp_path: Path) -> None:
    """Below 160 positions, the width of the family, weights are solved from the positions themselves."""
    texts = experts(4, tmp_path, ["sort", "shift"])
    align(str(blend), tmp_path / "rows", texts, FEW)
    align(str(blend), tmp_path / "grams", texts, FEW, compares=True)
    with open_checkpoint(tmp_path / "rows") as rows, open_checkpoint(tmp_path / "grams") as grams:
        for name in rows.tensors:
            own, other = rows.read(name).astype(np.float32), grams.read(name).astype(np.float32)
            np.testing.assert_allclose(own, other, atol=1e-2 * np.abs(other).max())


def test_blocks_without_any_map_to_solve_stay_the_merges(tmp_path: Path) -> None:
    """In some mixtures whole blocks are routed experts; a model of nothing else cannot be aligned."""
    folder = demo.model_folder("sort")
    network = BlockNetwork(open_checkpoint(folder), folder, "sort", device=torch.device("cpu"))
    journal = BlockJournal(tmp_path / "journal", {})
    for number in range(network.depth):
        journal.write(number, 3e-4, {}, [])
    with pytest.raises(EvaluationError, match="nothing can be aligned"):
        _solved(network, journal, Candidate(3e-4, []))

    name = "mlp.down_proj.weight"
    journal.write(1, 3e-4, {name: network.read(1, name)}, [MapFit(name, None, None, 1.0)])
    assert list(_solved(network, journal, Candidate(3e-4, []))) == [f"model.layers.1.{name}"]
