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

from cuvee.cli import main
from cuvee.method import registry

NOT_RUN = ("make", "pip", "git", "python", "mkdocs")
"""First words of commands that a page may show without their being run here."""


@dataclass
class DemoCache:
    """The first `cuvee demo` of the session is run; later ones are copies of what it wrote."""

    folder: Path
    output: str = ""


@dataclass
class Shell:
    """One page's folder. `cd` moves within it."""

    folder: Path
    demo: DemoCache
    installed: list[Path] = field(default_factory=list)

    def run(self, command: str) -> tuple[int, str]:
        """Run one command line and return its exit code and all it said."""
        words = shlex.split(command, comments=True)
        if words[0] == "cd":
            os.chdir(words[1])
        elif words[:2] == ["pip", "install"] and words[-1].startswith("./"):
            self._install(Path(words[-1]))
        elif words[0] == "ls":
            return 0, "\n".join(sorted(path.name for path in Path(*words[1:]).iterdir()))
        elif words[:2] == ["cuvee", "demo"] and self.demo.output:
            shutil.copytree(self.demo.folder, words[2], copy_function=os.link)
            return 0, self.demo.output
        elif words[0] == "cuvee":
            code, output = self._cuvee(words)
            if words[1] == "demo" and code == 0:
                self.demo.output = output
                shutil.copytree(words[2], self.demo.folder, copy_function=os.link)
            return code, output
        else:
            assert words[0] in NOT_RUN, f"the tests do not know the command {words[0]!r}"
        return 0, ""

    def close(self) -> None:
        """Forget the packages that the page has installed."""
        sys.path[:] = [entry for entry in sys.path if Path(entry) not in self.installed]
        registry.cache_clear()

    def _cuvee(self, words: list[str]) -> tuple[int, str]:
        words, target = (words[:-2], words[-1]) if ">" in words else (words, "")
        stdout, stderr = io.StringIO(), io.StringIO()
        code = 0
        arguments, sys.argv = sys.argv, words
        with redirect_stdout(stdout), redirect_stderr(stderr):
            try:
                main()
            except SystemExit as exit_:
                code = int(exit_.code or 0)
            finally:
                sys.argv = arguments
        if target:
            Path(target).write_text(stdout.getvalue(), encoding="utf-8")
        return code, stdout.getvalue() + stderr.getvalue()

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


def is_shown(line: str, output: str) -> bool:
    """Say whether a line of a page is one of the output's; `...` stands for anything, and spacing is free."""
    pattern = r"\s*" + ".*".join(r"\s+".join(map(re.escape, part.split())) for part in _parts(line)) + r"\s*"
    return any(re.fullmatch(pattern, found) for found in output.splitlines())


def _parts(line: str) -> list[str]:
    return [part.strip() for part in line.split("...")]
