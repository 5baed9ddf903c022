"""Commands that start a part of this scriptorium in an interpreter of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from scriptorium.system.interpreter import command_for


def test_a_module_runs_whatever_the_current_directory_holds(tmp_path: Path) -> None:
    (tmp_path / "scriptorium").mkdir()
    (tmp_path / "scriptorium" / "__init__.py").write_text("raise SystemExit('the wrong package')")
    command = [*command_for("scriptorium.main"), "--version"]

    done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("scriptorium ")


def test_the_exit_code_is_the_result_of_main(tmp_path: Path) -> None:
    command = [*command_for("scriptorium.main"), "no-such-verb"]
    assert subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, check=False).returncode == 2
