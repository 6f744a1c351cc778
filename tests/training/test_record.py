"""The commit of a run is the library's, wherever the run was started."""

import subprocess

import pytest

import reclmis.training.record as record


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with the library in it, and another one around the current directory."""
    ours, other = tmp_path / "ours", tmp_path / "other"
    for folder in (ours, other):
        (folder / "src" / "reclmis" / "training").mkdir(parents=True)
        for name in ("src/reclmis/__init__.py", "src/reclmis/training/record.py", "results.json"):
            (folder / name).write_text(f"# {folder.name}\n")
        git(folder, "init", "--quiet")
        git(folder, "add", ".")
        git(folder, "-c", "user.name=n", "-c", "user.email=e@x", "commit", "--quiet", "--message", folder.name)
    monkeypatch.chdir(other)
    monkeypatch.setattr(record, "__file__", str(ours / "src" / "reclmis" / "training" / "record.py"))
    return ours


def git(folder, *arguments):
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_it_is_that_of_the_source_and_says_where_code_differs(checkout):
    commit = git(checkout, "rev-parse", "HEAD")
    assert record.run_record(0)["commit"] == commit != git(".", "rev-parse", "HEAD")
    (checkout / "results.json").write_text("{}")
    assert record.run_record(0)["commit"] == commit
    (checkout / "src" / "reclmis" / "__init__.py").write_text("# changed\n")
    assert record.run_record(0)["commit"] == f"{commit}-dirty"


def test_a_package_installed_inside_a_checkout_is_not_of_its_commit(checkout, monkeypatch):
    installed = checkout / ".venv" / "site-packages" / "reclmis"
    (installed / "training").mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    monkeypatch.setattr(record, "__file__", str(installed / "training" / "record.py"))
    assert record.run_record(0)["commit"] is None
