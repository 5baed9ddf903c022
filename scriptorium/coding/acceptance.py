"""Accepting a submission: it must change something, be complete, hold no credential and leave the configuration."""

from __future__ import annotations

import logging
import os
import re

from scriptorium.coding import leaks
from scriptorium.errors import ScriptoriumError
from scriptorium.plan.ticket import Ticket
from scriptorium.project import config_reader
from scriptorium.project.workspace import Workspace

log = logging.getLogger(__name__)


def check_submission(workspace: Workspace, ticket: Ticket, head: str) -> None:
    """Raise, for the agent to read, if the work of a ticket up to ``head`` cannot be accepted."""
    repository = workspace.repository
    master = workspace.master_commit()
    same = repository.tree_of(head) == repository.tree_of(master)
    patches = b"" if same else repository.patches(master, head)
    if not patches:
        raise ScriptoriumError("there is no change to submit", "make the change first, then submit again")
    _check_secrets(workspace, ticket, patches, master)
    _check_config(workspace, patches, master, head)
    links = repository.changed_gitlinks(master, head) if b"160000" in patches else {}
    embedded = repository.embedded_repositories(head, links)
    if embedded:
        what = f"'{embedded[0]}' is a git repository of its own, so its files would be lost"
        hint = f"run 'git rm --cached {embedded[0]}' and remove its '.git', or make it a submodule"
        raise ScriptoriumError(what, hint)
    unpushed = workspace.working_tree(ticket.name).unpushed_submodules(links)
    if unpushed:
        what = f"submodule '{unpushed[0]}' has commits that no remote has, so they would be lost"
        raise ScriptoriumError(what, "push them, or change no submodule, then submit again")


def _check_secrets(workspace: Workspace, ticket: Ticket, patches: bytes, master: str) -> None:
    """Raise if a commit adds a credential, after a soft reset: history would keep the credential forever."""
    repository = workspace.repository
    for leak in leaks.find_leaks(patches, workspace.secrets):
        if not repository.holds(master, leak.text):  # master has it already
            log.warning("ticket '%s': submission refused: %s", ticket.name, leak)
            workspace.working_tree(ticket.name).take_back(master)
            hint = "remove it and submit again; your commits were reset, their changes are in the worktree"
            raise ScriptoriumError(str(leak), hint)


def _check_config(workspace: Workspace, patches: bytes, master: str, head: str) -> None:
    """Raise if a commit changes the configuration or a program that the configuration names.

    Both run outside the sandbox.
    """
    paths = (config_reader.FILE, *workspace.config.programs_in(workspace.repository.root))
    # some file systems ignore case
    header = rb"^diff --(?:git a/|cc )(%b)(?: b/|$)" % b"|".join(re.escape(os.fsencode(path)) for path in paths)
    resolve = workspace.repository.resolve
    for name in {os.fsdecode(name) for name in re.findall(header, patches, re.MULTILINE | re.IGNORECASE)}:
        if resolve(f"{head}:{name}") != resolve(f"{master}:{name}"):
            hint = "remove the change, describe it in the summary, then submit again"
            raise ScriptoriumError(f"refusing to change '{name}': it names programs that run outside the sandbox", hint)
