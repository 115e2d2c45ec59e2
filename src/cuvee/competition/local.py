"""A competition's folder on this machine: its file, its database, its organiser's token, its worker processes."""

import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from cuvee.competition.actors import Actor
from cuvee.competition.database import open_database, sqlite_url
from cuvee.competition.limits import Limits
from cuvee.competition.mail import PASSWORD_VARIABLE
from cuvee.competition.seeds import enter_seeds
from cuvee.competition.service import Service
from cuvee.competition.settings import FILE as FILE_OF_SERVER
from cuvee.competition.settings import read_limits
from cuvee.competition.states import Role
from cuvee.competition.tokens import new_token, revoke
from cuvee.submission.competition import FILE
from cuvee.submission.competition_yaml import load_competition
from cuvee.submission.template import new_competition

PRIVATE = "private"
DATABASE = "competition.db"
DATABASE_VARIABLE = "CUVEE_DATABASE"
"""Variable of the environment that commands read the database's URL from."""

TOKEN_FILE = "organiser.token"
ORGANISER = Actor(Role.ORGANISER, "organiser")
WORK = "from cuvee.cli import main; main()"
TAKEN_OUT = 70
LONGEST_PAUSE = 60.0


def open_service(folder: Path, database_url: str | None = None, limits: Limits | None = None) -> Service:
    """Open a competition: by default with a SQLite file, and the limits of a file, in its private folder."""
    competition = load_competition(folder)
    database = open_database(database_url or database_of(folder))
    return Service(database, competition, limits or read_limits(folder / PRIVATE / FILE_OF_SERVER))


def database_of(folder: Path) -> str:
    """Return the URL of the SQLite file in a competition's private folder, which is made."""
    private = folder.absolute() / PRIVATE
    private.mkdir(mode=0o700, exist_ok=True, parents=True)
    return sqlite_url(private / DATABASE)


def begin(folder: Path) -> bool:
    """Make a competition on the bundled family where there is none. Tell whether one was made."""
    if (folder / FILE).exists():
        return False
    new_competition(folder, secrets.token_hex(16))
    return True


def prepare(service: Service) -> Path | None:
    """Enter parents and baselines, and write the organiser's token to a file that only its owner can read.

    Where the folder cannot be written to, there is no file: `make_token` gives the organiser one.
    """
    enter_seeds(service, ORGANISER)
    folder = service.competition.folder.absolute()
    path = folder / PRIVATE / TOKEN_FILE
    if not path.exists():
        if not os.access(path.parent if path.parent.exists() else folder, os.W_OK):
            return None
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with service.database.write() as connection:
            token = new_token(connection, ORGANISER, Role.ORGANISER, "organiser", service.now(connection))
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(token + "\n")
    return path


def make_token(service: Service, role: Role, label: str) -> str:
    """Make a token for a worker, an organiser or a monitor; earlier ones of the same label end."""
    with service.database.write() as connection:
        now = service.now(connection)
        revoke(connection, ORGANISER, now, role=role, team_id=None, label=label)
        return new_token(connection, ORGANISER, role, label, now)


class Workers:
    """Worker processes beside the server. One that dies is started again, one that takes itself out is not.

    They are told the database's URL, which may have a password, in their environment: every user of a machine sees the
    arguments of a process. The password of e-mail is not for them.
    """

    def __init__(self, folder: Path, count: int, database_url: str | None = None) -> None:
        self._stop = threading.Event()
        self._environment = {name: value for name, value in os.environ.items() if name != PASSWORD_VARIABLE}
        if database_url is not None:
            self._environment[DATABASE_VARIABLE] = database_url
        commands = [
            [sys.executable, "-c", WORK, "competition", "work", str(folder), "--name", f"local-{number}"]
            for number in range(1, count + 1)
        ]
        self._threads = [threading.Thread(target=self._keep, args=(command,), daemon=True) for command in commands]

    def __enter__(self) -> "Workers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _keep(self, command: Sequence[str]) -> None:
        pause = 1.0
        while not self._stop.is_set():
            process = subprocess.Popen(command, env=self._environment, start_new_session=True)
            while process.poll() is None and not self._stop.wait(0.2):
                pass
            if process.poll() is None:
                process.terminate()
                process.wait()
            if process.returncode == TAKEN_OUT:
                return
            self._stop.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
