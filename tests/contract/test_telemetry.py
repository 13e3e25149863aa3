"""What an endpoint says of its requests: in its log, in its answers, at `/metrics` and to CloudWatch."""

import json

import numpy as np

from tests.contract.bodies import instances, picture

PHASES = ("decode", "queue", "forward", "encode")


def request_lines(server):
    return [json.loads(line) for line in server.box.log.splitlines() if line.startswith('{"event": "request"')]


def line_of(server, inference_id):
    server.box.wait_for(f'"{inference_id}"')
    [line] = [line for line in request_lines(server) if line["id"] == inference_id]
    return line


def test_a_request_leaves_one_line_that_says_how_it_went_c1_9(server):
    data = picture()
    answer = server.post(
        data, "image/jpeg; charset=x", "application/json;verbose", X_Amzn_SageMaker_Inference_Id="good"
    )
    line = line_of(server, "good")
    assert line["status"] == 200
    assert (line["format"], line["bytes"], line["images"]) == ("image/jpeg", len(data), 1)
    assert (line["model"], line["engine"], line["batch_size"]) == ("resnet18", "torch-fp32", 1)
    assert line["label"] == json.loads(answer.data)["predicted_label"]
    assert line["forward_ms"] > 0
    assert line["decode_ms"] > 0
    assert sum(line[f"{phase}_ms"] for phase in PHASES) <= line["total_ms"] + 0.1  # rounded
    assert "error" not in line


def test_a_refusal_leaves_a_line_with_its_sentence_c1_11(server):
    server.post(b"no picture", "image/jpeg", X_Amzn_SageMaker_Inference_Id="bad")
    line = line_of(server, "bad")
    assert line["status"] == 422
    assert "not an image of a known format" in line["error"]
    assert "label" not in line


def test_a_request_without_an_inference_id_gets_one_of_its_own(server):
    for name in ("before", "", "", "after"):
        server.post(picture(), "image/jpeg", **({"X_Amzn_SageMaker_Inference_Id": name} if name else {}))
    line_of(server, "after")
    ids = [line["id"] for line in request_lines(server)]
    first, second = ids[ids.index("before") + 1 : ids.index("after")]
    assert first != second
    assert len(first) == len(second) == 32


def test_an_answer_says_where_its_time_went(server):
    timing = server.post(picture(), "image/jpeg").headers["Server-Timing"]
    spent = dict(part.split(";dur=") for part in timing.split(", "))
    assert tuple(spent) == PHASES
    assert float(spent["forward"]) > 0
    assert "Server-Timing" not in server.ping().headers


def test_metrics_count_requests_by_status_and_time_by_phase_c1_13(server):
    before = server.metrics()
    server.post(instances(picture(), picture()), "application/json")
    server.post(b"", "image/jpeg")
    server.ping()
    assert server.get("/metrics").headers["Content-Type"].startswith("text/plain; version=")
    after = server.metrics()
    grown = {name: value - before.get(name, 0) for name, value in after.items()}
    assert grown["kennel_requests_total", "200", "resnet18"] == 1
    assert grown["kennel_requests_total", "400", "resnet18"] == 1
    assert grown["kennel_request_seconds_count", "resnet18"] == 1  # refusals are quick, and say nothing of the model
    assert all(grown["kennel_phase_seconds_count", phase] == 1 for phase in PHASES)
    assert grown["kennel_batch_images_sum",] == 2
    assert after["kennel_requests_in_work",] == after["kennel_queue_images",] == 0
    assert after["kennel_model", "resnet18", "torch-fp32"] == 1
    assert after["process_resident_memory_bytes",] > 0


def test_pings_leave_no_line_and_good_requests_the_share_that_is_wanted_e8(serve, random_model):
    server = serve(random_model, KENNEL_REQUEST_LOG="0", KENNEL_METRICS_NAMESPACE="Kennel").wait_until_ready()
    before = server.box.log
    for _ in range(3):
        server.ping()
        server.get("/metrics")
        server.post(picture(), "image/jpeg")
    assert server.box.log == before
    server.post(b"", "image/jpeg", X_Amzn_SageMaker_Inference_Id="bad")
    assert line_of(server, "bad")["status"] == 400
    assert server.box.stop(limit=30) == 0
    check_minute(server.box.log)


def check_minute(log):
    """The figures since the last minute are said when the server ends."""
    [line] = [json.loads(line) for line in log.splitlines() if '"_aws"' in line]
    [directive] = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "Kennel"
    assert directive["Dimensions"] == [["model", "engine"]]
    assert (line["model"], line["engine"]) == ("resnet18", "torch-fp32")
    names = {metric["Name"] for metric in directive["Metrics"]}
    assert all(isinstance(value, int | float) for name in names for value in np.atleast_1d(line[name]).tolist())
    assert {"CPUUtilization", "MemoryUsed", "QueueDepth", "Latency", "BatchSize"} <= names
    assert (line["Requests"], line["Requests2xx"], line["Requests4xx"], line["Requests5xx"]) == (4, 3, 1, 0)
    assert line["Statuses"] == {"200": 3, "400": 1}
    assert line["BatchSize"] == [1, 1, 1]
    assert len(line["Latency"]) == 3
    assert min(line["Latency"]) > 0
    assert line["LatencyP50"] == sorted(line["Latency"])[1]
    assert line["LatencyP99"] == max(line["Latency"])
