"""What a job wrote about its test images is what the endpoint answers."""

import csv
import json

import numpy as np
import pytest

from kennel_cli.endpoints import Served, delete_endpoint, start_endpoint, wait_until_in_service
from kennel_cli.platforms.local_platform import LocalPlatform


@pytest.mark.parametrize("hyperparameters", [{}, {"unfreeze": "all", "test_time_augment": "flip"}])
def test_served_probabilities_are_those_that_the_job_wrote(
    sagemaker, runtime, request_for, finish, colour_images, hyperparameters
):
    sagemaker.create_training_job(**request_for(epochs="2", learning_rate="0.005", **hyperparameters))
    finish()
    platform = LocalPlatform(sagemaker.home)
    endpoint = start_endpoint(platform, Served("job"), None)
    try:
        wait_until_in_service(platform, endpoint)
        with (sagemaker.training_folder("job") / "ml/output/data/test_predictions.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 9
        for row in rows:
            body = (colour_images / "test" / row["image"]).read_bytes()
            answer = runtime.invoke_endpoint(EndpointName=endpoint, ContentType="image/png", Body=body)
            served = np.asarray(json.loads(answer["Body"].read()))[0]
            written = [float(row[f"p({name})"]) for name in ("blue", "green", "red")]
            assert np.abs(served - written).max() < 1e-3
    finally:
        delete_endpoint(platform, endpoint)
