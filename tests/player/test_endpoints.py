import io
import json
import signal
import time

import numpy as np
import psutil
import pytest
from botocore.exceptions import ClientError, WaiterError
from PIL import Image

from kennel_cli import requests
from kennel_cli.settings import LOCAL


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


def test_a_models_environment_reaches_the_server(start, runtime, random_model):
    start(random_model, Environment={"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/csv"})
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
