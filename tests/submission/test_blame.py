"""Whose fault a failure is: what a job says and leaves can be anything, and never makes it ours."""

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cuvee.hub import Hub
from cuvee.submission.assemble import Entry, pack_entry
from cuvee.submission.cleaned import cleaned
from cuvee.submission.competition import Competition, Tier
from cuvee.submission.control import whole_model
from cuvee.submission.facts import CONFIGS
from cuvee.submission.judge import judge
from cuvee.submission.measure import load_parts
from cuvee.submission.pack import LOCK, make_archive, read_archive
from cuvee.submission.removal import remove_tree
from cuvee.submission.sandbox import Limits
from cuvee.submission.sandbox.bubblewrap import NOBODY, give
from cuvee.submission.sandbox.protocol import Ended, Hear, Job
from cuvee.submission.verdict import Verdict
from submission.conftest import AVERAGE, packed
from submission.scripted import FAULTS, Fault, Scripted, Spoil

Archives = dict[Tier, Path]


@pytest.fixture(scope="module")
def archives(competition: Competition, tmp_path_factory: pytest.TempPathFactory) -> Archives:
    """A submission of our code alone, and one that brings a program."""
    folder = tmp_path_factory.mktemp("packed")
    program = folder / "program"
    program.mkdir()
    (program / "main.py").write_text("the script of the sandbox says what it does")
    entry = Entry(program=program, models=(str(competition.folder / "models/sort"),))
    (folder / "program.tar").write_bytes(pack_entry(entry, competition, name="mine", hub=Hub(offline=True)))
    return {"recipe": packed(folder, competition, AVERAGE), "program": folder / "program.tar"}


@pytest.fixture
def judged(competition: Competition, archives: Archives, tmp_path: Path) -> Callable[..., Verdict]:
    """Judge an archive in a scripted sandbox, in a folder of its own each time."""
    for_all = replace(competition, rules=replace(competition.rules, tiers=("recipe", "program")))

    def run(tier: Tier = "recipe", *, hides: bool = True, **script: Any) -> Verdict:
        number = sum(1 for _ in tmp_path.iterdir())
        sandbox = Scripted(competition.folder / "models/sort", **script)
        workdir = tmp_path / str(number)
        private = competition.folder if hides else None
        verdict = judge(archives[tier], for_all, workdir, sandbox=sandbox, private_items=private)
        remove_tree(workdir)
        sent = json.dumps(verdict.to_json(), ensure_ascii=False).encode()
        assert Verdict.from_json(json.loads(sent)) == verdict, "what is sent is what was found"
        return verdict

    return run


def test_sound_jobs_are_accepted(judged: Callable[..., Verdict]) -> None:
    assert judged().outcome == "accepted"


@pytest.mark.parametrize("kind", ["merge", "evaluation"])
def test_our_code_that_fails_where_a_parent_passes_is_for_the_organiser(
    kind: str, judged: Callable[..., Verdict]
) -> None:
    verdict = judged(codes={kind: 1}, hides=False)
    assert (verdict.outcome, verdict.reason) == ("quarantined", "crash")
    assert "a model of the competition is judged here without fault" in verdict.message
    assert verdict.log == "the end of a log"
    assert verdict.costs_quota


@pytest.mark.parametrize("kind", ["merge", "evaluation"])
def test_a_program_and_what_it_leaves_crash_at_its_own_cost(kind: str, judged: Callable[..., Verdict]) -> None:
    verdict = judged("program", codes={kind: 1}, hides=False)
    assert (verdict.outcome, verdict.reason) == ("rejected", "crash")
    assert verdict.log == "the end of a log"


@pytest.mark.parametrize("tier", ["recipe", "program"])
def test_this_process_failing_over_what_a_job_left_is_for_the_organiser(
    tier: Tier, judged: Callable[..., Verdict]
) -> None:
    def unexpected(folder: Path) -> None:
        raise TypeError("an int where a list was expected")

    verdict = judged(tier, spoil_model=unexpected, hides=False)
    assert (verdict.outcome, verdict.reason) == ("quarantined", "crash")
    assert "TypeError: an int where a list was expected" in verdict.message


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if "otherwise" not in fault])
def test_a_machine_that_fails_blames_nobody(fault: Fault, judged: Callable[..., Verdict]) -> None:
    verdict = judged(fault=fault)
    assert (verdict.outcome, verdict.reason) == ("errored", "infrastructure")
    assert not verdict.costs_quota


