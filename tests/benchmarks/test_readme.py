"""The README's tables are what the measurements say."""

from tests.conftest import REPOSITORY


def test_the_readme_is_written_from_the_results():
    import report

    readme = (REPOSITORY / "README.md").read_text()
    assert report.render(readme) == readme, "Run python benchmarks/report.py."
    assert "Not measured" not in readme
