import contextlib
import io
import json
import signal
import socket
import threading
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import psutil
import pytest
from botocore.exceptions import ClientError, WaiterError
from PIL import Image

from kennel_cli import requests
from kennel_cli.platforms.endpoint_keeper import SWITCH_GRACE
from kennel_cli.platforms.store import write_tarball
from kennel_cli.settings import LOCAL
from tests.samples import save_random_model


def jpeg():
    file = io.BytesIO()
    Image.new("RGB", (60, 40), "red").save(file, "JPEG")
    return file.getvalue()


def error_of(call, **request):
    with pytest.raises(ClientError) as caught:
        call(**request)
    return caught.value.response


@pytest.fixture
def start(sagemaker):
    """Create model, configuration and endpoint of one name; all endpoints end with the test."""
    started = []

    def create(folder, name="endpoint", wait=True, **container):
        uri = sagemaker.store.link(folder, LOCAL.bucket)
        model = requests.model_from_folder(name, uri, LOCAL)
        model["PrimaryContainer"] |= container
        sagemaker.create_model(**model)
        sagemaker.create_endpoint_config(**requests.endpoint_config(name, name, LOCAL))
        sagemaker.create_endpoint(**requests.endpoint(name, name))
        started.append(name)
        if wait:
            sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name)

    yield create
    for name in started:
        try:
            sagemaker.delete_endpoint(EndpointName=name)
        except ClientError:
            continue  # the test has deleted it
        sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name)


@pytest.fixture(scope="module")
def two_classes(tmp_path_factory):
    """A model whose answers are told from those of `random_model`, which has three classes."""
    return save_random_model(tmp_path_factory.mktemp("model") / "two", classes=2)


@pytest.fixture
def configure(sagemaker):
    """Create a model and a configuration of one name, for an endpoint to be updated to."""

    def create(folder, name="new"):
        uri = sagemaker.store.link(folder, LOCAL.bucket)
        sagemaker.create_model(**requests.model_from_folder(name, uri, LOCAL))
        sagemaker.create_endpoint_config(**requests.endpoint_config(name, name, LOCAL))
        return name

    return create


@pytest.fixture
def update(sagemaker, configure):
    """Update the endpoint to a new configuration for a model folder, wait, and return its description."""

    def change(folder, name="new"):
        sagemaker.update_endpoint(EndpointName="endpoint", EndpointConfigName=configure(folder, name))
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="endpoint")
        return sagemaker.describe_endpoint(EndpointName="endpoint")

    return change


def classes_seen(runtime):
    """Ask the endpoint; return how many classes its model knows."""
    answer = runtime.invoke_endpoint(EndpointName="endpoint", ContentType="image/jpeg", Body=jpeg())
    return len(json.loads(answer["Body"].read())[0])


def servers(sagemaker):
    """Return the processes of this player's servers, each with its /opt/ml."""
    found = {}
    for process in psutil.process_iter():
        try:
            tree = process.environ().get("SAGEMAKER_BASE_DIR", "")
        except psutil.Error:
            continue
        if tree.startswith(str(sagemaker.home)):
            found[process] = tree
    return found


def test_the_clients_code_of_the_usual_write_up_works_unchanged(start, runtime, random_model):
    start(random_model)
    payload = jpeg()
    response = runtime.invoke_endpoint(EndpointName="endpoint", ContentType="image/jpeg", Body=payload)
    answer = np.asarray(json.loads(response["Body"].read().decode()))
    assert np.argmax(answer, 1).tolist() in ([0], [1], [2])
    assert response["ContentType"] == "application/json"
    assert response["InvokedProductionVariant"] == "AllTraffic"


def test_an_endpoint_comes_into_service_and_goes_away(sagemaker, start, random_model):
    start(random_model, wait=False)
    assert sagemaker.describe_endpoint(EndpointName="endpoint")["EndpointStatus"] == "Creating"
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="endpoint")
    [summary] = sagemaker.list_endpoints(StatusEquals="InService")["Endpoints"]
    assert summary["EndpointName"] == "endpoint"
    sagemaker.delete_endpoint(EndpointName="endpoint")
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName="endpoint")
    assert sagemaker.list_endpoints()["Endpoints"] == []
    assert (
        "Could not find endpoint" in error_of(sagemaker.describe_endpoint, EndpointName="endpoint")["Error"]["Message"]
    )


