"""A hub on 127.0.0.1: speaks as much of the hub's protocol as models need, counts what it sends, fails when told to."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".gguf")
"""Endings of files that are sent by another host, after a redirect."""


class Content(Protocol):
    """What a file holds."""

    size: int
    sha256: str

    def read(self, start: int, end: int) -> bytes: ...


class Given:
    """A file of these bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.sha256 = hashlib.sha256(data).hexdigest()

    def read(self, start: int, end: int) -> bytes:
        return self.data[start:end]


class Sparse:
    """A file that begins with these bytes and goes on with zeros up to a size."""

    def __init__(self, head: bytes, size: int) -> None:
        self.head = head
        self.size = size
        self.sha256 = hashlib.sha256(head).hexdigest()

    def read(self, start: int, end: int) -> bytes:
        return self.head[start:end].ljust(end - start, b"\0")


@dataclass
class Repo:
    """A model: its files by revision name, and which commit each revision is."""

    files: dict[str, Content]
    commit: str = "c" * 40
    branches: tuple[str, ...] = ("main",)
    listed_size: dict[str, int] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)
    created: str = "2024-01-01T00:00:00.000Z"
    committed: str = "2024-02-01T00:00:00.000Z"
    gated: bool | str = False


@dataclass
class LocalHub:
    """State of the server. `faults` maps a part of a path to what happens once a request has it."""

    repos: dict[str, Repo] = field(default_factory=dict)
    faults: dict[str, Any] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    tokens_at_cdn: list[str] = field(default_factory=list)
    sent: int = 0
    port: int = 0
    objects: dict[str, bytes] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def put(self, name: str, folder: Path, **options: Any) -> Repo:
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        files: dict[str, Content] = {path.relative_to(folder).as_posix(): Given(path.read_bytes()) for path in paths}
        self.repos[name] = Repo(files, **options)
        return self.repos[name]