def test_what_our_code_says_of_a_submission_counts_where_a_parent_passes(judged: Callable[..., Verdict]) -> None:
    verdict = judged(codes={"evaluation": 3}, lines=(json.dumps({"error": "no tokenizer"}).encode(),))
    assert (verdict.outcome, verdict.reason) == ("rejected", "recipe")


def test_code_of_a_participant_says_nothing_of_what_was_read_to_tune(judged: Callable[..., Verdict]) -> None:
    verdict = judged("program", lines=(json.dumps({"tokens": {"a text": 10**4000}}).encode(),))
    assert verdict.outcome == "accepted"
    assert verdict.figures is not None
    assert verdict.figures.tuning is None


def test_words_of_a_lock_can_be_kept_by_every_database(
    competition: Competition, archives: Archives, tmp_path: Path
) -> None:
    files = dict(read_archive(archives["program"]).files)
    lock = json.loads(files[LOCK])
    lock["models"][0]["reference"] = "a\0model\x1b[2J"
    lock["merge_method"] = "pro\0gram"
    (tmp_path / "odd.tar").write_bytes(
        make_archive("odd", "program", competition.name, {**files, LOCK: json.dumps(lock).encode()})
    )
    verdict = judge(tmp_path / "odd.tar", competition, tmp_path / "work")
    assert (verdict.outcome, verdict.reason) == ("rejected", "rules")
    assert verdict.evidence is not None
    assert verdict.evidence.models[0].reference == "amodel[2J"
    assert "\\u00" not in json.dumps(verdict.to_json())


SECRET = "Odd: which of these nobody has seen?"


@pytest.mark.parametrize(("tier", "code"), [("recipe", 3), ("recipe", 1), ("recipe", 75), ("program", 1)])
def test_a_failure_over_hidden_items_does_not_repeat_them(
    tier: Tier, code: int, judged: Callable[..., Verdict], caplog: pytest.LogCaptureFixture
) -> None:
    line = json.dumps({"error": f"the chat template fails: {SECRET}\nmemory"}).encode()
    verdict = judged(tier, codes={"evaluation": code}, lines=(line,))
    assert "`cuvee submission verify` asks the public items at home" in verdict.message
    assert SECRET not in json.dumps(verdict.to_json())
    assert verdict.log == ""
    assert SECRET in caplog.text
    assert "memory\\n" not in caplog.text
    assert len(caplog.text.splitlines()) == len(caplog.records)


