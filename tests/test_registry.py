import pytest

from reclmis.registry import Registry


def test_registers_and_finds_by_source():
    registry = Registry("thing")

    @registry.register("mine")
    def build():
        return 1

    assert registry.get("mine") is build
    assert registry.get("mine:variant") is build
    assert list(registry) == ["mine"]
    assert "mine:variant" in registry and "other" not in registry


def test_a_duplicate_is_an_error_that_names_the_present_one():
    registry = Registry("thing")
    registry.register("mine")(len)
    registry.register("mine")(len)  # the same part again is no conflict
    with pytest.raises(ValueError, match="'mine' is registered already.*len"):
        registry.register("mine")(max)


def test_an_unknown_name_lists_what_exists():
    registry = Registry("thing")
    registry.register("one")(len)
    registry.register("two")(max)
    with pytest.raises(ValueError, match="Unknown thing 'three'.*one, two"):
        registry.get("three")


@pytest.mark.parametrize("name", ["", "a:b"])
def test_names_with_a_colon_are_refused(name):
    with pytest.raises(ValueError, match="without a colon"):
        Registry("thing").register(name)


def test_entry_points_of_installed_packages(tmp_path, monkeypatch):
    (tmp_path / "outside.py").write_text("def build():\n    return 'outside'\n")
    info = tmp_path / "outside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[reclmis.some_thing]\nfar = outside:build\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry("some thing")
    assert "far" in registry
    assert registry.get("far:x")() == "outside"
