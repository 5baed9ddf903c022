"""The actions of agents and users in the stress tests, as shell scripts that record their results.

``$FACTS/written`` has the content of every file that must survive, ``$FACTS/made`` every such commit,
``$FACTS/mine`` the commits of users on master, and ``$FACTS/seen`` the last known state of their checkout.
"""

from __future__ import annotations

from tests.support import PLAN

KEEP = """
keep() { echo "$1 $2" >"$2"; echo "$1 $2" >>"$FACTS/written"; }
commit() { git add -A; git commit -qm "Work of $1"; git rev-parse HEAD >>"$FACTS/made"; }
"""

CODING = (
    KEEP
    + """
n=$(($(wc -l <"$FACTS/runs") + 1)); echo "$SCRIPTORIUM_TICKET" >>"$FACTS/runs"
for file in $(git diff --name-only --diff-filter=U); do echo "agent $n" >"$file"; git add "$file"; done
me="agent-$n" file="work-${SCRIPTORIUM_TICKET%%-*}-$n"
submit_work() { scriptorium submit-pr "summary of $n" >/dev/null; }
"""
)

NESTED = "git init -q own-$n; cd own-$n; keep $me inner-$n; git add -A; git commit -qm In"

OUTCOMES = {
    "submit": 'keep $me $file; commit $me; submit_work',
    "submit uncommitted": 'keep $me $file; echo "$me" >>shared; submit_work',
    "same file": 'keep $me $file; echo "$me" >shared; commit $me; submit_work',
    "file of others": 'echo "$me" >"human"; keep $me $file; commit $me; submit_work',
    "gate fails": 'keep $me $file; touch red; commit $me; submit_work',
    "repairs the gate": 'keep $me $file; git rm -qf --ignore-unmatch red; commit $me; submit_work',
    "no submit": 'keep $me $file; commit $me; keep $me $file-rest',
    "nothing": 'submit_work || true',
    "crash": 'keep $me $file; exit 3',
    "junk": 'keep $me "$(printf "a\\tb")-$n"; head -c 3000 /dev/urandom; echo {{}} >&2; keep $me $file',
    "more after submit": 'keep $me $file; submit_work; keep $me $file-more; commit $me; keep $me $file-rest',
    "leaves the branch": 'git checkout -q --detach; keep $me $file; commit $me; keep $me $file-rest',
    "other branch": 'git checkout -qb side/$n; keep $me $file; commit $me; submit_work',
    "repository within": f"keep $me $file; {NESTED}",
    "submit, repository within": f"keep $me $file; submit_work; {NESTED}",
    "breaks the worktree": 'keep $me $file; commit $me; keep $me $file-rest; rm .git',
}  # fmt: skip

SUBMITS = ("submit", "submit uncommitted", "same file", "file of others", "gate fails", "more after submit")
"""The outcomes that queue a ticket if nothing disturbs them."""

ARCHITECT = KEEP + 'n=$(($(wc -l <"$FACTS/runs") + 1)); echo architect >>"$FACTS/runs"; me=agent-$n\n'

ARCHITECTS = {
    "writes": 'keep $me areas/core.md',
    "strays": 'keep $me areas/core.md; keep $me areas/more.md; keep $me stray-$n; echo "$me" >>spec.md',
    "fails": 'keep $me areas/core.md; exit 1',
    "commits": 'keep $me areas/core.md; keep $me stray-$n; commit $me',
    "removes": 'rm -f areas/core.md; keep $me areas/more.md',
}  # fmt: skip

MANAGER = KEEP + 'n=$(($(wc -l <"$FACTS/runs") + 1)); echo manager >>"$FACTS/runs"; me=agent-$n\n'
TICKET = """printf -- '---\\narea: %s\\ndepends: [%s]\\n---\\n# Thing\\n\\nDo it.\\n' "$SCRIPTORIUM_AREA" "$1" """

MANAGERS = {
    "one": f'set -- ""; {TICKET} >tickets/open/made-$n.md',
    "two": f'set -- ""; {TICKET} >tickets/open/first-$n.md; set -- first-$n; {TICKET} >tickets/open/second-$n.md',
    "none": "true",
    "bad": 'echo nonsense >tickets/open/bad-$n.md; keep $me stray-$n',
    "edits": 'for f in tickets/*/*.md; do [ ! -f "$f" ] || echo "$me" >>"$f"; done',
    "fails": f'set -- ""; {TICKET} >tickets/open/made-$n.md; keep $me stray-$n; exit 1',
}  # fmt: skip