@contextmanager
def running(hub: LocalHub) -> Iterator[LocalHub]:
    """Serve a hub until the end of the block."""

    class Handler(_Handler):
        state = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: LocalHub

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        hub = self.state
        hub.requests.append(f"{self.command} {path}")
        if self.fails(path):
            return
        parts = path.strip("/").split("/")
        if self.command in ("POST", "PUT"):
            self.receive(path, parts)
        elif parts[:2] == ["api", "models"] and "commits" in parts:
            self.list_commits("/".join(parts[2:4]), parts[5])
        elif parts[:2] == ["api", "models"]:
            self.describe("/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main")
        elif parts[0] == "cdn":
            if token := self.headers.get("Authorization"):
                hub.tokens_at_cdn.append(token)
            self.send_content(self.by_hash(parts[1]))
        elif len(parts) > 4 and parts[2] == "resolve":
            self.resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self.say(404, {"error": "no such page"})

    def fails(self, path: str) -> bool:
        for part, fault in list(self.state.faults.items()):
            if part in path and self.command in ("GET", "HEAD"):
                status, headers, times = fault
                if times == 0:
                    continue
                self.state.faults[part] = (status, headers, times - 1)
                if status == "stall":
                    time.sleep(headers)
                elif status == "break":
                    continue
                else:
                    self.say(status, {"error": "as told"}, headers)
                    return True
        return False

    def repo(self, name: str, revision: str) -> Repo | None:
        repo = self.state.repos.get(name)
        if repo is None:
            self.say(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        elif revision not in (*repo.branches, repo.commit):
            self.say(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
        else:
            return repo
        return None

    def describe(self, name: str, revision: str) -> None:
        repo = self.repo(name, revision)
        if repo is None:
            return
        siblings = []
        for file, content in repo.files.items():
            entry: dict[str, Any] = {"rfilename": file, "size": content.size, "blobId": content.sha256[:40]}
            if file.endswith(LARGE):
                entry["lfs"] = {"sha256": content.sha256, "size": content.size, "pointerSize": 134}
            siblings.append(entry)
        said = {"id": name, "modelId": name, "sha": repo.commit, "siblings": siblings, "tags": [], "gated": repo.gated}
        self.say(200, {**said, "cardData": repo.card, "createdAt": repo.created, "lastModified": repo.committed})

    def list_commits(self, name: str, revision: str) -> None:
        repo = self.repo(name, revision)
        if repo is not None:
            said = {"id": repo.commit, "title": "Upload", "message": "", "date": repo.committed, "authors": []}
            self.say(200, [said])

    def resolve(self, name: str, revision: str, file: str) -> None:
        repo = self.repo(name, revision)
        if repo is None:
            return
        content = repo.files.get(file)
        if content is None:
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": repo.commit}
            self.say(404, {"error": "Entry not found"}, headers)
        elif file.endswith(LARGE):
            where = f"http://localhost:{self.state.port}/cdn/{content.sha256}"
            headers = {"X-Repo-Commit": repo.commit, "X-Linked-Etag": f'"{content.sha256}"', "Location": where}
            self.say(302, None, {**headers, "X-Linked-Size": str(content.size)})
        else:
            self.send_content(content, {"X-Repo-Commit": repo.commit, "ETag": f'"{content.sha256[:40]}"'})

    def by_hash(self, sha256: str) -> Content:
        files = [content for repo in self.state.repos.values() for content in repo.files.values()]
        return next(content for content in files if content.sha256 == sha256)

    def send_content(self, content: Content, headers: dict[str, str] | None = None) -> None:
        asked = self.headers.get("Range")
        start, end = 0, content.size
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), min(content.size, int(last) + 1 if last else content.size)
        self.send_response(206 if asked else 200)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{content.size}")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        if self.command == "GET":
            self.send_body(content, start, end)

    def send_body(self, content: Content, start: int, end: int) -> None:
        limit = self.break_after()
        for first in range(start, end, 1 << 16):
            last = min(first + (1 << 16), end)
            if limit is not None and last - start > limit:
                self.write(content.read(first, start + limit))
                self.close_connection = True
                self.connection.shutdown(2)
                return
            self.write(content.read(first, last))

    def break_after(self) -> int | None:
        for part, (status, amount, times) in list(self.state.faults.items()):
            if status == "break" and part in self.path and times:
                self.state.faults[part] = (status, amount, times - 1)
                return int(amount)
        return None

    def write(self, data: bytes) -> None:
        self.state.sent += len(data)
        try:
            self.wfile.write(data)
        except OSError:
            self.close_connection = True

    def say(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.write(data)

    def receive(self, path: str, parts: list[str]) -> None:
        """Take what is uploaded."""
        hub = self.state
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            hub.repos.setdefault(name, Repo({}))
            self.say(200, {"url": f"{hub.address}/{name}", "name": name})
        elif "preupload" in parts:
            files = json.loads(body)["files"]
            modes = [
                {"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(LARGE) else "regular"} for f in files
            ]
            self.say(200, {"files": [{**mode, "shouldIgnore": False} for mode in modes]})
        elif path.endswith("/info/lfs/objects/batch"):
            self.lfs(json.loads(body)["objects"])
        elif parts[0] == "upload":
            hub.objects[parts[1]] = body
            self.say(200, {})
        elif "commit" in parts:
            self.commit("/".join(parts[2:4]), body)
        else:
            self.say(200, {})

    def lfs(self, objects: list[dict[str, Any]]) -> None:
        address = self.state.address
        given = [
            {**one, "actions": {"upload": {"href": f"{address}/upload/{one['oid']}", "header": {}}}} for one in objects
        ]
        data = json.dumps({"transfer": "basic", "objects": given}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.git-lfs+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.write(data)

    def commit(self, name: str, body: bytes) -> None:
        import base64

        repo = self.state.repos[name]
        for line in body.decode().splitlines():
            said = json.loads(line)
            value = said["value"]
            if said["key"] == "file":
                repo.files[value["path"]] = Given(base64.b64decode(value["content"]))
            elif said["key"] == "lfsFile":
                repo.files[value["path"]] = Given(self.state.objects[value["oid"]])
        repo.commit = hashlib.sha1(body).hexdigest()
        address = f"{self.state.address}/{name}/commit/{repo.commit}"
        self.say(200, {"success": True, "commitOid": repo.commit, "commitUrl": address, "hookOutput": ""})
