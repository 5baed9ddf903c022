"""Put on PYTHONPATH, it makes a scriptorium process tell its points, or fail at one of them.

A point is a moment at which the process can be killed so that it matters: before and after each program
that it starts, and before, while and after each write. Audit hooks (PEP 578) see all of it, so the product
needs to know nothing. The environment says what to do::

    CRASH_BASE     the directory below which writes count
    CRASH_TRACE    a file that gets a line for each point
    CRASH_AT       the point at which to act, as such a line names it, or 'number N' for the process's Nth
    CRASH_ACTION   'kill' (everything of the flow, at once), or the number of an errno to fail with
    CRASH_GROUP    the process group of the flow
    CRASH_STEPS    a directory for the steps of each git, a file each, by `steps_file`
    CRASH_LIBRARY  steps.c, compiled, by which a git tells its steps, or is killed at one:
                   a point within a git is the one before it and ' step <number>'
    CRASH_BREAK    a function of the product, <module>:<name>, that is to do nothing: a harness that finds
                   no fault then is worth nothing

A point is named by what is the same in every run: the verb, the how-manieth process of that verb, what is
done to what, and the how-manieth time. Ids, times, tokens and temporary names are taken out.
"""

from __future__ import annotations

import os
import sys


def _verb() -> str:
    """Return the verb of a scriptorium process, '' in any other."""
    words = sys.orig_argv[1:]
    if words[:2] == ["-m", "scriptorium"]:
        return words[2]
    if words[:2] == ["-P", "-c"] and "scriptorium.main" in words[2]:
        return words[3]
    return ""


if "CRASH_BREAK" in os.environ and _verb():
    from tests.crash.points import take_out

    take_out(os.environ["CRASH_BREAK"])

if "CRASH_BASE" in os.environ and _verb():
    from tests.crash.points import watch

    watch(_verb())
