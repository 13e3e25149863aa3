"""The machine's samples: what is read, and that it stays small."""

import itertools
import json
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from kennel.profiler.machine import Gpus, Host
from kennel.profiler.monitor import Monitor
from kennel.profiler.samples import MOST_BYTES, Recording
from tests.profiler.recorded import samples


class NVMLError(Exception):
    pass


class NoLibrary(NVMLError):
    pass


def nvml(gpus=2, fails=False, initialize=lambda: None):
    """A stand-in for NVIDIA's library, with so many GPUs."""

    def utilization(handle):
        if fails:
            raise NVMLError("GPU is lost")
        return SimpleNamespace(gpu=10 * (handle + 1))

    return SimpleNamespace(
        NVMLError_LibraryNotFound=NoLibrary,
        NVMLError_DriverNotLoaded=NoLibrary,
        nvmlInit=initialize,
        nvmlDeviceGetCount=lambda: gpus,
        nvmlDeviceGetHandleByIndex=lambda number: number,
        nvmlDeviceGetHandleByUUID=lambda name: {"GPU-b": 1}[name],
        nvmlDeviceGetName=lambda handle: f"GPU {handle}".encode(),
        nvmlDeviceGetUtilizationRates=utilization,
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=handle + 1, total=4),
    )


@pytest.fixture(autouse=True)
def no_gpus_hidden(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("visible", "names"), [(None, ("GPU 0", "GPU 1")), ("1", ("GPU 1",)), ("GPU-b", ("GPU 1",)), ("", ())]
)
def test_the_gpus_are_those_that_cuda_shows(monkeypatch, visible, names):
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    gpus = Gpus()
    assert gpus.names == names
    assert [(gpu.busy, gpu.memory) for gpu in gpus.sample()] == [
        (20.0, 50.0) if "1" in n else (10.0, 25.0) for n in names
    ]


def test_a_machine_without_a_driver_has_no_gpus_and_says_nothing(monkeypatch, caplog):
    def initialize():
        raise NoLibrary("NVML Shared Library Not Found")

    monkeypatch.setitem(sys.modules, "pynvml", nvml(initialize=initialize))
    assert Gpus().sample() == ()
    assert caplog.text == ""


@pytest.mark.parametrize("module", [None, nvml(fails=True), SimpleNamespace(nvmlInit=lambda: 1 / 0)])
def test_nvml_that_fails_is_one_warning(monkeypatch, caplog, module):
    monkeypatch.setitem(sys.modules, "pynvml", module)
    gpus = Gpus()
    assert [gpus.sample() for _ in range(3)] == [()] * 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "sampling the GPUs failed" in caplog.text


def test_a_sample_is_what_happened_since_the_one_before():
    host = Host(0.0)
    deadline = time.perf_counter() + 0.1
    while time.perf_counter() < deadline:
        pass
    sample = host.sample(0.1, ())
    assert len(sample.cores) >= 1
    assert all(0 <= busy <= 100 for busy in (*sample.cores, sample.cpu, sample.io_wait, sample.memory))
    assert sample.own_memory > 1e6


def test_a_day_of_samples_stays_below_a_megabyte_and_keeps_its_shape(tmp_path):
    recording = Recording(tmp_path / "samples.jsonl")
    for number, sample in enumerate(samples(2 * 86_400, cpu=lambda n: float(n % 101))):
        recording.add(sample)
        if number % 20_000 == 0:
            recording.write()
    recording.write()
    file = tmp_path / "samples.jsonl"
    lines = file.read_text().splitlines()
    assert file.stat().st_size <= MOST_BYTES
    assert len(lines) == len(recording.samples) > 1000
    assert recording.every > 1
    at = [json.loads(line)["at"] for line in lines]
    gaps = {round(later - earlier, 2) for earlier, later in itertools.pairwise(at)}
    assert gaps == {0.5 * recording.every}
    assert at[-1] > 86_000
    assert json.loads(lines[0])["gpus"] == [[92, 75]]


def test_the_thread_ends_with_the_job_whatever_its_interval(tmp_path):
    monitor = Monitor(tmp_path / "samples.jsonl", interval=60.0)
    began = time.perf_counter()
    monitor.stop()
    assert time.perf_counter() - began < 30  # it does not sleep its interval out
    assert "profiler" not in [thread.name for thread in threading.enumerate()]


def test_a_driver_that_hangs_does_not_keep_the_job(tmp_path, monkeypatch):
    asked, go_on = threading.Event(), threading.Event()
    monkeypatch.setitem(sys.modules, "pynvml", nvml(initialize=lambda: (asked.set(), go_on.wait(60))))
    monitor = Monitor(tmp_path / "samples.jsonl")
    assert asked.wait(30)
    began = time.perf_counter()
    monitor.stop()
    assert time.perf_counter() - began < 30
    assert monitor.samples == ()
    go_on.set()
