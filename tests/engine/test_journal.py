"""A journal says what is finished, and never more than that."""

from pathlib import Path

import pytest

from cuvee.engine.journal import Finished, Journal, read_journal
from cuvee.engine.step import Loss
from cuvee.errors import RecipeError

IDENTITY = {"recipe": "r", "inputs": {"a": [1, 2, "h"]}}
DONE = {name: Finished(name * 8, Loss(0.1, 1e300)) for name in ("a", "b", "c")}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    journal = Journal(tmp_path / "folder" / "journal.jsonl")
    journal.begin(IDENTITY)
    for name, done in DONE.items():
        journal.add(name, done)
    journal.close()
    return journal.path


def test_what_was_written_is_read(path: Path) -> None:
    found = read_journal(path)
    assert found.identity == IDENTITY
    assert found.finished == DONE


def test_a_journal_cut_anywhere_says_what_its_whole_lines_say_and_goes_on(path: Path) -> None:
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        journal = Journal(path)
        lines = whole[:cut].count(b"\n")
        assert list(journal.contents.finished) == list(DONE)[: max(lines - 1, 0)]
        assert (journal.contents.identity is None) == (lines == 0)
        if journal.contents.identity is None:
            journal.begin(IDENTITY)
        journal.add("c", DONE["c"])
        journal.close()
        assert read_journal(path).finished["c"] == DONE["c"]


def test_a_damaged_line_and_what_follows_it_do_not_count(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b'{"tensor": 3}\n', *lines[3:]]))
    assert list(read_journal(path).finished) == ["a"]


def test_two_cannot_write_one_journal(path: Path) -> None:
    first = Journal(path)
    with pytest.raises(RecipeError, match="another merge is writing"):
        Journal(path)
    first.close()
    Journal(path).close()


def test_what_is_forgotten_is_not_read_again(path: Path) -> None:
    journal = Journal(path)
    journal.keep_only({"b"})
    assert read_journal(path).finished == {"b": DONE["b"]}
    assert read_journal(path).identity == IDENTITY
    journal.clear()
    journal.close()
    assert read_journal(path).identity is None


def test_a_removed_journal_takes_its_folder_with_it_if_that_is_empty(path: Path) -> None:
    Journal(path).remove()
    assert not path.parent.exists()
