"""What a healthy server on a machine without GPUs does not show."""

import logging
import sys
from types import SimpleNamespace

from kennel.serving.cloudwatch import UNITS, Minute, percentile
from kennel.serving.metrics import Metrics
from kennel.serving.resources import Resources
from kennel.serving.telemetry import Telemetry


def nvml():
    """NVIDIA's library on a machine with two GPUs."""
    return SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda number: number,
        nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=20 + 40 * handle),
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=1000),
    )


def test_percentiles_are_values_that_were_seen():
    values = sorted(range(1, 101))
    assert [percentile(values, percent) for percent in (50, 90, 99)] == [50, 90, 99]
    assert [percentile([7], percent) for percent in (50, 99)] == [7, 7]


def test_a_minute_without_requests_has_no_latencies_and_the_next_one_begins_anew():
    minute = Minute()
    minute.saw_request(200, 0.25)
    minute.saw_batch(3, 5)
    minute.saw_batch(1, 0)
    first = minute.end("N", {"model": "m"}, {})
    assert (first["Requests"], first["LatencyP99"], first["BatchSize"], first["QueueDepth"]) == (1, 250, 2, 5)
    second = minute.end("N", {"model": "m"}, {})
    assert (second["Requests"], second["QueueDepth"]) == (0, 0)
    assert not {"LatencyP50", "BatchSize"} & set(second)


def test_gpus_are_read_where_there_are_any(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    resources = Resources()
    resources.start()
    values = resources.read()
    assert (values["GPUUtilization"], values["GPUMemoryUsed"]) == (40, 2000)
    assert set(values) <= set(UNITS)
    page = Metrics({"model": "m"}, resources).page().decode()
    assert 'kennel_gpu_utilization_ratio{gpu="1"} 0.6' in page
    assert 'kennel_gpu_memory_used_bytes{gpu="0"} 1000.0' in page


def test_a_gpu_that_no_longer_answers_is_left_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", library := nvml())
    resources = Resources()
    resources.start()
    del library.nvmlDeviceGetMemoryInfo
    assert resources.gpus() == []
    assert set(resources.read()) == {"CPUUtilization", "MemoryUsed"}


def test_a_request_that_cannot_be_counted_is_answered_all_the_same(monkeypatch, caplog):
    telemetry = Telemetry("m", "e", 1, "")
    trace = telemetry.begin("", "", 60)
    trace.size = None
    with caplog.at_level(logging.WARNING):
        telemetry.finish(trace, 200)
    assert "could not be counted" in caplog.text
