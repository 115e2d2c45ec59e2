"""Runs a page's commands in one folder: cuvee in this process, through its own door; others are looked at only."""

import io
import os
import re
import shlex
import shutil
import sys
import tomllib
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

from cuvee.catalogue import registry
from cuvee.cli import main

NOT_RUN = ("make", "pip", "git", "python", "mkdocs")
"""First words of commands that a page may show without their being run here."""

READERS_FOLDER = "/home/you"
"""Where a page's commands seem to be run."""


@dataclass
class DemoCache:
    """The first `cuvee demo` of the session is run; later ones are copies of what it wrote."""

    folder: Path
    output: str = ""


@dataclass
class Shell:
    """One page's folder. `cd` moves within it; `places` are the names that readers see in place of ours."""

    folder: Path
    demo: DemoCache
    places: dict[str, str] = field(default_factory=dict)
    installed: list[Path] = field(default_factory=list)

    def run(self, command: str) -> tuple[int, str]:
        """Run one command line and return its exit code and all that a terminal shows of it, in that order."""
        words, *filters = _pipeline(command)
        screen: list[tuple[str, str]] = []
        code = self._run(words, screen)
        if not filters:
            return code, self._shown("".join(text for _, text in screen))
        stdout = "".join(text for stream, text in screen if stream == "stdout")
        stderr = "".join(text for stream, text in screen if stream == "stderr")
        for chosen in filters:
            stdout = _filtered(chosen, stdout)
        return code, self._shown(stderr + stdout)

    def close(self) -> None:
        """Forget the packages that the page has installed."""
        sys.path[:] = [entry for entry in sys.path if Path(entry) not in self.installed]
        registry.cache_clear()

    def _run(self, words: list[str], screen: list[tuple[str, str]]) -> int:
        if words[0] == "cd":
            os.chdir(words[1])
        elif words[:2] == ["pip", "install"] and words[-1].startswith("./"):
            self._install(Path(words[-1]))
        elif words[0] == "ls":
            names = sorted(path.name for path in Path(*words[1:]).iterdir() if not path.name.startswith("."))
            screen.append(("stdout", "\n".join(names)))
        elif words[:2] == ["cuvee", "demo"]:
            self._demo(words, screen)
        elif words[0] == "cuvee":
            return _cuvee(words, screen)
        else:
            assert words[0] in NOT_RUN, f"the tests do not know the command {words[0]!r}"
        return 0

    def _demo(self, words: list[str], screen: list[tuple[str, str]]) -> None:
        if self.demo.output:
            shutil.copytree(self.demo.folder, words[2], copy_function=os.link)
        else:
            printed: list[tuple[str, str]] = []
            code = _cuvee(words, printed)
            assert code == 0, printed
            self.demo.output = self._shown("".join(text for _, text in printed))
            shutil.copytree(words[2], self.demo.folder, copy_function=os.link)
        screen.append(("stdout", self.demo.output))

    def _shown(self, text: str) -> str:
        """Return what the reader's terminal would show, from their folder."""
        places = {str(self.folder.resolve()): READERS_FOLDER, str(self.folder): READERS_FOLDER, **self.places}
        for place, name in places.items():
            text = text.replace(place, name)
        return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")

    def _install(self, project: Path) -> None:
        """Do what matters of `pip install`: the modules can be imported, and the entry points are known."""
        described = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        information = project / f"{described['name'].replace('-', '_')}-{described['version']}.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Name: {described['name']}\nVersion: {described['version']}\n")
        points = described["entry-points"].items()
        lines = [f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in named.items()) for group, named in points]
        (information / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
        self.installed.append(project.resolve())
        sys.path.append(str(project.resolve()))
        registry.cache_clear()


class _Stream(io.StringIO):
    """One of a program's two streams. What is written is put on the screen, in the order of writing."""

    def __init__(self, name: str, screen: list[tuple[str, str]]) -> None:
        super().__init__()
        self._name = name
        self._screen = screen

    def write(self, text: str) -> int:
        count = super().write(text)  # refuses bytes, which is how click tells a text stream
        self._screen.append((self._name, text))
        return count


def _cuvee(words: list[str], screen: list[tuple[str, str]]) -> int:
    words, target = (words[:-2], words[-1]) if ">" in words else (words, "")
    code = 0
    arguments, sys.argv = sys.argv, words
    with redirect_stdout(_Stream("stdout", screen)), redirect_stderr(_Stream("stderr", screen)):
        try:
            main()
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        finally:
            sys.argv = arguments
    if target:
        Path(target).write_text("".join(text for stream, text in screen if stream == "stdout"), encoding="utf-8")
        screen[:] = [(stream, text) for stream, text in screen if stream == "stderr"]
    return code


def _pipeline(command: str) -> list[list[str]]:
    """Split a command line at its pipes."""
    reader = shlex.shlex(command, posix=True, punctuation_chars="|")
    reader.whitespace_split = True
    commands: list[list[str]] = [[]]
    for word in reader:
        if word == "|":
            commands.append([])
        else:
            commands[-1].append(word)
    return commands


def _filtered(words: list[str], text: str) -> str:
    """Do what `head -N`, `tail -N` and `grep -E PATTERN` do."""
    lines = text.splitlines()
    name, argument = words[0], words[-1]
    if name == "head":
        lines = lines[: int(argument.removeprefix("-"))]
    elif name == "tail":
        lines = lines[-int(argument.removeprefix("-")) :]
    else:
        assert name == "grep", f"the tests do not know the command {name!r}"
        lines = [line for line in lines if re.search(argument, line)]
    return "\n".join(lines)
