"""The entry point: it finds the verb, and turns every failure into one line and an exit code.

It imports little, so that ``--version`` and ``submit-pr`` start as fast as Python itself.
"""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper

from scriptorium.errors import ExitCode, ScriptoriumError, Stopped, as_user_error

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing `typing` would double the start-up time
    from typing import NoReturn

VERBS = {
    "init": "create the plan branch in a repository",
    "plan": "write spec.md with the Architect, in a session or with one prompt",
    "ask": "answer a question from spec, plan and source; changes nothing",
    "run": "run all steps in a loop until stopped",
    "status": "show ticket counts and active agents",
    "worktrees": "list the worktrees of tickets",
    "architect": "spec.md -> areas",
    "manager": "areas -> tickets",
    "assign": "the oldest ready ticket -> branch and worktree",
    "code": "let the coding agent work on tickets",
    "submit-pr": "submit the current ticket (called by agents)",
    "merge": "the queue's next item -> master, if the gate passes",
    "health": "run the gate on a clean checkout of master",
    "fsck": "check the plan branch and its history",
    "rescue": "list, restore or drop rescued work",
    "clean": "show or remove unneeded worktrees, branches and rescue refs",
    "doctor": "check that all requirements are met",
    "hooks": "install, uninstall or show the git hooks",
    "demo": "watch a scripted agent build a small project",
}

USAGE = """\
usage: scriptorium <verb> [arguments]
       scriptorium --init [path] | --version | --help

Turns a spec into tested commits: areas, tickets, coding agents, a merge queue.

{verbs}

'scriptorium <verb> --help' shows details; any 'scriptorium-<verb>' on PATH is a verb, too.
exit codes: 0 done or idle, 1 failed, 2 usage, 3 held back (master is red), 4 bug,
            75 lock held or backend cooling down, 78 bad configuration, 130 interrupted,
            143 terminated
"""


def usage() -> str:
    return USAGE.format(verbs="\n".join(f"  {verb:<10} {what}" for verb, what in VERBS.items()))


def main() -> NoReturn:
    """Run as ``scriptorium <verb> …``."""
    _exit(sys.argv[1:])


def verb() -> NoReturn:
    """Run as ``scriptorium-<verb> …``."""
    name = os.path.basename(sys.argv[0]).removeprefix("scriptorium-").removesuffix(".py")  # noqa: PTH119
    _exit([name, *sys.argv[1:]])


def _exit(argv: list[str]) -> NoReturn:
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")  # a file name may be invalid UTF-8
    debug = "--debug" in argv or bool(os.environ.get("SCRIPTORIUM_DEBUG"))
    try:
        # after the verb, --debug may be a switch of the verb, a word of a request, or an extension's option
        code = dispatch(argv[1:] if argv[:1] == ["--debug"] else argv)
        sys.stdout.flush()
    except Stopped as stop:
        code = stop.exit_code
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # otherwise Python's last flush fails again
        code = ExitCode.FAILED
    except Exception as error:  # noqa: BLE001 - the only handler: no traceback without --debug
        if debug:
            import traceback

            traceback.print_exc()
        code = report(error)
    sys.exit(int(code))


def report(error: Exception) -> ExitCode:
    """Print a failure on stderr and return its exit code."""
    from scriptorium.system.text import one_line, printable  # late, since most commands succeed

    if isinstance(error, ScriptoriumError) or (isinstance(error, OSError) and error.strerror):
        failure = as_user_error(error)
        print(f"scriptorium: {printable(str(failure))}", file=sys.stderr)
        return failure.code
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("scriptorium"):
        print(f"scriptorium: the Python package '{error.name}' is not installed", file=sys.stderr)
        print("hint: pip install git-scriptorium, or 'make demo' in a clone of it", file=sys.stderr)
        return ExitCode.CONFIG
    print(f"scriptorium: this is a bug: {type(error).__name__}: {one_line(str(error))}", file=sys.stderr)
    print("hint: run it again with --debug and report what that prints", file=sys.stderr)
    return ExitCode.BUG


def dispatch(argv: list[str]) -> int:
    """Run a verb with its arguments and return the exit code."""
    if not argv:
        print(usage(), end="", file=sys.stderr)
        return ExitCode.USAGE
    name, arguments = argv[0], argv[1:]
    if name in ("--version", "-V"):
        from scriptorium.version import VERSION

        print(f"scriptorium {VERSION}")
        return ExitCode.OK
    if name in ("--help", "-h", "help") and not arguments:
        print(usage(), end="")
        return ExitCode.OK
    if name == "help":
        name, arguments = arguments[0], ["--help"]
    if name == "--init":
        name = "init"
    if name not in VERBS:
        return _extension(name, arguments)
    from importlib import import_module

    module = import_module(f"scriptorium.commands.{name.replace('-', '_')}")
    result: int = module.main(arguments)
    return result


def _extension(name: str, arguments: list[str]) -> NoReturn:
    """Execute ``scriptorium-<name>`` from PATH, as git does. Raises if there is none."""
    import shutil

    program = None if name.startswith("-") or "/" in name else shutil.which(f"scriptorium-{name}")
    if program:
        sys.stdout.flush()
        os.execv(program, [program, *arguments])
    from difflib import get_close_matches

    near = get_close_matches(name, VERBS, 1)
    hint = f"did you mean 'scriptorium {near[0]}'?" if near else "see 'scriptorium --help'"
    raise ScriptoriumError(f"'{name}' is not a scriptorium command", hint, ExitCode.USAGE)
