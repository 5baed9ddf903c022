"""Detection of edits by stat."""

from __future__ import annotations

from pathlib import Path

from scriptorium.scheduler.watch import FileWatcher


def test_a_watcher_sees_each_edit_once(tmp_path: Path) -> None:
    file = tmp_path / "file"
    watcher = FileWatcher(file)
    assert not watcher.has_changed()
    file.write_text("a")
    assert watcher.has_changed()
    assert not watcher.has_changed()
    file.write_text("bc")
    assert watcher.has_changed()
    file.unlink()
    assert watcher.has_changed()
    assert not watcher.has_changed()
