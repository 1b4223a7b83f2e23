"""Locks of run directories, by flock and by what Windows has in its place."""

import errno
import os
import sys
from types import ModuleType

import pytest

from backprop_xp.files import atomic, locks


class Windows(ModuleType):
    """Windows' locks of a byte, one process of them, on any system."""

    LK_NBLCK, LK_UNLCK = 2, 0

    def __init__(self):
        super().__init__("msvcrt")
        self.held = set()

    def locking(self, descriptor, mode, size):
        assert size == 1
        file = os.fstat(descriptor).st_ino
        if mode == self.LK_UNLCK:
            self.held.remove(file)
        elif file in self.held:
            raise OSError(errno.EACCES, "Permission denied")
        else:
            self.held.add(file)


@pytest.fixture(params=["flock", "msvcrt"])
def lock(request, monkeypatch):
    monkeypatch.setattr(locks, "_SECONDS", 0.0)
    if request.param == "msvcrt":
        monkeypatch.setitem(sys.modules, "msvcrt", Windows())
        ways = locks._by_msvcrt()
    else:
        pytest.importorskip("fcntl", reason="there is no flock here")
        ways = locks._by_flock()
    monkeypatch.setattr(locks, "_lock", ways[0])
    monkeypatch.setattr(locks, "_look", ways[1])


def test_a_lock_is_held_once_and_seen_by_others(lock, tmp_path):
    path = tmp_path / "lock"
    assert not locks.is_locked(path)
    path.touch()
    assert not locks.is_locked(path)
    with path.open("rb") as one, path.open("rb") as two:
        assert locks.locked(one.fileno())
        assert locks.is_locked(path)
        assert not locks.locked(two.fileno())


def test_who_looks_holds_no_lock(lock, tmp_path):
    path = tmp_path / "lock"
    path.touch()
    assert [locks.is_locked(path) for _ in range(3)] == [False] * 3
    with path.open("rb") as one:
        assert locks.locked(one.fileno())


def test_a_file_is_written_in_binary_where_the_system_asks(monkeypatch, tmp_path):
    asked, real = [], os.open

    def opened(path, flags, *rest):
        asked.append(flags)
        return real(path, flags & ~(1 << 30), *rest)

    monkeypatch.setattr(atomic, "_KIND", atomic._KIND | 1 << 30)
    monkeypatch.setattr(os, "open", opened)
    atomic.write_whole(tmp_path / "a", [b"\r\n"])
    assert asked[0] & 1 << 30
    assert (tmp_path / "a").read_bytes() == b"\r\n"


def test_no_folder_is_opened_on_windows(monkeypatch, tmp_path):
    monkeypatch.setattr(atomic.os, "name", "nt")
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("a folder was opened"))
    atomic.sync_folder(tmp_path)