def test_attributes_accept_and_files_pass_through(start, runtime, random_model):
    start(random_model)
    response = runtime.invoke_endpoint(
        EndpointName="endpoint",
        ContentType="image/jpeg",
        Accept="text/csv",
        CustomAttributes="trace=1",
        Body=io.BytesIO(jpeg()),
    )
    assert response["CustomAttributes"] == "trace=1"
    assert len(response["Body"].read().decode().split(",")) == 3


def test_a_refusal_of_the_model_is_a_model_error_with_its_status_and_words_c1_11(start, runtime, random_model):
    start(random_model)
    response = error_of(runtime.invoke_endpoint, EndpointName="endpoint", ContentType="image/jpeg", Body=b"nothing")
    assert response["Error"]["Code"] == "ModelError"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert response["OriginalStatusCode"] == 422
    assert "not an image" in response["OriginalMessage"]


def test_an_endpoint_that_is_not_there_is_a_validation_error(runtime):
    assert (
        "Could not find endpoint" in error_of(runtime.invoke_endpoint, EndpointName="no", Body=b"")["Error"]["Message"]
    )


def test_a_model_that_cannot_be_served_fails_the_endpoint_with_the_reason(sagemaker, start, tmp_path):
    (tmp_path / "empty").mkdir()
    start(tmp_path / "empty", wait=False)
    with pytest.raises(WaiterError):
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="endpoint")
    description = sagemaker.describe_endpoint(EndpointName="endpoint")
    assert description["EndpointStatus"] == "Failed"
    assert "holds no Kennel model" in description["FailureReason"]


def test_a_failed_endpoint_can_be_deleted_at_once(sagemaker, start, tmp_path):
    (tmp_path / "empty").mkdir()
    start(tmp_path / "empty", wait=False)
    while sagemaker.describe_endpoint(EndpointName="endpoint")["EndpointStatus"] == "Creating":
        pass
    sagemaker.delete_endpoint(EndpointName="endpoint")
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName="endpoint")
    assert sagemaker.list_endpoints()["Endpoints"] == []


def test_a_player_with_a_home_of_its_own_needs_no_variable(tmp_path, random_model, monkeypatch):
    from kennel_cli.platforms.local import LocalSageMaker

    monkeypatch.setenv("KENNEL_HOME", str(tmp_path / "unused"))
    sagemaker = LocalSageMaker(tmp_path / "own")
    uri = sagemaker.store.link(random_model, LOCAL.bucket)
    sagemaker.create_model(**requests.model_from_folder("m", uri, LOCAL))
    sagemaker.create_endpoint_config(**requests.endpoint_config("c", "m", LOCAL))
    sagemaker.create_endpoint(**requests.endpoint("e", "c"))
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="e")
    sagemaker.delete_endpoint(EndpointName="e")
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName="e")
    assert not (tmp_path / "unused").exists()


def test_an_endpoint_whose_keeper_is_gone_has_failed_and_can_be_deleted(sagemaker, start, random_model):
    start(random_model)
    [keeper] = [p for p in psutil.process_iter(["cmdline"]) if str(sagemaker.home) in " ".join(p.info["cmdline"] or [])]
    programs = keeper.children(recursive=True)
    keeper.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while sagemaker.describe_endpoint(EndpointName="endpoint")["EndpointStatus"] != "Failed":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert psutil.wait_procs(programs, timeout=40)[1] == []
    sagemaker.delete_endpoint(EndpointName="endpoint")
    assert sagemaker.list_endpoints()["Endpoints"] == []


