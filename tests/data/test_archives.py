import io
import random
import stat
import tarfile
import zipfile

import pytest

from reclmis.data import ArchiveError, unpack

FILES = {"a.txt": b"first", "folder/b.bin": bytes(range(256)), "folder/deep/c.txt": b""}


def make_zip(path, files=FILES, **infos):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def make_tar(path, members, mode="w:gz"):
    with tarfile.open(path, mode) as file:
        for name, content, kind in members:
            info = tarfile.TarInfo(name)
            info.type, info.size = kind, len(content) if kind == tarfile.REGTYPE else 0
            info.linkname = "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            file.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tgz"])
def test_unpacks_everything(tmp_path, suffix):
    path = tmp_path / f"data{suffix}"
    if suffix == ".zip":
        make_zip(path)
    else:
        make_tar(path, [(n, c, tarfile.REGTYPE) for n, c in FILES.items()], "w" if suffix == ".tar" else "w:gz")
    written = unpack(path, tmp_path / "out")
    assert {str(file.relative_to(tmp_path / "out")): file.read_bytes() for file in written} == FILES
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([path.name, "out"])


NAMES = ["../evil.txt", "/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:\\evil.txt", "a/../b"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_nothing_is_written_outside(tmp_path, name, kind):
    inner = tmp_path / "inner"
    inner.mkdir()
    files = {"good.txt": b"x", name: b"evil"}
    if kind == "zip":
        path = make_zip(inner / "data.zip", files)
    else:
        path = make_tar(inner / "data.tar.gz", [(n, c, tarfile.REGTYPE) for n, c in files.items()])
    with pytest.raises(ArchiveError, match="outside its folder"):
        unpack(path, inner / "out")
    assert [p.name for p in inner.iterdir()] == [path.name] and [p.name for p in tmp_path.iterdir()] == ["inner"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_tar(tmp_path, kind):
    path = make_tar(tmp_path / "data.tar", [("good.txt", b"x", tarfile.REGTYPE), ("link", b"", kind)], "w")
    with pytest.raises(ArchiveError, match="link or device"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_links_in_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as file:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(info, "/etc/passwd")
    with pytest.raises(ArchiveError, match="link or device"):
        unpack(tmp_path / "data.zip", tmp_path / "out")


def test_bombs(tmp_path):
    bomb = make_zip(tmp_path / "bomb.zip", {"zeros.bin": bytes(20 * 2**20)})
    with pytest.raises(ArchiveError, match="times its"):
        unpack(bomb, tmp_path / "out")
    with pytest.raises(ArchiveError, match="more than 100; raise `max_bytes`"):
        unpack(make_zip(tmp_path / "data.zip"), tmp_path / "out", max_bytes=100)
    assert not (tmp_path / "out").exists()


def test_a_header_that_lies_about_its_size(tmp_path):
    content = random.Random(0).randbytes(5000)
    path = make_zip(tmp_path / "data.zip", {"a.bin": content})
    raw = path.read_bytes()
    # Both the local header and the directory say 10 bytes.
    path.write_bytes(raw.replace((5000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(ArchiveError):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_entries_of_one_name(tmp_path):
    with pytest.raises(ArchiveError, match="two entries"):
        unpack(make_zip(tmp_path / "data.zip", {"a.txt": b"1", "A.TXT": b"2"}), tmp_path / "out")


def test_a_file_where_a_folder_should_be(tmp_path):
    with pytest.raises(ArchiveError):
        unpack(make_zip(tmp_path / "data.zip", {"a": b"1", "a/b": b"2"}), tmp_path / "out")


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_cut_and_flipped_bytes_never_leave_half_a_folder(tmp_path, suffix):
    good = {name: random.Random(1).randbytes(3000) for name in ("a.bin", "b.bin", "c/d.bin")}
    path = tmp_path / f"data{suffix}"
    if suffix == ".zip":
        make_zip(path, good)
    else:
        make_tar(path, [(n, c, tarfile.REGTYPE) for n, c in good.items()])
    raw, draw = path.read_bytes(), random.Random(2)
    for _ in range(60):
        damaged = bytearray(raw[: draw.randrange(len(raw))] if draw.random() < 0.5 else raw)
        for _ in range(draw.randrange(1, 4)):
            if damaged:
                damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        target = tmp_path / "out"
        try:
            unpack(path, target)
        except ArchiveError as error:
            assert path.name in str(error)
            assert not target.exists()
        else:
            assert len(list(target.rglob("*.bin"))) <= 3
            for file in sorted(target.rglob("*"), reverse=True):
                file.unlink() if file.is_file() else file.rmdir()
            target.rmdir()
        assert {p.name for p in tmp_path.iterdir()} == {path.name}


def test_a_target_that_holds_something(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(FileExistsError, match="new folder"):
        unpack(make_zip(tmp_path / "data.zip"), tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "x"


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04"])
def test_what_is_no_archive(tmp_path, content):
    (tmp_path / "data.zip").write_bytes(content)
    with pytest.raises(ArchiveError, match=r"data\.zip"):
        unpack(tmp_path / "data.zip", tmp_path / "out")
    with pytest.raises(ArchiveError, match="missing"):
        unpack(tmp_path / "none.zip", tmp_path / "out")
