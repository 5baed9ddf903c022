"""On PYTHONPATH, it makes a scriptorium process record its points, or fail at one of them.

A point is a moment at which a kill can matter: before and after each program that the process starts,
and before, during and after each write. Audit hooks (PEP 578) see all of them, so the product needs no
change. The environment says what to do::

    CRASH_BASE     the directory below which writes count
    CRASH_TRACE    a file that gets a line for each point
    CRASH_AT       the point at which to act, as such a line names it, or 'number N' for its Nth point
    CRASH_ACTION   'kill' (everything of the flow, at once), or the number of an errno to fail with
    CRASH_GROUP    the process group of the flow
    CRASH_STEPS    a directory with a file for the steps of each git, named by `steps_file`
    CRASH_LIBRARY  steps.c, compiled; with it a git records its steps, or is killed at a step:
                   a point within a git is the point before it and ' step <number>'
    CRASH_BREAK    a function of the product, <module>:<name>, that does nothing: tests that still find
                   no fault prove nothing

The name of a point is the same in every run: the verb, the number of its process, the operation with its
object, and a count. Ids, times, tokens and temporary names are left out.
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