def test_a_models_environment_reaches_the_server_but_for_the_port(start, runtime, random_model):
    start(
        random_model,
        Environment={"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/csv", "SAGEMAKER_BIND_TO_PORT": "1"},
    )
    response = runtime.invoke_endpoint(EndpointName="endpoint", ContentType="image/jpeg", Body=jpeg())
    assert response["ContentType"].startswith("text/csv")


def test_names_are_taken_and_things_unknown_are_not_found(sagemaker, random_model):
    uri = sagemaker.store.link(random_model, LOCAL.bucket)
    sagemaker.create_model(**requests.model_from_folder("m", uri, LOCAL))
    taken = error_of(sagemaker.create_model, **requests.model_from_folder("m", uri, LOCAL))
    assert "Cannot create already existing Model m" in taken["Error"]["Message"]
    assert [model["ModelName"] for model in sagemaker.list_models()["Models"]] == ["m"]
    assert sagemaker.describe_model(ModelName="m")["PrimaryContainer"]["Image"] == LOCAL.image
    sagemaker.delete_model(ModelName="m")
    for call, request in (
        (sagemaker.describe_model, {"ModelName": "m"}),
        (sagemaker.delete_endpoint_config, {"EndpointConfigName": "c"}),
        (sagemaker.create_endpoint, requests.endpoint("e", "c")),
        (sagemaker.delete_endpoint, {"EndpointName": "e"}),
    ):
        assert "Could not find" in error_of(call, **request)["Error"]["Message"]


def test_an_endpoint_with_two_variants_is_refused(sagemaker, random_model):
    config = requests.endpoint_config("c", "m", LOCAL)
    config["ProductionVariants"].append({**config["ProductionVariants"][0], "VariantName": "Other"})
    sagemaker.create_endpoint_config(**config)
    answer = error_of(sagemaker.create_endpoint, **requests.endpoint("e", "c"))
    assert "one variant" in answer["Error"]["Message"]


# Updates


def test_a_client_that_asks_all_the_time_sees_the_old_model_then_the_new_and_never_an_error(
    sagemaker, start, runtime, random_model, two_classes, configure
):
    start(random_model)
    config, seen, enough = configure(two_classes), [], threading.Event()

    def ask():
        while not enough.is_set():
            try:
                seen.append(classes_seen(runtime))
            except ClientError as error:
                seen.append(error)

    client = threading.Thread(target=ask)
    client.start()
    try:
        before = sagemaker.describe_endpoint(EndpointName="endpoint")
        answer = sagemaker.update_endpoint(EndpointName="endpoint", EndpointConfigName=config)
        assert answer["EndpointArn"] == before["EndpointArn"]
        during = sagemaker.describe_endpoint(EndpointName="endpoint")
        assert (during["EndpointStatus"], during["EndpointConfigName"]) == ("Updating", "endpoint")
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="endpoint")
        time.sleep(0.5)
    finally:
        enough.set()
        client.join()
    switch = seen.index(2)
    assert seen == [3] * switch + [2] * (len(seen) - switch)
    assert switch > 0
    after = sagemaker.describe_endpoint(EndpointName="endpoint")
    assert after["EndpointConfigName"] == "new"
    assert after["CreationTime"] == before["CreationTime"]
    assert after["LastModifiedTime"] > before["LastModifiedTime"]
    assert "FailureReason" not in after


def test_one_server_and_one_log_are_left_after_two_updates(
    sagemaker, start, runtime, random_model, two_classes, update
):
    start(random_model)
    update(two_classes)
    assert update(random_model, "newest")["EndpointConfigName"] == "newest"
    assert classes_seen(runtime) == 3
    assert len(set(servers(sagemaker).values())) == 1
    log = sagemaker.endpoint_log("endpoint")
    assert log.read_text().count("ready engine=") == 3
    assert len([entry for entry in log.parent.iterdir() if entry.is_dir()]) == 1  # one /opt/ml


