"""Fast-forward of the user's checkout; test_landing.py covers most of it."""

from scriptorium.git.user_checkout import UserCheckout
from tests.support import Project


def test_a_fast_forward_takes_files_along_and_names_those_in_its_way(project: Project) -> None:
    checkout = UserCheckout(project.workspace.repository, project.root)
    old = project.git("rev-parse", "master")
    new = project.commit({"added": "new\n", "Makefile": "test:\n"})
    project.git("reset", "--quiet", "--hard", old)
    (project.root / "added").write_text("mine\n")
    begun = project.root.parent / "begun"
    assert checkout.fast_forward("master", old, new, begun.touch) == ["added"]
    assert (project.root / "added").read_text() == "mine\n"
    assert not begun.exists()

    (project.root / "added").unlink()
    assert checkout.fast_forward("master", old, new, begun.touch) == []
    assert begun.exists()
    assert (project.root / "added").read_text() == "new\n"
