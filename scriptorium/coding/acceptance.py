"""What an agent may submit: work that exists, is complete, holds no credential and changes no configuration."""

from __future__ import annotations

import logging
import os
import re

from scriptorium.coding import leaks
from scriptorium.errors import ScriptoriumError
from scriptorium.plan.ticket import Ticket
from scriptorium.project import config_reader
from scriptorium.project.workspace import Workspace
from scriptorium.system.redact import Secrets

log = logging.getLogger(__name__)


def check_submission(workspace: Workspace, ticket: Ticket, head: str) -> None:
    """Raise, for the agent to read, when there is nothing to land or a part of the work would be lost."""
    repository = workspace.repository
    master = workspace.master_commit()
    same = repository.tree_of(head) == repository.tree_of(master)
    patches = b"" if same else repository.patches(master, head)
    if not patches:
        raise ScriptoriumError("there is no change to hand in", "make the change first, then hand in again")
    _check_secrets(workspace, ticket, patches, master)
    _check_config(workspace, patches, master, head)
    links = repository.changed_gitlinks(master, head) if b"160000" in patches else {}
    embedded = repository.embedded_repositories(head, links)
    if embedded:
        what = f"'{embedded[0]}' is a git repository of its own, and its files would be lost"
        raise ScriptoriumError(what, "'git rm --cached' it and remove its '.git', or make it a submodule")
    unpushed = workspace.working_tree(ticket.name).unpushed_submodules(links)
    if unpushed:
        what = f"submodule '{unpushed[0]}' has commits that are nowhere else, and would be lost"
        raise ScriptoriumError(what, "push them, or change no submodule, then hand in again")


def _check_secrets(workspace: Workspace, ticket: Ticket, patches: bytes, master: str) -> None:
    """Raise, with the commits taken back, when one of them adds a credential, as history would keep it for good."""
    repository = workspace.repository
    for leak in leaks.find_leaks(patches, Secrets(*workspace.config.environments)):
        if not repository.holds(master, leak.text):  # what is public already is no news
            log.warning("ticket '%s': not handed in: %s", ticket.name, leak)
            workspace.working_tree(ticket.name).take_back(master)
            hint = "take it out and hand in again; the commits are taken back, their changes lie in the worktree"
            raise ScriptoriumError(str(leak), hint)


def _check_config(workspace: Workspace, patches: bytes, master: str, head: str) -> None:
    """Raise when a commit changes the configuration, or a program of the repository that it names.

    They run outside of any sandbox.
    """
    paths = (config_reader.FILE, *workspace.config.programs_in(workspace.repository.root))
    # by any case of its letters, as not every file system tells them apart
    header = rb"^diff --(?:git a/|cc )(%b)(?: b/|$)" % b"|".join(re.escape(os.fsencode(path)) for path in paths)
    resolve = workspace.repository.resolve
    for name in {os.fsdecode(name) for name in re.findall(header, patches, re.MULTILINE | re.IGNORECASE)}:
        if resolve(f"{head}:{name}") != resolve(f"{master}:{name}"):
            hint = "take the change out, say in the summary what it should be, then hand in again"
            raise ScriptoriumError(f"'{name}' says what runs outside of the sandbox, and is a person's", hint)
