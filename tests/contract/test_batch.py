"""Contract C4 and C5: batch transform, streamed answers and asynchronous endpoints, through the real `serve`."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from kennel.machine import available_cores
from tests.contract.bodies import b64, picture
from tests.contract.test_hosting import error
from tests.contract.test_robustness import check_all_threads_are_there, wait_for_work
from tests.contract.test_telemetry import line_of

LINES = "application/jsonlines"


def batch(count):
    """A batch of records of which every fifth is bad, and its good and bad places."""
    good = json.dumps(b64(picture()))
    bad = ["", "{", '{"b64": "%"}', json.dumps(b64(b"no photo"))]
    return "\n".join(bad[n // 5 % 4] if n % 5 == 4 else good for n in range(count)) + "\n"


def kinds(data):
    return ["error" if "error" in json.loads(line) else "answer" for line in data.splitlines()]


def expected_kinds(count):
    return ["error" if n % 5 == 4 else "answer" for n in range(count)]


# Batch transform


def parameters(server):
    answer = server.get("/execution-parameters")
    assert answer.status == 200
    return json.loads(answer.data)


@pytest.mark.process_only  # a container may have other cores than this process
def test_batch_transform_is_told_what_keeps_the_machine_at_work_c4_2(server):
    told = parameters(server)
    assert told["BatchStrategy"] == "MULTI_RECORD"
    assert told["MaxPayloadInMB"] == 6
    assert told["MaxConcurrentTransforms"] == min(16 + available_cores(), 100 // 6)


def test_what_the_job_asks_for_comes_first_c4_1_c4_2_c4_3(serve, random_model):
    asked = {"MAX_CONCURRENT_TRANSFORMS": "3", "BATCH_STRATEGY": "SINGLE_RECORD", "MAX_PAYLOAD_IN_MB": "0"}
    variables = {f"SAGEMAKER_{name}": value for name, value in asked.items()}
    server = serve(random_model, SAGEMAKER_BATCH="true", **variables).wait_until_ready()
    told = {"MaxConcurrentTransforms": 3, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 0}
    assert parameters(server) == told
    data = picture() + bytes(101 * 2**20)  # 0 megabytes mean bodies of any size, in chunks
    assert server.post(iter([data[:100], data[100:]]), "image/jpeg").status == 200


def test_as_many_requests_as_the_job_was_promised_are_answered_at_once_c4_2(serve, random_model):
    server = serve(random_model, SAGEMAKER_BATCH="true", SAGEMAKER_MAX_CONCURRENT_TRANSFORMS="100").wait_until_ready()
    assert parameters(server)["MaxConcurrentTransforms"] == 100
    body = batch(20)
    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda _: server.post(body, LINES, LINES), range(100)))
    assert [answer.status for answer in answers] == [200] * 100


@pytest.mark.parametrize("count", [7, 100])
def test_records_keep_their_number_and_their_order_c4_4(server, count):
    answer = server.post(batch(count), LINES, LINES)
    assert answer.status == 200
    assert kinds(answer.data) == expected_kinds(count)


def test_a_blank_line_is_a_record_and_the_end_of_the_last_line_is_none_c4_4(server):
    good = json.dumps(b64(picture()))
    for body, expected in (
        (f"{good}\n\n{good}\n", ["answer", "error", "answer"]),
        (f"\n{good}", ["error", "answer"]),
        (f"{good}\r\n", ["answer"]),
        (f"{good}\n\n", ["answer", "error"]),
        ("\n", ["error"]),
    ):
        answer = server.post(body, LINES, LINES)
        assert kinds(answer.data) == expected
    assert json.loads(answer.data) == {"error": "the line is blank"}


def test_what_an_asynchronous_endpoint_is_sent_is_read_c5_1(serve, random_model):
    variables = {"SAGEMAKER_MAX_PAYLOAD_IN_MB": "1024", "SAGEMAKER_MODEL_SERVER_TIMEOUT": "3600"}
    server = serve(random_model, **variables).wait_until_ready()
    data = picture() + bytes(150 * 2**20)  # a JPEG with a long tail is still that JPEG
    assert server.post(data, "image/jpeg").status == 200


# Streamed answers


def test_a_long_batch_is_answered_line_by_line_as_it_is_done_c5_3(server):
    before = server.metrics()
    answer = server.stream(batch(1200), LINES, LINES, X_Amzn_SageMaker_Inference_Id="streamed")
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert answer.headers["Content-Type"] == LINES
    assert "Server-Timing" not in answer.headers  # what it would say is not known yet
    first = answer.readline()
    assert server.metrics()["kennel_requests_in_work",] == 1
    data = first + answer.read()
    assert kinds(data) == expected_kinds(1200)
    line = line_of(server, "streamed")
    assert (line["status"], line["images"]) == (200, 1200)
    assert line["label"] in ("blue", "green", "red")
    assert line["forward_ms"] > 0
    assert "error" not in line
    after = server.metrics()
    assert after["kennel_batch_images_sum",] - before["kennel_batch_images_sum",] == 960
    assert after["kennel_requests_in_work",] == 0


def test_a_short_batch_and_another_answer_are_sent_whole_c5_3(server):
    for count, accept in ((20, LINES), (100, "application/json")):
        good = json.dumps(b64(picture()))
        answer = server.post("\n".join([good] * count), LINES, accept)
        assert answer.status == 200
        assert "Content-Length" in answer.headers
        assert "Server-Timing" in answer.headers


def test_what_refuses_a_whole_stream_does_so_with_a_status_c1_11_c5_3(server):
    answer = server.post(batch(100), LINES, "application/xml")
    assert answer.status == 406
    assert "application/xml" in error(answer)


def test_a_client_that_goes_away_in_a_stream_frees_its_place_c5_3(server):
    answer = server.stream(batch(3000), LINES, LINES, X_Amzn_SageMaker_Inference_Id="left")
    answer.readline()
    answer.close()
    line = line_of(server, "left")
    assert line["status"] == 499
    assert line["images"] < 3000
    wait_for_work(server, lambda requests: requests == 0)
    check_all_threads_are_there(server)