def test_this_process_failing_over_hidden_items_does_not_repeat_them(
    judged: Callable[..., Verdict], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ValueError(f"cannot score {SECRET}")

    monkeypatch.setattr("cuvee.submission.judge.measure", broken)
    verdict = judged()
    assert verdict.outcome == "quarantined"
    assert SECRET not in json.dumps(verdict.to_json())
    assert "ValueError" in verdict.message
    assert SECRET in caplog.text


def test_a_hidden_task_that_cannot_be_read_is_not_quoted(
    competition: Competition, archives: Archives, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "private" / "tasks").mkdir(parents=True)
    (tmp_path / "private" / "tasks" / "odd.yaml").write_text(SECRET)
    sandbox = Scripted(competition.folder / "models/sort")
    verdict = judge(archives["recipe"], competition, tmp_path / "work", sandbox=sandbox, private_items=tmp_path)
    assert verdict.outcome == "errored"
    assert str(tmp_path) not in verdict.message
    assert SECRET not in verdict.message
    assert "private" in caplog.text


def test_the_control_is_a_whole_model_and_no_adapter(competition: Competition, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    first = replace(competition.models[0], folder=str(adapter))
    assert whole_model(replace(competition, models=(first,))) is None
    assert whole_model(replace(competition, models=())) is None
    assert whole_model(replace(competition, models=(first, *competition.models[1:]))) == competition.models[1]


def test_a_file_name_that_is_no_text_is_rejected_and_can_be_told(judged: Callable[..., Verdict]) -> None:
    def spoil(folder: Path) -> None:
        os.symlink("/", os.fsencode(folder / "model") + b"/\xff\xfe")

    verdict = judged("program", spoil_model=spoil)
    assert verdict.outcome == "rejected"


def with_a_hole(name: str, size: int) -> Spoil:
    """Make a file that says it is large and takes no room."""

    def spoil(out: Path) -> None:
        with (out / "model" / name).open("ab") as file:
            file.truncate(size)

    return spoil


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("config.json", 100 << 20, "output"),
        ("tokenizer.json", 200 << 20, "output"),
        ("model-00009.safetensors", 1 << 40, "disk"),
    ],
)
def test_files_with_holes_are_not_read(name: str, size: int, reason: str, judged: Callable[..., Verdict]) -> None:
    verdict = judged(spoil_model=with_a_hole(name, size))
    assert (verdict.outcome, verdict.reason) == ("rejected", reason)


@pytest.mark.parametrize(
    "line",
    [b'{"warnings": 5}', b'{"error": "a\\u0000b"}', b'{"start": "a", "total": 9, "unit": "b"}\n{"note": "\\ud800"}'],
    ids=["a number for a list", "a zero byte", "half a character"],
)
@pytest.mark.parametrize("tier", ["recipe", "program"])
def test_odd_words_of_a_job_that_went_well_change_nothing(
    tier: Tier, line: bytes, judged: Callable[..., Verdict]
) -> None:
    assert judged(tier, lines=tuple(line.split(b"\n"))).outcome == "accepted"


@pytest.mark.parametrize("tier", ["recipe", "program"])
@pytest.mark.parametrize("name", ["config.json", *CONFIGS])
def test_no_config_of_an_output_may_ask_for_code(name: str, tier: Tier, judged: Callable[..., Verdict]) -> None:
    def spoil(out: Path) -> None:
        file = out / "model" / name
        content = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps({**content, "auto_map": {"AutoTokenizer": ["own.Reader", None]}}))

    verdict = judged(tier, spoil_model=spoil)
    assert (verdict.outcome, verdict.reason) == ("rejected", "output")
    assert verdict.message == f"the model brings code: {name}: auto_map"


JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("\ud800\x00\x1b["),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
SAYINGS = st.dictionaries(
    st.sampled_from(["error", "warnings", "tokens", "code", "start", "advance", "note", "finish", "total", "unit"]),
    JUNK,
).map(lambda said: json.dumps(said).encode())
LINES = st.lists(st.binary(max_size=20) | SAYINGS, max_size=4).map(tuple)
MODEL_FILES = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json")
BYTES = st.binary(max_size=40) | JUNK.map(lambda junk: json.dumps(junk).encode())


def overwrites(files: tuple[str, ...], folder: str) -> st.SearchStrategy[Spoil]:
    """Draw what writes junk over a file, removes it, or puts a folder or a link in its place."""

    def made(file: str, way: str, data: bytes) -> Spoil:
        def spoil(out: Path) -> None:
            path = out / folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            if way != "append":
                path.unlink(missing_ok=True)
            if way == "folder":
                path.mkdir()
            elif way == "link":
                path.symlink_to("/etc/passwd")
            elif way != "remove":
                with path.open("ab") as file_:
                    file_.write(data)

        return spoil

    return st.builds(
        made, st.sampled_from(files), st.sampled_from(["write", "append", "remove", "folder", "link"]), BYTES
    )


