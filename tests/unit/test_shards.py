"""Files that are split over hosts, sent between two real processes with gloo."""

import json
import os
import subprocess
import sys

import pytest

from kennel_cli.platforms.ports import free_port

PROGRAM = """
import json, os, sys
from pathlib import Path
from kennel.training.distributed import Processes, join_processes, leave
from kennel.training.shards import unite
folder, chunk = Path(sys.argv[1]), int(sys.argv[2])
processes = join_processes()
host = Processes(processes.rank, 2, local_rank=0, local_count=1)  # as if each were a host of its own
channels = {channel: folder / channel for channel in json.loads(sys.argv[3])}
found = unite(channels, host, folder / "united", chunk)
files = lambda root: {str(p.relative_to(root)): p for p in sorted(root.rglob("*")) if p.is_file()}
contents = lambda root: {name: [path.read_text(), path.stat().st_mtime_ns] for name, path in files(root).items()}
print("found", json.dumps([found == channels, {name: contents(root) for name, root in found.items()}]))
leave()
"""


@pytest.fixture
def unite(tmp_path):
    """Run two processes, each with files `{channel: {name: text}}` of its own.

    Return whether each kept its channels, and what it found."""

    def run(*given, chunk=64):
        port = str(free_port())
        started = []
        for rank, channels in enumerate(given):
            for channel, files in channels.items():
                for name, text in files.items():
                    path = tmp_path / str(rank) / channel / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(text)
                    os.utime(path, (1000 + rank, 1000 + rank))
            variables = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
            variables |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
            arguments = [str(tmp_path / str(rank)), str(chunk), json.dumps(sorted(channels))]
            command = [sys.executable, "-c", PROGRAM, *arguments]
            environment = {**os.environ, **variables}
            started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
        outputs = [process.communicate(timeout=300)[0] for process in started]
        assert [process.returncode for process in started] == [0, 0]
        lines = [line for output in outputs for line in output.splitlines() if line.startswith("found ")]
        return [json.loads(line.removeprefix("found ")) for line in lines]

    return run


def texts(found):
    return {channel: {name: text for name, (text, _) in files.items()} for channel, files in found.items()}


def test_each_host_gets_the_files_that_others_have_a2_7(unite):
    long = "0123456789" * 30  # several parts of 64 bytes
    first = {"training": {"train/a/1": "one", "train/a/2": long, "train/both": "same"}}
    second = {"training": {"train/b/3": "three", "train/b/empty": "", "train/both": "same"}, "extra": {"4": long + "4"}}
    one, other = unite(first, second)
    everything = {"training": first["training"] | second["training"], "extra": second["extra"]}
    assert texts(one[1]) == texts(other[1]) == everything
    assert other[1]["training"]["train/b/3"][1] == 1001 * 10**9  # its own


def test_a_sent_files_time_is_that_of_its_content(unite):
    def time_of(text):  # in the folder that the attempt before it has left
        return unite({"training": {}}, {"training": {"train/b/3.bmp": text}})[0][1]["training"]["train/b/3.bmp"][1]

    first = time_of("three")
    assert time_of("other") != first  # an image of the same size is another one to the cache
    assert time_of("three") == first


def test_a_host_without_any_file_gets_all_a2_7(unite):
    files = {"training": {"train/a/1": "one", "train/b/2": "two"}}
    one, other = unite({"training": {}}, files)
    assert texts(one[1]) == texts(other[1]) == files
    assert other[0] is False


def test_hosts_with_the_same_files_keep_them_where_they_are(unite):
    files = {"training": {"train/a/1": "one"}}
    one, other = unite(files, files)
    assert one[0] is other[0] is True
