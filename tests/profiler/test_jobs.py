"""Real small jobs, watched as a container watches them: what the profiler finds, and that it harms nothing."""

import gzip
import json
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from kennel.container.profiling import ProfilerConfig, read_config
from kennel.profiler.rules import RULES
from kennel.training.batches import _Shuffled
from tests.profiler.conftest import NETWORK


def results(job):
    return {result["rule"]: result for result in job.profile["rules"]}


def test_a_job_says_where_its_time_went_and_the_parts_are_all_of_it(network_job):
    job, profile = network_job, network_job.profile
    assert sum(profile["parts"].values()) == pytest.approx(profile["seconds"], abs=0.001)
    assert {"start-up", "decoding", "features", "data", "forward", "backward", "evaluation", "test"} <= set(
        profile["parts"]
    )
    timeline = profile["timeline"]["parts"]
    assert {part: sum(seconds) for part, seconds in timeline.items()} == pytest.approx(profile["parts"], abs=0.05)
    assert [(stage["name"], stage["steps"], stage["images"]) for stage in profile["stages"]] == [
        ("head", 6, 48),
        ("network", 12, 96),
    ]
    for part in ("data", "to_device", "forward", "backward", "optimizer"):
        both = sum(stage["parts"][part] for stage in profile["stages"])
        assert profile["parts"][part] == pytest.approx(both, abs=0.001)
    lines = (job.output / "profiler_samples.jsonl").read_text().splitlines()
    assert len(lines) == profile["samples"]["count"] > 3
    assert {"at", "cores", "io_wait", "memory", "read", "written", "received", "sent", "gpus"} <= set(
        json.loads(lines[0])
    )
    assert profile["usage"]["cpu"]["p95"] > 0
    assert set(results(job)) | set(profile["left_out"]) == set(RULES)
    assert profile["left_out"]["LowGPUUtilization"] == "there is no GPU"
    assert job.warnings == []


def test_ten_steps_are_looked_into_and_what_comes_between_them_is_not(network_job):
    job, operators = network_job, network_job.profile["operators"]
    assert operators["stage"] == "network"
    assert operators["steps"] == 10
    table = {operator["name"]: operator for operator in operators["table"]}
    assert table["aten::convolution_backward"]["calls"] == 5 * 10  # of the block that is trained
    # resnet18 has 20 convolutions; those of the evaluations between the steps are not counted
    convolutions = next(
        o for name, o in table.items() if name in ("aten::mkldnn_convolution", "aten::_slow_conv2d_forward")
    )
    assert convolutions["calls"] == 20 * 10
    assert all(operator["cpu"] >= 0 and operator["gpu"] == 0 for operator in operators["table"])
    with gzip.open(job.output / operators["trace"]) as file:
        assert "traceEvents" in json.load(file)
    assert (job.output / operators["trace"]).stat().st_size < 5e6


def test_the_model_is_the_same_with_the_profiler_and_without(train, head_job, network_job):
    for on, trained in ((head_job, {}), (network_job, NETWORK)):
        off = train(profiler="off", **trained)
        assert on.model == off.model
        assert on.profile["operators"]["steps"] > 0
        assert off.profile is None
        assert not list(off.output.glob("profiler*"))
        assert [line for line in on.lines if "epoch=" in line] == [line for line in off.lines if "epoch=" in line]


def test_a_data_loader_that_sleeps_is_found_d4(train, monkeypatch):
    read = _Shuffled._read

    def sleepy(self, rows, seed):
        time.sleep(0.08)
        return read(self, rows, seed)

    monkeypatch.setattr(_Shuffled, "_read", sleepy)
    job = train()
    stage = job.profile["stages"][0]
    assert stage["parts"]["data"] > 0.5 * sum(stage["parts"].values())
    found = results(job)["Dataloader"]
    assert found["status"] == "IssuesFound"
    assert found["findings"][0]["message"].startswith("waiting for data")
    (line,) = [line for line in job.lines if line.startswith("rule=Dataloader; status=IssuesFound; waiting for data")]
    assert "; try batch_size 8 → 32" in line


def test_steps_that_the_debugger_measures_are_not_judged_and_its_time_is_a_part_of_its_own(train):
    job = train(
        debugger="measure", epochs="17", profile_steps="0", **{k: v for k, v in NETWORK.items() if "epochs" not in k}
    )
    stages = {stage["name"]: stage for stage in job.profile["stages"]}
    # each stage's first ten steps are measured, and every fiftieth of the training
    assert stages["head"]["steps"] == 51
    assert stages["head"]["judged"] == 51 - 10 - 1
    assert stages["network"]["judged"] == stages["network"]["steps"] - 10
    assert job.profile["parts"]["debugging"] > 0
    assert "debugging" not in stages["head"]["parts"]


def test_a_single_slow_step_is_found_d4(train, monkeypatch):
    read, reads = _Shuffled._read, []

    def slow_once(self, rows, seed):
        reads.append(seed)
        if seed is not None and sum(seed is not None for seed in reads) == 38:
            time.sleep(5)
        return read(self, rows, seed)

    monkeypatch.setattr(_Shuffled, "_read", slow_once)
    job = train(epochs="16", profile_steps="0")
    found = results(job)["StepOutlier"]
    assert found["status"] == "IssuesFound"
    (finding,) = found["findings"]
    assert finding["step"] == 38
    assert "look at waiting for data" in finding["advice"]
    assert job.profile["operators"] == {"stage": None, "steps": 0, "trace": None, "table": []}


# Whatever fails in the profiler, the model is the same


