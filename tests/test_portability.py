"""Nothing that only Linux has is needed: macOS and Windows lack system calls and whole modules."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cuvee
from cuvee.demo import ROOT as DEMO

PACKAGE = Path(cuvee.__file__).parent

MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "msvcrt", "winreg"}
CALLS = {
    "chown", "copy_file_range", "eventfd", "fchmod", "fchown", "fork", "getegid", "geteuid", "getgid",
    "getloadavg", "getpgid", "getuid", "killpg", "lchown", "major", "memfd_create", "mkfifo", "mknod", "nice",
    "openpty", "pidfd_open", "posix_fadvise", "posix_fallocate", "pread", "preadv", "process_cpu_count",
    "pwrite", "pwritev", "readv", "sched_getaffinity", "sched_setaffinity", "sendfile", "setpriority", "setsid",
    "setuid", "splice", "statvfs", "sync", "sysconf", "times", "uname", "wait4", "waitid", "writev",
}  # fmt: skip
FLAGS = {"O_CLOEXEC", "O_DIRECT", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "O_PATH", "O_SYNC", "O_TMPFILE"}
OTHERS = {"SIGKILL", "SIGALRM", "SIGHUP", "SIGUSR1", "SIGUSR2", "setitimer", "alarm", "st_blocks", "RTLD_DEEPBIND"}

GUARDED = {
    "cores.py": {"sched_getaffinity"},
    "checkpoint/checkpoint.py": {"posix_fadvise"},
    "checkpoint/write.py": {"posix_fallocate"},
    "descriptors.py": {"fcntl", "pread", "preadv", "pwrite", "st_blocks"},
    "submission/cores.py": {"sched_getaffinity", "sched_setaffinity"},
    "submission/hardware.py": {"sysconf"},
    "submission/sandbox/bubblewrap.py": {"chown", "geteuid", "resource"},  # Linux alone has it
    "submission/sandbox/cgroup.py": {"geteuid", "sched_getaffinity"},  # Linux alone has it
    "submission/sandbox/choose.py": {"geteuid"},
    "submission/sandbox/container.py": {"geteuid"},
    "submission/sandbox/filesystem.py": {"geteuid", "statvfs"},
    "submission/sandbox/keeper.py": {"SIGKILL"},
    "submission/sandbox/leftovers.py": {"geteuid"},
    "submission/sandbox/plain.py": {"resource"},
    "submission/sandbox/watched.py": {"SIGKILL", "killpg"},
    "submission/scratch.py": {"geteuid"},
}
"""Where such a name may stand: another way is beside it, which the test below goes."""


def unportable(file: Path) -> Iterator[str]:
    """Yield the names in a file that some system lacks."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES | {"os", "signal"}:
            yield str(node.module)
        elif isinstance(node, ast.Attribute) and node.attr in CALLS | FLAGS | OTHERS and owner(node) != "self":
            yield node.attr


def owner(attribute: ast.Attribute) -> str:
    """Return the name before the dot, if there is only a name."""
    return attribute.value.id if isinstance(attribute.value, ast.Name) else ""


def test_what_a_system_lacks_stands_only_where_there_is_another_way() -> None:
    found = {str(file.relative_to(PACKAGE)): set(unportable(file)) for file in sorted(PACKAGE.rglob("*.py"))}
    assert {name: names for name, names in found.items() if names} == GUARDED


LIKE_WINDOWS = f"""
import importlib, os, pkgutil, signal, sys
import huggingface_hub, multiprocessing.synchronize, numba, pydantic, tempfile, typer  # these look for themselves
for package in ("torch", "transformers", "uvicorn", "alembic", "gguf"):
    try:
        importlib.import_module(package)
    except ImportError:
        pass
# the standard library itself needs these two on Linux
for name in {sorted(MODULES - {"posix"})!r}:
    sys.modules[name] = None
# the standard library itself needs these two on Linux
for name in {sorted((CALLS | FLAGS) - {"sendfile", "statvfs"})!r}:
    if hasattr(os, name):
        delattr(os, name)
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    models = DEMO / "models"
    lines = ["merge_method: linear", "models:"]
    lines += [f"  - {{model: '{models / name}', parameters: {{weight: 1.0}}}}" for name in ("sort", "reverse")]
    file = tmp_path / "recipe.yaml"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_every_module_is_imported_and_a_model_merged_without_them(recipe: Path, tmp_path: Path) -> None:
    code = f"""{LIKE_WINDOWS}
import cuvee
for module in pkgutil.walk_packages(cuvee.__path__, "cuvee."):
    if "migrations" not in module.name:  # alembic runs these
        importlib.import_module(module.name)
from cuvee.submission.hardware import this_machine
assert this_machine().cores > 0
merged = cuvee.merge(cuvee.load_recipe({str(recipe)!r}), {str(tmp_path / "there")!r})
print(merged.digest)
"""
    digest = run(code)
    here = cuvee.merge(cuvee.load_recipe(recipe), tmp_path / "here")
    assert digest == here.digest
    assert [file.name for file in tmp_path.iterdir() if file.name.endswith(".partial")] == []


def run(code: str) -> str:
    """Run code in a process of its own; return what it printed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
