"""Archives made to write elsewhere, to exhaust, to hide or to collide: each is one SubmissionError, soon."""

import gzip
import io
import json
import tarfile
import time
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuvee.errors import SubmissionError
from cuvee.submission.archive import BLOCK, DEFAULT, Limits, parse_archive, write_archive
from cuvee.submission.claim import read_claim
from cuvee.submission.lock import read_lock
from cuvee.submission.pack import LOCK, MANIFEST, RECIPE, make_archive, read_archive, strict_json

HONEST = {RECIPE: b"merge_method: linear\n", LOCK: b"{}\n"}


def refused(data: bytes, limits: Limits = DEFAULT) -> str:
    started = time.process_time()
    with pytest.raises(SubmissionError) as caught:
        parse_archive(io.BytesIO(data), "a.tar", limits)
    assert time.process_time() - started < 5
    message = str(caught.value)
    assert len(message) < 500
    assert message.isprintable() or "\n  hint" in message
    return message


def tar(*entries: tuple[tarfile.TarInfo, bytes], **options: int) -> bytes:
    """Write a tar as anybody can."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=options.get("format", tarfile.USTAR_FORMAT)) as archive:
        for entry, data in entries:
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return written.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


def file(name: str, data: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    return entry(name), data


def test_what_tar_writes_is_read() -> None:
    plain = tar(file("a/b.txt", b"one"), (entry("c", tarfile.DIRTYPE), b""), file("c/d", b""))
    assert parse_archive(io.BytesIO(plain), "a.tar") == {"a/b.txt": b"one", "c/d": b""}
    assert parse_archive(io.BytesIO(gzip.compress(plain)), "a.tar") == {"a/b.txt": b"one", "c/d": b""}


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "/etc/passwd", "//x", "a//b", "./x", "a/./b", ".", "..", "a\\..\\b", "C:x", "c:\\x", "a\nb",
     "a\x1b[2Jb", "\u202ea", " a", "a ", "a.", "a/ b", "e\u0301", "/".join("a" * 11), "b/" * 60 + "b"],
)  # fmt: skip
def test_names_stay_inside_and_are_plain(name: str) -> None:
    message = refused(tar((entry(name), b"x"), format=tarfile.USTAR_FORMAT))
    assert "not a plain one" in message or "too long or too deep" in message


@pytest.mark.parametrize(
    ("kind", "what"),
    [(tarfile.SYMTYPE, "symbolic link"), (tarfile.LNKTYPE, "hard link"), (tarfile.CHRTYPE, "device"),
     (tarfile.BLKTYPE, "device"), (tarfile.FIFOTYPE, "pipe"), (b"S", "sparse"), (b"7", "neither file nor folder")],
)  # fmt: skip
def test_links_and_devices_are_refused_even_inside(kind: bytes, what: str) -> None:
    made = entry("a", kind, "b")
    header = made.tobuf(tarfile.USTAR_FORMAT)
    assert what in refused(tar(file("b")).rstrip(b"\0").ljust(2 * BLOCK, b"\0") + header + bytes(2 * BLOCK))


def test_a_file_that_names_a_link_is_refused() -> None:
    made = entry("a")
    made.linkname = "/etc/passwd"
    assert "links elsewhere" in refused(tar((made, b"x")))


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        ("a", "a", "there twice"),
        ("README", "readme", "one name to some"),
        ("stra\u00dfe", "STRASSE", "one name to some"),
        ("\ufb01le", "file", "one name to some"),
        ("A/x", "a/y", "one name to some"),
        ("a", "a/b", "both a file and a folder"),
        ("a/b", "a", "both a file and a folder"),
    ],
)
def test_names_do_not_collide(first: str, second: str, what: str) -> None:
    assert what in refused(tar(file(first), file(second)))


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_extended_headers_are_refused(form: int) -> None:
    assert "header" in refused(tar(file("x" * 150), format=form)) or form == tarfile.GNU_FORMAT
    assert refused(tar(file("x" * 150), format=form))


def test_pax_cannot_give_a_file_another_name_or_size() -> None:
    made = entry("innocent")
    made.pax_headers = {"path": "../../elsewhere", "size": "9999999999"}
    assert "extended header" in refused(tar((made, b"x"), format=tarfile.PAX_FORMAT))


def test_a_bomb_is_refused_while_it_is_unpacked() -> None:
    bomb = gzip.compress(tar(file("a", bytes(60 << 20))))
    assert len(bomb) < 100_000
    assert "more than 16777216 in all" in refused(bomb)
    nested = gzip.compress(tar(*(file(f"f{i}", bytes(1 << 20)) for i in range(15))))
    assert "times its size" in refused(nested)


def test_the_whole_may_not_be_larger_than_the_limit() -> None:
    noise = bytes(range(256)) * 4096
    limits = Limits(total_bytes=3 << 20, ratio=10**9)
    assert "bytes unpacked" in refused(tar(*(file(f"f{i}", noise) for i in range(20))), limits)


def test_a_million_tiny_files_are_not_read_to_their_end() -> None:
    headers = (entry(str(number)).tobuf(tarfile.USTAR_FORMAT) for number in range(1_000_000))

    class Endless(io.RawIOBase):
        given = 0
        rest = b""

        def read(self, size: int = -1) -> bytes:
            while len(self.rest) < size:
                self.rest += next(headers)
            piece, self.rest = self.rest[:size], self.rest[size:]
            self.given += size
            return piece

    endless = Endless()
    with pytest.raises(SubmissionError, match="more than 500 files"):
        parse_archive(endless, "a.tar")  # type: ignore[arg-type]  # it can be read, which is all that is asked
    assert endless.given < 1 << 20


def test_a_size_beyond_the_archive_is_refused_before_it_is_read() -> None:
    made = entry("a")
    made.size = 8**11 - 1
    assert "more than 16777216 in all" in refused(made.tobuf(tarfile.USTAR_FORMAT))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-BLOCK],
        lambda data: data[:700],
        lambda data: data[: 3 * BLOCK],
        lambda data: data + b"x",
        lambda data: data + bytes(BLOCK - 1) + b"x",
        lambda data: data + data,
        lambda data: data + bytes(100 * BLOCK),
        lambda data: data[:100] + b"\x01" + data[101:],
        lambda data: data[:148] + b"9999999\0" + data[156:],
        lambda data: data[:124] + b"\x80" + bytes(11) + data[136:],
        lambda data: b"",
        lambda data: b"\x1f\x8b",
        lambda data: gzip.compress(data)[:-9],
        lambda data: gzip.compress(data) + b"more",
        lambda data: gzip.compress(data) + gzip.compress(b"more"),
        lambda data: b"PK\x03\x04" + data,
        lambda data: bytes(10 * BLOCK),
    ],
)
def test_a_damaged_archive_is_refused(spoil: Callable[[bytes], bytes]) -> None:
    assert refused(spoil(write_archive({"a": b"x" * 600, "b": b"y"})))


def test_a_zip_is_no_archive_of_ours() -> None:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("../x", bytes(1000))
    assert "no archive of a submission" in refused(written.getvalue().ljust(BLOCK, b"\0"))


@given(st.binary(max_size=2000))
def test_noise_raises_nothing_else(noise: bytes) -> None:
    refused(noise)


@given(st.integers(0, 2047), st.integers(0, 255))
def test_a_changed_byte_is_noticed_or_is_in_a_content(place: int, value: int) -> None:
    data = bytearray(write_archive({"a": b"x" * 100}))
    data[place] = value
    try:
        found = parse_archive(io.BytesIO(bytes(data)), "a.tar")
    except SubmissionError:
        return
    assert list(found) == ["a"]
    assert len(found["a"]) == 100


names = st.text("abcXYZ0-_é", min_size=1, max_size=8)


@given(st.dictionaries(names, st.binary(max_size=1500), min_size=1, max_size=6))
def test_archives_come_back_and_are_the_same_for_the_same_content(files: dict[str, bytes]) -> None:
    unique = {unicodedata.normalize("NFC", name).casefold(): data for name, data in files.items()}
    once = write_archive(unique)
    assert parse_archive(io.BytesIO(once), "a.tar") == unique
    assert write_archive(dict(reversed(unique.items()))) == once


def write(folder: Path, data: bytes) -> Path:
    path = folder / "a.tar"
    path.write_bytes(data)
    return path


def test_a_submission_comes_back(tmp_path: Path) -> None:
    data = make_archive("mine", "recipe", "family", HONEST)
    found = read_archive(write(tmp_path, data))
    assert (found.name, found.tier, found.recipe_text) == ("mine", "recipe", "merge_method: linear\n")
    assert len(found.digest) == 64
    assert make_archive("mine", "recipe", "family", dict(reversed(HONEST.items()))) == data


def test_the_digest_is_of_everything(tmp_path: Path) -> None:
    digests = {
        read_archive(write(tmp_path, make_archive(name, "recipe", "family", {**HONEST, RECIPE: recipe}))).digest
        for name in ("a", "b")
        for recipe in (b"x: 1\n", b"x: 2\n")
    }
    assert len(digests) == 4


MANIFESTS = {
    "not listed": {**HONEST, "notes.md": b"x"},
    "missing": {RECIPE: HONEST[RECIPE]},
    "is not what": {**HONEST, RECIPE: b"merge_method: slerp\n"},
}


@pytest.mark.parametrize("what", list(MANIFESTS))
def test_every_file_is_what_the_manifest_says(tmp_path: Path, what: str) -> None:
    manifest = _files(make_archive("mine", "recipe", "family", HONEST))[MANIFEST]
    with pytest.raises(SubmissionError, match=what):
        read_archive(write(tmp_path, write_archive({**MANIFESTS[what], MANIFEST: manifest})))


@pytest.mark.parametrize(
    ("tier", "files", "what"),
    [
        ("recipe", {**HONEST, "method/mine.py": b""}, "does not belong"),
        ("plugin", HONEST, "expected one file in method/, found 0"),
        ("plugin", {**HONEST, "method/a.py": b"", "method/b.py": b""}, "found 2"),
        ("plugin", {**HONEST, "method/deep/a.py": b""}, "does not belong"),
        ("plugin", {**HONEST, "method/a.so": b""}, "does not belong"),
        ("recipe", {RECIPE: b""}, "there is no lock.json"),
        ("recipe", {LOCK: b"{}"}, "there is no recipe.yaml"),
    ],
)
def test_a_tier_has_its_files_and_no_others(tier: str, files: dict[str, bytes], what: str) -> None:
    with pytest.raises(SubmissionError, match=what):
        make_archive("mine", tier, "family", files)  # type: ignore[arg-type]  # one of the tiers


@pytest.mark.parametrize(
    "change",
    [{"name": ""}, {"name": "x" * 101}, {"name": "a\x1bb"}, {"name": " a"}, {"tier": "all"}, {"competition": "../x"},
     {"files": []}, {"more": 1}, {"format": 99}, {"format": "1"}],
)  # fmt: skip
def test_a_manifest_is_read_strictly(tmp_path: Path, change: dict[str, object]) -> None:
    files = _files(make_archive("mine", "recipe", "family", HONEST))
    changed = json.loads(files[MANIFEST]) | change
    files[MANIFEST] = json.dumps(changed, indent=1, sort_keys=True).encode() + b"\n"
    with pytest.raises(SubmissionError):
        read_archive(write(tmp_path, write_archive(files)))


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 2}', '{"a": NaN}', "[" * 100_000, '{"a":' * 100_000, "[" * 30 + "]" * 30, "{", "\xff", ""]
)
def test_json_is_read_strictly(text: str) -> None:
    with pytest.raises(SubmissionError):
        strict_json(text.encode("latin-1"), "x.json")


MODEL = {"reference": "org/m", "files": {"a": {"size": 1, "sha256": "0" * 64}}, "hub": "org/m", "commit": "0" * 40}
WHOLE = {
    "recipe": "0" * 64, "merge_method": "linear", "method": None, "code": "0" * 64, "cuvee": "1", "tasks": {},
    "models": [MODEL],
}  # fmt: skip


def test_a_lock_is_read() -> None:
    assert read_lock(WHOLE, LOCK).models[0].reference == "org/m"


@pytest.mark.parametrize(
    "change",
    [
        {"hub": "../m"}, {"hub": "org/../m"}, {"hub": "org/m\n"}, {"commit": "main"}, {"commit": "0" * 39},
        {"files": {"../a": {"size": 1, "sha256": "0" * 64}}}, {"files": {"a": {"size": -1, "sha256": "0" * 64}}},
        {"files": {"a": {"size": 1, "sha256": "x"}}}, {"files": {"a": {"size": 1}}}, {"path": "/"}, {"reference": ""},
        {"reference": 1},
    ],
)  # fmt: skip
def test_a_lock_is_read_strictly(change: dict[str, object]) -> None:
    with pytest.raises(SubmissionError):
        read_lock({**WHOLE, "models": [{**MODEL, **change}]}, LOCK)


@pytest.mark.parametrize("models", [[MODEL, MODEL], [{**MODEL, "reference": f"org/{i}"} for i in range(300)]])
def test_a_lock_has_no_model_twice_and_not_too_many(models: list[object]) -> None:
    with pytest.raises(SubmissionError):
        read_lock({**WHOLE, "models": models}, LOCK)


@pytest.mark.parametrize(
    "claim",
    [{"scores": {"a": float("nan")}}, {"scores": {"a": "high"}}, {"sketches": {"t": {"length": 1.0, "sums": []}}},
     {"winner": True}, []],
)  # fmt: skip
def test_a_claim_is_read_strictly(claim: object) -> None:
    with pytest.raises(SubmissionError):
        read_claim(claim, "claim.json")


def _files(archive: bytes) -> dict[str, bytes]:
    return parse_archive(io.BytesIO(archive), "a.tar")
