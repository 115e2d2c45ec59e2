"""Files that appear whole or not at all."""

import threading
from pathlib import Path

import pytest

from cuvee.documents.whole import replacing, write_whole


def test_a_file_is_replaced_and_nothing_else_stays(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.json", "old")
    write_whole(tmp_path / "a.json", "new\r\n")
    assert (tmp_path / "a.json").read_bytes() == b"new\r\n"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_a_writer_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.json", "old")

    def fail() -> None:
        with replacing(tmp_path / "a.json") as partial:
            partial.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (tmp_path / "a.json").read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_writers_at_once_never_mix(tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def write(letter: str) -> None:
        together.wait()
        for _ in range(20):
            write_whole(tmp_path / "a", letter * 10_000)

    writers = [threading.Thread(target=write, args=(letter,)) for letter in "abcdefgh"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    text = (tmp_path / "a").read_text()
    assert text == text[0] * 10_000
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