def test_a_request_in_work_is_answered_by_the_old_server_c1_2(sagemaker, start, random_model, two_classes, configure):
    start(random_model)
    old = sagemaker.endpoint_url("endpoint")
    body = jpeg()
    head = f"POST /invocations HTTP/1.0\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(old.rpartition(":")[2])), timeout=60) as slow:
        slow.sendall(head.encode() + body[:100])
        sagemaker.update_endpoint(EndpointName="endpoint", EndpointConfigName=configure(two_classes))
        while sagemaker.endpoint_url("endpoint") == old:
            time.sleep(0.05)
        time.sleep(SWITCH_GRACE + 1)  # the old server has got its SIGTERM
        assert sagemaker.describe_endpoint(EndpointName="endpoint")["EndpointStatus"] == "Updating"
        slow.sendall(body[100:])
        answer = slow.makefile("rb").read()
    assert answer.split(b"\r\n")[0].endswith(b"200 OK")
    assert len(json.loads(answer.rpartition(b"\r\n\r\n")[2])[0]) == 3
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="endpoint")


def test_a_client_with_an_address_that_an_update_has_changed_is_answered(
    sagemaker, start, runtime, random_model, two_classes, update, monkeypatch
):
    start(random_model)
    old, read = sagemaker.endpoint_url("endpoint"), runtime._sagemaker.endpoint_url
    update(two_classes)
    addresses = iter([old])
    monkeypatch.setattr(runtime._sagemaker, "endpoint_url", lambda name: next(addresses, None) or read(name))
    assert classes_seen(runtime) == 2


def test_a_new_model_that_cannot_be_served_leaves_the_old_one_in_service(
    sagemaker, start, runtime, random_model, two_classes, update, tmp_path
):
    start(random_model)
    (tmp_path / "empty").mkdir()
    description = update(tmp_path / "empty", "bad")
    assert (description["EndpointStatus"], description["EndpointConfigName"]) == ("InService", "endpoint")
    assert "was not updated to bad and serves as before" in description["FailureReason"]
    assert "holds no Kennel model" in description["FailureReason"]
    assert classes_seen(runtime) == 3

    (tmp_path / "empty").rmdir()
    sagemaker.update_endpoint(EndpointName="endpoint", EndpointConfigName="bad")
    assert "FailureReason" not in sagemaker.describe_endpoint(EndpointName="endpoint")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="endpoint")
    assert "could not find model data" in sagemaker.describe_endpoint(EndpointName="endpoint")["FailureReason"]

    description = update(two_classes)
    assert (description["EndpointConfigName"], description.get("FailureReason")) == ("new", None)
    assert classes_seen(runtime) == 2


def test_a_model_that_was_cut_off_leaves_the_old_one_in_service(start, runtime, random_model, update, tmp_path):
    start(random_model)
    write_tarball(random_model, tmp_path / "whole.tar.gz")
    whole = (tmp_path / "whole.tar.gz").read_bytes()
    (tmp_path / "model.tar.gz").write_bytes(whole[: len(whole) // 2])
    description = update(tmp_path / "model.tar.gz", "bad")
    assert (description["EndpointStatus"], description["EndpointConfigName"]) == ("InService", "endpoint")
    assert "is no readable tar file: Compressed file ended" in description["FailureReason"]
    assert classes_seen(runtime) == 3


def test_an_update_that_fails_when_the_old_server_has_died_fails_the_endpoint(
    sagemaker, start, random_model, configure, tmp_path
):
    start(random_model)
    (tmp_path / "empty").mkdir()
    sagemaker.update_endpoint(EndpointName="endpoint", EndpointConfigName=configure(tmp_path / "empty"))
    for process in servers(sagemaker):
        process.kill()
    with pytest.raises(WaiterError):
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="endpoint")
    assert sagemaker.describe_endpoint(EndpointName="endpoint")["EndpointStatus"] == "Failed"


def test_an_endpoint_deleted_while_it_is_updated_leaves_no_server(
    sagemaker, start, random_model, two_classes, configure
):
    start(random_model)
    sagemaker.update_endpoint(EndpointName="endpoint", EndpointConfigName=configure(two_classes))
    while len(set(servers(sagemaker).values())) < 2:
        time.sleep(0.05)
    both = servers(sagemaker)
    sagemaker.delete_endpoint(EndpointName="endpoint")
    with contextlib.suppress(ClientError):  # it is gone already
        assert sagemaker.describe_endpoint(EndpointName="endpoint")["EndpointStatus"] == "Deleting"
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName="endpoint")
    assert not any(process.is_running() for process in both)
    assert servers(sagemaker) == {}


