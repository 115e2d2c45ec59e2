"""What an organiser may tune of the server itself; the competition's own rules are in competition.yaml."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Limits:
    """A run is held for `lease` at a time, and tried `attempts_at_most` times.

    The archives and recipes of a team hold at most `team_bytes` in the database.

    Bodies: `json_bytes` for JSON and forms, `archive_bytes` for submissions, `verdict_bytes` for what workers hand in.
    A request's head comes within `head_seconds`, its body within `body_seconds` more.

    One address registers at most `teams_per_hour`, signs in `sign_ins_per_hour` times and sees the board by other
    weights `what_ifs_per_minute` times, and gets `downloads_per_hour` files; a team sends at most `sends_per_hour`, and
    `sends_at_once`, and has `checks_per_minute` recipes checked.

    `proxies` are the networks of proxies whose word on a visitor's address and scheme counts; nobody's by default.
    With `https` visitors come by HTTPS alone: cookies and browsers are told so. Who registers a team must know the
    code `invitation`, if there is one.

    The server is not well while runs wait and no worker was seen for `worker_silence`, while one has waited for more
    than `longest_wait`, and where `backup_every` is set and no backup is younger.

    The organiser is told by `webhook` what is not well; it leads to public addresses, and into `webhook_networks`. So
    are the addresses `mail_to`, by the `mail_server`; `mail_tls` says how the way there is encrypted.

    Logs of jobs and other things that no ranking rests on go when they have been over for longer than `keep`.
    """

    lease: timedelta = timedelta(seconds=60)
    attempts_at_most: int = 3
    archive_bytes: int = 4_000_000
    team_bytes: int = 200_000_000
    json_bytes: int = 1_000_000
    verdict_bytes: int = 16_000_000
    head_seconds: float = 10.0
    body_seconds: float = 60.0
    connections_per_address: int = 256
    proxies: tuple[str, ...] = ()
    https: bool = False
    invitation: str = ""
    teams_per_hour: int = 30
    sign_ins_per_hour: int = 60
    sends_per_hour: int = 120
    sends_at_once: int = 10
    what_ifs_per_minute: int = 120
    downloads_per_hour: int = 3000
    checks_per_minute: int = 60
    worker_silence: timedelta = timedelta(minutes=5)
    longest_wait: timedelta = timedelta(hours=24)
    backup_every: timedelta | None = None
    webhook: str = ""
    webhook_networks: tuple[str, ...] = ()
    mail_to: tuple[str, ...] = ()
    mail_server: str = ""
    mail_tls: str = "starttls"
    keep: timedelta = timedelta(days=90)
