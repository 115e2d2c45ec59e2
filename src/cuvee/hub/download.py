"""Brings files of a model into the cache of `huggingface_hub`, with progress; a stopped download goes on where it was.

The client library itself begins a file anew in every process. So large files are first brought by its `http_get`, which
can resume, to where its cache keeps them; then `hf_hub_download` finds them there.
"""

import hashlib
import os
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from cuvee.amounts import bytes_text
from cuvee.errors import CheckpointError, OutOfBudget
from cuvee.hub.access import Hub
from cuvee.hub.repository import Repository, storage
from cuvee.progress import Progress, Silent

CONNECTIONS = 4
CHUNK_BYTES = 1 << 20
MOST_SMALL_BYTES = 128 << 20
"""Of a config, an index or a vocabulary, which are read whole; those of known models have at most a third of it."""


class _StoppedError(Exception):
    """Another download has failed, or the person has had enough."""


def missing_bytes(repository: Repository, names: Iterable[str]) -> int:
    """Return how much of these files is still to be downloaded; parts of a stopped download count as arrived."""
    return sum(_missing(repository, name) for name in repository.files.keys() & set(names))


def _missing(repository: Repository, name: str) -> int:
    if repository.has(name):
        return 0
    file, partial = repository.files[name], _partial(repository, name)
    arrived = 0
    if file.sha256 and partial.exists():
        arrived = partial.stat().st_size
    return file.size - arrived


def refuse_small_disk(hub: Hub, needed: int, where: str | None = None) -> None:
    """Raise OutOfBudget if the cache's disk has no room for `needed` bytes."""
    free = hub.free_bytes(hub.cache_folder)
    if needed > free:
        message = f"the downloads take {bytes_text(needed)}, and {hub.cache_folder} has {bytes_text(free)} of room"
        hint = "free some space, or set HF_HOME to a folder on a larger disk"
        raise OutOfBudget(message, where=where, hint=hint)


def cached(hub: Hub, repository: Repository, name: str) -> Path:
    """Return a small file's place in the cache, downloading it if it is not there. Raises CheckpointError."""
    if name in repository.files and repository.files[name].size > MOST_SMALL_BYTES:
        message = f"it has {bytes_text(repository.files[name].size)}; at most {bytes_text(MOST_SMALL_BYTES)} are read"
        raise CheckpointError(message, where=f"{repository.shown}/{name}")
    return _in_place(hub, repository, name)


def _in_place(hub: Hub, repository: Repository, name: str) -> Path:
    from huggingface_hub import constants, hf_hub_download

    _write_ref(hub, repository)
    place = repository.folder / name
    if place.exists():
        return place
    if hub.is_offline:
        raise CheckpointError(f"{name} is not in the cache, and offline", where=repository.shown)
    file = hub.patiently(
        lambda: hf_hub_download(
            repository.name,
            name,
            revision=repository.commit,
            cache_dir=hub.cache_folder,
            endpoint=hub.endpoint,
            etag_timeout=constants.HF_HUB_ETAG_TIMEOUT,
            tqdm_class=_teller(Silent(), threading.Lock(), threading.Event()),
        ),
        f"{repository.shown}/{name}",
    )
    return Path(file)


def download(hub: Hub, repository: Repository, names: Iterable[str], progress: Progress) -> None:
    """Bring these files of a model into the cache. Raises CuveeError; arrived files stay and are not asked again."""
    wanted = sorted({name for name in names if not repository.has(name)})
    if not wanted:
        return
    missing = missing_bytes(repository, wanted)
    refuse_small_disk(hub, missing, repository.shown)
    stop, lock = threading.Event(), threading.Lock()
    teller = _teller(progress, lock, stop)
    progress.start(f"downloading {repository.shown}", missing, "bytes")
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        tasks = [pool.submit(_bring, hub, repository, name, teller) for name in wanted]
        try:
            for number, task in enumerate(as_completed(tasks), 1):
                task.result()
                with lock:
                    progress.note(f"{number} of {len(tasks)} files")
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
    progress.finish()


def _bring(hub: Hub, repository: Repository, name: str, teller: type[Any]) -> None:
    file = repository.files[name]
    if file.sha256 is not None:
        hub.patiently(lambda: _bring_large(hub, repository, name, teller), f"{repository.shown}/{name}")
    _in_place(hub, repository, name)
    if file.sha256 is None:
        teller().update(file.size)


def _bring_large(hub: Hub, repository: Repository, name: str, teller: type[Any]) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    file, partial = repository.files[name], _partial(repository, name)
    blob = storage(hub, repository.name) / "blobs" / file.blob
    if blob.exists():
        return
    partial.parent.mkdir(parents=True, exist_ok=True)
    url = hf_hub_url(repository.name, name, revision=repository.commit, endpoint=hub.endpoint)
    with partial.open("ab") as opened:
        arrived = opened.tell()
        if arrived > file.size:
            opened.truncate(arrived := 0)
        http_get(
            url,
            opened,
            resume_size=arrived,
            headers={**build_hf_headers(), "Accept-Encoding": "identity"},
            expected_size=file.size,
            displayed_filename=name,
            tqdm_class=teller,
        )
    if _sha256(partial) != file.sha256:
        partial.unlink()
        message = "what has arrived is not what the hub says it has: its hash is another"
        raise CheckpointError(message, where=f"{repository.shown}/{name}", hint="try again")
    os.replace(partial, blob)


def _partial(repository: Repository, name: str) -> Path:
    """Return where a file is while it arrives: beside the cache's blobs, named after its content."""
    return repository.folder.parent.parent / "blobs" / f"{repository.files[name].blob}.cuvee-partial"


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _write_ref(hub: Hub, repository: Repository) -> None:
    """Note which commit a branch was, so that it is found offline."""
    if repository.revision == repository.commit or hub.is_offline:
        return
    ref = storage(hub, repository.name) / "refs" / (repository.revision or "main")
    if ref.is_file() and ref.read_text() == repository.commit:
        return
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(repository.commit)


def _teller(progress: Progress, lock: threading.Lock, stop: threading.Event) -> type[Any]:
    """Return a class with the methods of tqdm that the client library needs, which tells `progress` of bytes."""

    class Teller:
        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def __enter__(self) -> "Teller":
            return self

        def __exit__(self, *_: Any) -> None:
            pass

        def update(self, amount: float | None = 1) -> None:
            if stop.is_set():
                raise _StoppedError
            with lock:
                progress.advance(int(amount or 0))

        def close(self) -> None:
            pass

    return Teller
