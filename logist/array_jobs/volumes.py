"""Folders that containers mount over the network, as Kubernetes and Cloud Run write them alike."""

from __future__ import annotations

import re

from logist.array_jobs.block_yaml import Node

_FOLDER = re.compile(r"([A-Za-z0-9][A-Za-z0-9.-]*):(/.*)", re.ASCII)


def network_folder(given: str) -> dict[str, Node] | None:
    """The volume that `SERVER:/PATH` names, which is given out over NFS; None for what is written otherwise."""
    read = _FOLDER.fullmatch(given)
    return {"nfs": {"server": read[1], "path": read[2]}} if read else None