@pytest.fixture
def whole(head_job):
    return head_job.model


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_profiler_thread_that_is_killed_harms_nothing(train, whole, monkeypatch):
    def killed(host, now, gpus):
        raise SystemExit  # what ends a thread from outside, at a place where no file is open

    monkeypatch.setattr("kennel.profiler.monitor.Host.sample", killed)
    job = train(config={"ProfilingIntervalInMilliseconds": 100})
    assert job.model == whole
    assert job.warnings == ["sampling the machine ended before the job did; the training is not touched by that"]
    assert job.profile["stages"]


@pytest.mark.parametrize("module", [SimpleNamespace(), SimpleNamespace(nvmlInit=lambda: 1 / 0), None])
def test_nvml_that_raises_harms_nothing(train, whole, monkeypatch, module):
    monkeypatch.setitem(sys.modules, "pynvml", module)
    job = train(config={"ProfilingIntervalInMilliseconds": 100})
    assert job.model == whole
    assert [warning.partition(" failed")[0] for warning in job.warnings] == ["sampling the GPUs"]
    assert job.profile["samples"]["count"] > 0


@pytest.mark.parametrize("step", ["__enter__", "__exit__", "export_chrome_trace"])
def test_a_torch_profiler_that_raises_harms_nothing(train, whole, monkeypatch, step):
    profile = torch.autograd.profiler.profile
    method = getattr(profile, step)

    def broken(self, *arguments):
        if step == "__exit__":  # torch allows no second one before the first has ended
            method(self, *arguments)
        raise RuntimeError("Kineto is not available")

    monkeypatch.setattr(profile, step, broken)
    job = train()
    assert job.model == whole
    assert [warning.partition(" failed")[0] for warning in job.warnings] == ["torch's profiler"]
    assert job.profile["stages"][0]["steps"] == 30


def test_a_file_system_that_takes_nothing_harms_nothing(train, whole, monkeypatch):
    def full(path, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kennel.profiler.samples.write_text", full)
    monkeypatch.setattr("kennel.profiler.operators.replacing", lambda path: full(path, ""))
    monkeypatch.setattr("kennel.profiler.profiler.write_json", full)
    job = train(config={"ProfilingIntervalInMilliseconds": 100})
    assert job.model == whole
    assert job.profile is None
    assert sorted(warning.partition(" ")[0] for warning in job.warnings) == ["profiler.json", "sampling", "torch's"]


def test_a_folder_for_the_profiler_that_cannot_be_written_harms_nothing_d2_4(train, whole):
    job = train(config={"ProfilingParameters": {"LocalPath": "/proc/nowhere"}})
    assert job.model == whole
    assert job.profile["operators"]["trace"] is None
    assert len(job.warnings) == 2


def test_a_profiler_that_cannot_even_start_harms_nothing(train, whole, monkeypatch):
    monkeypatch.setattr("kennel.profiler.profiler.Monitor", lambda *given: 1 / 0)
    job = train()
    assert job.model == whole
    assert job.warnings == ["the profiler could not start; the job goes on without it"]


# profilerconfig.json


MALFORMED = {
    "no JSON": "{'LocalPath': __import__('os').system('touch /tmp/evaluated')}",
    "a list": "[]",
    "an interval that is none": {"ProfilingIntervalInMilliseconds": "often"},
    "an interval that is too short": {"ProfilingIntervalInMilliseconds": 1},
    "an interval that is no number": {"ProfilingIntervalInMilliseconds": float("nan")},
    "parameters that are none": {"ProfilingParameters": "all"},
    "a path that is none": {"ProfilingParameters": {"LocalPath": 5}},
}


@pytest.mark.parametrize("config", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_configuration_is_one_warning_and_the_defaults_d2_4(tmp_path, caplog, config):
    file = tmp_path / "profilerconfig.json"
    file.write_text(config if isinstance(config, str) else json.dumps(config))
    assert read_config(file) == ProfilerConfig()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "profilerconfig.json is malformed" in caplog.text


def test_a_job_with_a_malformed_configuration_is_the_same_job_d2_4(train, whole):
    job = train(config=MALFORMED["no JSON"])
    assert job.model == whole
    assert len(job.warnings) == 1
    assert job.profile["samples"]["interval"] == 0.5


@pytest.mark.parametrize("text", ["", "{}", '{"ProfilingParameters": null}'])
def test_an_empty_configuration_is_no_wish_d2_4(tmp_path, caplog, text):
    (tmp_path / "config.json").write_text(text)
    assert read_config(tmp_path / "config.json") == ProfilerConfig()
    assert caplog.text == ""


@pytest.mark.parametrize("value", [True, "true", "True"])
def test_a_configuration_can_switch_the_profiler_off_d2_4(tmp_path, value):
    (tmp_path / "config.json").write_text(json.dumps({"DisableProfiler": value}))
    assert not read_config(tmp_path / "config.json").is_on


def test_a_configuration_names_the_folder_and_the_interval_in_any_case_d2_4(train, monkeypatch, tmp_path):
    config = {
        "profilingIntervalInMillis": 200,
        "ProfilingParameters": {"localpath": "/opt/ml/output/profiler", "DetailedProfilingConfig": "{'x': 1/0}"},
    }
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_text(json.dumps(config))
    monkeypatch.setenv("SMPROFILER_CONFIG_PATH", str(elsewhere))
    job = train(config="{ this file is not the one")
    assert job.warnings == []
    assert job.profile["samples"]["interval"] == 0.2
    folder = job.tree.base / "output" / "profiler"
    assert sorted(file.name for file in folder.iterdir()) == ["profiler_samples.jsonl", "trace.json.gz"]
