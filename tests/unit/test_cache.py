import errno
import multiprocessing
import os
import time

import pytest

from kennel.cache import Cache
from kennel.errors import CacheError


def write_note(folder):
    (folder / "note").write_text("done")


def test_the_same_key_is_built_once(tmp_path):
    calls = []

    def build(folder):
        calls.append(folder)
        write_note(folder)

    cache = Cache(tmp_path)
    first, second = cache.folder("kind", {"a": 1}, build), cache.folder("kind", {"a": 1}, build)
    assert first == second
    assert (first / "note").read_text() == "done"
    assert len(calls) == 1


def test_other_keys_and_other_kinds_have_other_folders(tmp_path):
    cache = Cache(tmp_path)
    folders = {cache.folder(kind, key, write_note) for kind, key in (("x", {"a": 1}), ("x", {"a": 2}), ("y", {"a": 1}))}
    assert len(folders) == 3


def test_a_failed_build_leaves_nothing_and_can_be_tried_again(tmp_path):
    def fail(folder):
        write_note(folder)
        raise RuntimeError("half way")

    cache = Cache(tmp_path)
    with pytest.raises(RuntimeError, match="half way"):
        cache.folder("kind", {}, fail)
    assert list((tmp_path / "kind").iterdir()) == []
    assert (cache.folder("kind", {}, write_note) / "note").exists()


def _build_slowly(root, started, go_on=None):
    def build(folder):
        with (root / "builds").open("a") as file:
            file.write("built\n")
        started.set()
        if go_on:
            go_on.wait(60)
        else:
            time.sleep(1)
        write_note(folder)

    Cache(root).folder("kind", {}, build)


def test_a_full_disk_is_one_sentence(tmp_path):
    def fill(folder):
        write_note(folder)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(
        CacheError, match=rf"no room for the job's cache in {tmp_path} \(No space left on device\); set"
    ):
        Cache(tmp_path).folder("kind", {"a": 1}, fill)
    assert not [file for file in tmp_path.rglob("*") if file.name == "note"]


def test_two_processes_build_the_same_folder_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    processes = [context.Process(target=_build_slowly, args=(tmp_path, started)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert (tmp_path / "builds").read_text() == "built\n"


def test_who_waits_for_another_can_give_up(tmp_path):
    context = multiprocessing.get_context("spawn")
    started, go_on = context.Event(), context.Event()
    process = context.Process(target=_build_slowly, args=(tmp_path, started, go_on))
    process.start()
    started.wait()

    def give_up():
        raise InterruptedError

    with pytest.raises(InterruptedError):
        Cache(tmp_path).folder("kind", {}, write_note, waiting=give_up)
    go_on.set()
    process.join()
    assert process.exitcode == 0


def _die_while_building(root):
    def build(folder):
        write_note(folder)
        os._exit(9)

    Cache(root).folder("kind", {}, build)


def test_a_process_that_dies_while_building_leaves_no_lock_and_no_half_folder(tmp_path):
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_die_while_building, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 9
    folder = Cache(tmp_path).folder("kind", {}, lambda folder: (folder / "other").write_text("x"))
    assert sorted(entry.name for entry in folder.iterdir()) == ["key.json", "other"]