def test_an_endpoint_whose_keeper_is_gone_while_it_is_updated_has_failed(
    sagemaker, start, random_model, two_classes, configure
):
    start(random_model)
    sagemaker.update_endpoint(EndpointName="endpoint", EndpointConfigName=configure(two_classes))
    running = servers(sagemaker)
    [keeper] = {process.parent() for process in running} - set(running)
    keeper.send_signal(signal.SIGKILL)
    psutil.wait_procs([keeper], timeout=10)
    assert sagemaker.describe_endpoint(EndpointName="endpoint")["EndpointStatus"] == "Failed"
    assert psutil.wait_procs(servers(sagemaker), timeout=40)[1] == []


def test_an_update_is_refused_with_the_reason(sagemaker, start, random_model, configure):
    def refusal(**request):
        error = error_of(sagemaker.update_endpoint, **{**requests.endpoint("endpoint", "new"), **request})["Error"]
        assert error["Code"] == "ValidationException"
        return error["Message"]

    assert "Could not find endpoint" in refusal()
    start(random_model, wait=False)
    assert 'Could not find EndpointConfig "new"' in refusal()
    configure(random_model)
    assert "it is Creating; wait until it is InService" in refusal()
    config = requests.endpoint_config("pair", "new", LOCAL)
    config["ProductionVariants"].append({**config["ProductionVariants"][0], "VariantName": "Other"})
    sagemaker.create_endpoint_config(**config)
    assert "one variant; pair has 2" in refusal(EndpointConfigName="pair")
    assert "RetainAllVariantProperties is not available locally" in refusal(RetainAllVariantProperties=True)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="endpoint")
    sagemaker.update_endpoint(**requests.endpoint("endpoint", "new"), RetainAllVariantProperties=False)
    assert "it is Updating; wait until it is InService" in refusal()
    sagemaker.delete_endpoint(EndpointName="endpoint")
    said = refusal()
    assert "it is Deleting" in said or "Could not find endpoint" in said  # it ends in less than a second


def test_a_failed_endpoint_is_not_updated(sagemaker, start, random_model, configure, tmp_path):
    (tmp_path / "empty").mkdir()
    start(tmp_path / "empty", wait=False)
    while sagemaker.describe_endpoint(EndpointName="endpoint")["EndpointStatus"] == "Creating":
        time.sleep(0.05)
    error = error_of(sagemaker.update_endpoint, **requests.endpoint("endpoint", configure(random_model)))["Error"]
    assert "it is Failed; delete it and create it again" in error["Message"]


# Lists


def test_endpoints_are_listed_by_their_times(sagemaker, start, tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("first", "second"):
        start(tmp_path / "empty", name, wait=False, ModelDataSource={})
        while sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "Creating":
            time.sleep(0.05)
    first, second = (sagemaker.describe_endpoint(EndpointName=name) for name in ("first", "second"))

    def names(**request):
        return [endpoint["EndpointName"] for endpoint in sagemaker.list_endpoints(**request)["Endpoints"]]

    for time_of in ("CreationTime", "LastModifiedTime"):
        assert names(**{f"{time_of}After": first[time_of]}) == ["second"]
        assert names(**{f"{time_of}Before": second[time_of]}) == ["first"]
        assert names(**{f"{time_of}Before": first[time_of]}) == []
        later = datetime.now(UTC) + timedelta(hours=1)
        assert names(**{f"{time_of}Before": later.replace(tzinfo=None)}) == [
            "second",
            "first",
        ]  # UTC, as boto3 takes it
    error = error_of(sagemaker.list_endpoints, NextToken="later")["Error"]
    assert (error["Code"], error["Message"]) == (
        "ValidationException",
        "'later' is no NextToken of an earlier answer.",
    )
