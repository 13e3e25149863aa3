"""What a healthy server on a machine without GPUs does not show."""

import json
import logging
import sys
from types import SimpleNamespace

from kennel.serving.cloudwatch import UNITS, Minute, percentile
from kennel.serving.metrics import MOST_MODELS, Metrics, Served
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


def test_a_minute_without_requests_has_no_latencies():
    minute = Minute()
    minute.saw_request(200, 0.25)
    minute.saw_batch(3, 5)
    minute.saw_batch(1, 0)
    [line] = minute.lines("N", {"model": "m"}, {})
    assert (line["Requests"], line["Latency"], line["BatchSize"], line["QueueDepth"]) == (1, [250], [3, 1], 5)
    [line] = Minute().lines("N", {"model": "m"}, {})
    assert (line["Requests"], line["QueueDepth"]) == (0, 0)
    assert not {"Latency", "LatencyP50", "BatchSize"} & set(line)


def test_a_line_holds_as_many_values_as_cloudwatch_takes_and_none_is_said_twice():
    """CloudWatch adds up what several processes say, and takes percentiles of all that they say."""
    minute = Minute()
    for number in range(250):
        minute.saw_request(200, number / 1e3)
    minute.saw_batch(8, 0)
    lines = list(minute.lines("N", {"model": "m"}, {"CPUUtilization": 50}))
    assert [len(line["Latency"]) for line in lines] == [100, 100, 50]
    assert sorted(value for line in lines for value in line["Latency"]) == list(range(250))
    assert [name in line for line in lines for name in ("Requests", "BatchSize", "CPUUtilization")] == [True] * 3 + [
        False
    ] * 6
    for line in lines:
        [directive] = line["_aws"]["CloudWatchMetrics"]
        assert {metric["Name"] for metric in directive["Metrics"]} == set(UNITS) & set(line)
        assert line["model"] == "m"


def test_each_model_is_said_by_itself_and_the_machine_once(caplog):
    telemetry = Telemetry("", "", 0, "N")
    telemetry.start()
    for name in ("a", "b", "a"):
        trace = telemetry.begin("", "", 60)
        trace.served = Served(name, "torch-fp32")
        telemetry.finish(trace, 200)
    telemetry.finish(telemetry.begin("", "", 60), 200)
    with caplog.at_level(logging.INFO):
        telemetry.stop()
    said = [json.loads(record.message) for record in caplog.records if '"_aws"' in record.message]
    assert [(line.get("model"), line["Requests"]) for line in said] == [(None, 1), ("a", 2), ("b", 1)]
    assert ["MemoryUsed" in line for line in said] == [True, False, False]
    dimensions = [line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] for line in said]
    assert dimensions == [[[]], [["model", "engine"]], [["model", "engine"]]]


def test_gpus_are_read_where_there_are_any(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    resources = Resources()
    resources.start()
    values = resources.read()
    assert (values["GPUUtilization"], values["GPUMemoryUsed"]) == (40, 2000)
    assert set(values) <= set(UNITS)
    page = Metrics(resources).page().decode()
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


def test_the_page_has_an_end_however_many_models_are_asked_for():
    metrics = Metrics(Resources())
    for number in range(MOST_MODELS + 5):
        metrics.saw_request(f"m{number}", 404, 0.1, {}, 0)
    page = metrics.page().decode()
    assert page.count("kennel_requests_total{") == MOST_MODELS + 1
    assert 'kennel_requests_total{model="(others)",status="404"} 5.0' in page
