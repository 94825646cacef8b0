"""Atomic writes: modes, links, names, and errors that name what the user named."""

import os
import stat

import pytest

from gaussjax.core import atomic_file


@pytest.fixture
def umask():
    """Function that sets the umask until the end of the test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002, 0o000])
def test_a_new_file_has_the_mode_of_the_umask_and_a_replaced_one_its_own(tmp_path, umask, mask):
    umask(mask)
    path = tmp_path / "file"
    atomic_file.write(path, b"new")
    assert mode(path) == 0o666 & ~mask
    for own in (0o600, 0o640, 0o444):
        path.chmod(own)
        atomic_file.write(path, b"again")
        assert mode(path) == own


def test_a_link_is_replaced_and_its_target_is_unchanged(tmp_path):
    target, link, dangling = tmp_path / "target", tmp_path / "link", tmp_path / "dangling"
    target.write_bytes(b"mine")
    target.chmod(0o600)
    link.symlink_to(target)
    dangling.symlink_to(tmp_path / "nothing")
    for path in (link, dangling):
        atomic_file.write(path, b"new")
        assert path.read_bytes() == b"new"
        assert not path.is_symlink()
    assert target.read_bytes() == b"mine"
    assert mode(link) == 0o600
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    "name", ["a**b", "[1]", "?.*", "x" * 250, "é" * 120, "ｆｕｌｌ", "-", ".hidden", "a\nb", "\udcff"], ids=ascii
)
def test_any_name_of_the_file_system_is_a_name(tmp_path, name):
    path = tmp_path / name
    for content in (b"first", b"second"):
        atomic_file.write(path, content)
        assert path.read_bytes() == content
    assert os.listdir(tmp_path) == [name]


def test_an_error_names_what_the_user_named(tmp_path):
    fifo, folder = tmp_path / "fifo", tmp_path / "folder"
    os.mkfifo(fifo)
    folder.mkdir()
    for path, kind, named in (
        (tmp_path / "missing" / "file", FileNotFoundError, tmp_path / "missing"),
        (tmp_path / "a" / "b" / "file", FileNotFoundError, tmp_path / "a" / "b"),
        (folder, IsADirectoryError, folder),
        (fifo, OSError, fifo),
        (fifo / "file", NotADirectoryError, fifo / "file"),
        (tmp_path / ("x" * 300), OSError, tmp_path / ("x" * 300)),
    ):
        with pytest.raises(kind) as caught:
            atomic_file.write(path, b"")
        assert caught.value.filename == str(named)
        assert "writer-" not in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["fifo", "folder"]
