"""scriptorium submit-pr: submit the current ticket. It imports little, because agents wait for it."""

import os
import sys

from scriptorium.agents.tools.client import SubmitError, submit
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.version import VERSION

USAGE = """\
usage: scriptorium submit-pr SUMMARY
       scriptorium submit-pr -h, --help | -v, --version

Submit the ticket of the current agent run: uncommitted work is committed, and the ticket joins the merge
queue. Returns at once; the gate runs later. Only for agents: SCRIPTORIUM_TOKEN and SCRIPTORIUM_SOCKETS
in the environment identify the run.
"""


def main(argv: list[str]) -> int:
    """Submit with the words of the command line as the summary."""
    if argv in (["--help"], ["-h"]):
        sys.stdout.write(USAGE)
        return ExitCode.OK
    if argv in (["--version"], ["-v"]):
        sys.stdout.write(f"scriptorium submit-pr {VERSION}\n")
        return ExitCode.OK
    plain = argv[:1] == ["--"]
    words = argv[1:] if plain else argv
    if words and words[0].startswith("--") and not plain:
        hint = "put words that begin with '--' after a '--'"
        raise ScriptoriumError(f"unknown option '{words[0]}'", hint, ExitCode.USAGE)
    if not words:
        raise ScriptoriumError("the summary is empty", 'scriptorium submit-pr "what changed and why"', ExitCode.USAGE)
    token, sockets = os.environ.get("SCRIPTORIUM_TOKEN", ""), os.environ.get("SCRIPTORIUM_SOCKETS", "")
    if not token or not sockets:
        raise ScriptoriumError(
            "this is not the run of a coding agent",
            "'scriptorium code' starts one",
            ExitCode.USAGE,
        )
    try:
        reply = submit(sockets, token, "submit_pr", {"summary": " ".join(words)})
    except SubmitError as error:
        raise ScriptoriumError(str(error)) from error
    print(reply, file=sys.stderr)
    return ExitCode.OK
