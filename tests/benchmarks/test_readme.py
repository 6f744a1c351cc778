"""The pages' tables are what the measurements say."""

import pytest

from tests.conftest import REPOSITORY


def test_the_pages_are_written_from_the_results():
    import report

    pages = {page: (REPOSITORY / page).read_text() for page in report.PAGES}
    assert report.render(pages) == pages, "Run python benchmarks/report.py."
    assert not any("Not measured" in text for text in pages.values())
    name = next(iter(report.TABLES))
    with pytest.raises(SystemExit, match=f"one place for '{name}', and have 0"):
        report.render({"README.md": ""})
    twice = "".join(pages.values())
    with pytest.raises(SystemExit, match="and have 2"):
        report.render({"a": twice, "b": twice})


def test_every_script_is_listed():
    page = (REPOSITORY / "benchmarks" / "README.md").read_text()
    scripts = {path.name for path in (REPOSITORY / "benchmarks").glob("*.py")} - {"report.py"}
    assert len(scripts) > 10 and not [name for name in scripts if f"`{name}`" not in page]
