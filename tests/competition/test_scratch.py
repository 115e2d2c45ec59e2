"""The folders that workers judge in: removed at the end, and by the next worker where one was killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from cuvee.competition.scratch import scratch_folder

HOLD = """
import sys
from pathlib import Path
from cuvee.competition.scratch import scratch_folder

with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "deep").mkdir()
    (folder / "deep/weights").write_text("many gigabytes")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_gone_at_the_end_with_all_in_it(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as folder:
        (folder / "model").mkdir()
        (folder / "model/weights").write_text("much")
        assert folder.stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_worker_left_is_removed_and_what_another_holds_is_not(tmp_path: Path) -> None:
    holders = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    killed, held = (Path(holder.stdout.readline().strip()) for holder in holders)  # type: ignore[union-attr]  # piped
    os.kill(holders[0].pid, signal.SIGKILL)
    holders[0].wait()
    assert (killed / "deep/weights").exists()
    with scratch_folder(tmp_path):
        assert not killed.exists()
        assert (held / "deep/weights").exists()
    holders[1].communicate("")
    assert list(tmp_path.iterdir()) == []


def test_links_and_files_of_others_in_a_shared_folder_are_left_alone(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("ours")
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "cuvee-judge-a").symlink_to(elsewhere)
    (shared / "cuvee-judge-a.lock").touch()
    (shared / "cuvee-judge-b.lock").symlink_to(elsewhere / "precious")
    with scratch_folder(shared):
        pass
    assert (elsewhere / "precious").read_text() == "ours"
