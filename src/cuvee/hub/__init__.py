"""Models of a hub, through `huggingface_hub`: pinned to a commit, looked at by headers, downloaded, uploaded."""

from cuvee.hub.access import Hub
from cuvee.hub.download import cached, download, missing_bytes, refuse_small_disk
from cuvee.hub.facts import HubFacts, hub_facts, is_absent, is_away
from cuvee.hub.remote import RemoteCheckpoint, open_cached, open_repository, weight_names
from cuvee.hub.repository import RemoteFile, Repository, find_repository
from cuvee.hub.room import in_use, make_room, note_use
from cuvee.hub.upload import Pushed, push

__all__ = [
    "Hub",
    "HubFacts",
    "Pushed",
    "RemoteCheckpoint",
    "RemoteFile",
    "Repository",
    "cached",
    "download",
    "find_repository",
    "hub_facts",
    "in_use",
    "is_absent",
    "is_away",
    "make_room",
    "missing_bytes",
    "note_use",
    "open_cached",
    "open_repository",
    "push",
    "refuse_small_disk",
    "weight_names",
]