SEEN = """
{
    git symbolic-ref HEAD; git status --porcelain -uall; git stash list --format=%H
    git status --porcelain -uall | cut -c4- | while read -r f; do [ ! -f "$f" ] || cksum "$f"; done
    git for-each-ref | grep -v -e refs/heads/scriptorium/ -e refs/scriptorium/ -e refs/heads/master -e refs/heads/side/
    git diff --cached | cksum; cksum .git/config .git/info/exclude
}
"""
"""The state of a checkout, and everything around it that only its user may change."""


def at_checkout(script: str) -> str:
    """Return the script of a user who changes the checkout and records its state afterwards."""
    return f"{KEEP}\ntrap '{{ {SEEN}\n}} >\"$FACTS/seen\"' EXIT\n{script}"


def commits(number: int, path: str, *, remove: bool = False) -> str:
    """Change a file and commit it on the current branch."""
    change = f'git rm -q "{path}"' if remove else f'keep person-{number} "{path}"; git add "{path}"'
    note = 'case $(git symbolic-ref HEAD) in */master) git rev-parse HEAD >>"$FACTS/mine";; esac'
    made = 'git rev-parse HEAD >>"$FACTS/made"'
    return at_checkout(f'{change}\ngit commit -qm "Person {number}" -- "{path}"\n{note}\n{made}')


def edits(number: int, path: str, *, stage: bool) -> str:
    """Leave an uncommitted change of a file in the checkout."""
    # the user overwrites uncommitted content
    return at_checkout(f'echo "person-{number} {path}" >"{path}"\n{f"git add {path}" if stage else ""}')


def switches(branch: str) -> str:
    return at_checkout(f"git switch -q {branch}")


def stashes() -> str:
    return at_checkout('[ -z "$(git status --porcelain)" ] || git stash push -qu')


def in_worktree(number: int, path: str, what: str) -> str:
    """Run a script in the worktree of a ticket, unless the worktree is broken."""
    deed = {
        "leaves a file": f"keep person-{number} person-{number}",
        "commits": f"keep person-{number} person-{number}; commit person-{number}",
        "detaches": f"git checkout -q --detach; keep person-{number} person-{number}; commit person-{number}",
        "removes it": f'[ -z "$(git status --porcelain)" ]; rm -rf "{path}"',
        "breaks it": f'keep person-{number} person-{number}; rm "{path}/.git"',
    }[what]
    return f'{KEEP}\ncd "{path}"; [ -e .git ]; [ "$(git rev-parse --show-toplevel)" = "{path}" ]\n{deed}'


def plan_commit(lines: str, *, needs: str = "") -> str:
    """Commit to the plan branch, unless a file that the script needs is gone."""
    there = f'git cat-file -e "{PLAN}:{needs}"\n' if needs else ""
    return f"""{there}git fast-import --quiet --done <<END
feature done
commit refs/heads/{PLAN}
committer Person <person@example.com> 1700000000 +0000
data <<MESSAGE
Edit the plan by hand
MESSAGE
from refs/heads/{PLAN}^0
{lines}
done
END"""


def writes(path: str, text: str, *, needs: str = "") -> str:
    return plan_commit(f'M 100644 inline "{path}"\ndata <<TEXT\n{text}\nTEXT\n', needs=needs)


def moves(old: str, new: str) -> str:
    return plan_commit(f'R "{old}" "{new}"', needs=old)


def removes(path: str) -> str:
    return plan_commit(f'D "{path}"', needs=path)


def appends(number: int, path: str) -> str:
    """Add a line to the current version of a file of the plan."""
    script = f'git show "{PLAN}:{path}" >"$FACTS/edit"; echo "Person {number} says so." >>"$FACTS/edit"\n'
    script += 'oid=$(git hash-object -w "$FACTS/edit")\n'
    return script + plan_commit(f'M 100644 $oid "{path}"', needs=path)