ANSWER_FILES = tuple(f"{part}.{name}.jsonl" for part in ("public", "private") for name in ("odd", "sort"))


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    tier=st.sampled_from(["recipe", "program"]),
    lines=LINES,
    spoil_model=st.just(lambda folder: None) | overwrites(MODEL_FILES, "model"),
    spoil_answers=st.just(lambda folder: None) | overwrites(ANSWER_FILES, "answers/samples"),
    codes=st.dictionaries(st.sampled_from(["merge", "evaluation"]), st.sampled_from([0, 1, 2, 3, 70, 75, -9])),
)
def test_whatever_a_job_says_and_leaves_no_run_is_our_failure(
    judged: Callable[..., Verdict],
    tier: Tier,
    lines: Any,
    spoil_model: Spoil,
    spoil_answers: Spoil,
    codes: dict[str, int],
) -> None:
    verdict = judged(tier, lines=lines, spoil_model=spoil_model, spoil_answers=spoil_answers, codes=codes)
    assert verdict.outcome in ("accepted", "rejected", "quarantined"), verdict.message
    assert verdict.costs_quota


@given(st.text() | st.text(st.characters(categories=["Cs", "Cc", "L"])))
def test_cleaned_text_can_be_sent_and_shown(text: str) -> None:
    clean = cleaned(text, 10)
    assert len(clean) <= 10
    clean.encode()
    assert all(character.isprintable() or character in "\n\t" for character in clean)
    assert cleaned(clean, 10) == clean


def test_a_folder_of_any_depth_is_removed_and_links_are_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("stays")
    top = tmp_path / "top"
    top.mkdir()
    (top / "link").symlink_to(kept)
    inner = os.open(top, os.O_RDONLY)
    for level in range(3000):
        os.mkdir("d" * 200, dir_fd=inner)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=inner)
        os.close(inner)
        inner = below
        if level % 500 == 0:
            os.close(os.open("file", os.O_CREAT, dir_fd=inner))
    os.close(inner)
    remove_tree(top)
    assert not top.exists()
    assert (kept / "file").read_text() == "stays"


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="the system has no such rights")
def test_a_folder_that_its_owner_cannot_read_is_removed_by_a_worker_that_is_not_root() -> None:
    top = Path(tempfile.mkdtemp())  # where anybody can walk to
    (top / "closed" / "inner").mkdir(parents=True)
    (top / "closed" / "inner" / "file").write_bytes(b"x" * 4096)
    for folder in (top / "closed" / "inner", top / "closed"):
        folder.chmod(0o300)
    user = os.geteuid()
    if user == 0:
        give(top, NOBODY)
        os.seteuid(NOBODY)
    try:
        remove_tree(top / "closed")
        assert list(top.iterdir()) == []
    finally:
        os.seteuid(user)
    top.rmdir()


def test_a_job_that_merges_is_shown_no_question(competition: Competition, archives: Archives, tmp_path: Path) -> None:
    shown: dict[str, bytes] = {}

    @dataclass
    class Looking(Scripted):
        def run(self, job: Job, limits: Limits, hear: Hear) -> Ended:
            files = [file for place in job.readable for file in (place, *place.rglob("*")) if file.is_file()]
            shown.setdefault(job.writable.name, b"".join(file.read_bytes() for file in files))
            return super().run(job, limits, hear)

    for_all = replace(competition, rules=replace(competition.rules, tiers=("recipe", "program")))
    sandbox = Looking(competition.folder / "models/sort")
    private = competition.folder
    verdict = judge(archives["program"], for_all, tmp_path / "work", sandbox=sandbox, private_items=private)
    assert verdict.outcome == "accepted"
    parts = load_parts(competition, private)
    questions = [sample.input.encode() for task in parts.asked().values() for sample in task.samples]
    assert len(questions) > 20
    assert all(json.dumps(question.decode()).encode() in shown["evaluation"] for question in questions)
    assert not any(question in shown["merge"] for question in questions)


def test_a_limit_of_the_budget_stays_what_it_is(judged: Callable[..., Verdict]) -> None:
    lines = (json.dumps({"error": "the buffers take more memory"}).encode(),)
    verdict = judged(lines=lines, codes={"merge": 75})
    assert (verdict.outcome, verdict.reason) == ("rejected", "memory")
    assert replace(verdict, message="").costs_quota
