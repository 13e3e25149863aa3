"""Train and deploy the image with AWS's own SageMaker SDK in local mode, unmodified: `make sdk-smoke`.

Runs in an environment of its own (requirements.txt beside this file), so it imports nothing of Kennel. The images are
a slice of dogs10 in the folder that KENNEL_TEST_DATA names.
"""

import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path

DEFAULT_DATA = Path(__file__).parents[2].parent / "shared" / "data"
IMAGES = {"train": 12, "valid": 4, "test": 3}  # a breed; enough for a frozen, pretrained backbone
HYPERPARAMETERS = {"backbone": "mobilenet_v2", "image_size": 128, "epochs": 3, "batch_size": 16}
REGION = "us-east-1"  # local mode wants one; nothing is asked of it


def main() -> None:
    """Train, deploy, predict, delete; a tick a line."""
    data = Path(os.environ.get("KENNEL_TEST_DATA") or DEFAULT_DATA)
    if not (data / "dogs10").is_dir():
        sys.exit(f"sdk-smoke: there is no {data / 'dogs10'}; name the folder of test data with KENNEL_TEST_DATA")
    image = os.environ.get("KENNEL_IMAGE") or "kennel"
    with tempfile.TemporaryDirectory(prefix="kennel-sdk-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        opt_out_of_telemetry(folder / "config.yaml")
        channels = lay_out(data, folder / "channels")
        run(image, folder, channels)


def opt_out_of_telemetry(file: Path) -> None:
    """Have the SDK report nothing to anybody; it reads this when it is imported."""
    file.write_text("SchemaVersion: '1.0'\nSageMaker:\n  PythonSDK:\n    Modules:\n      TelemetryOptOut: true\n")
    os.environ["SAGEMAKER_USER_CONFIG_OVERRIDE"] = str(file)


def lay_out(data: Path, target: Path) -> dict[str, Path]:
    """Copy a few images of each breed and the weights, and return the channels."""
    for split, count in IMAGES.items():
        for breed in sorted((data / "dogs10" / split).iterdir()):
            place = target / "training" / split / breed.name
            place.mkdir(parents=True)
            for image in sorted(breed.iterdir())[:count]:
                shutil.copy(image, place)
    (target / "pretrained").mkdir()
    shutil.copy(data / "mobilenet_v2_imagenet.pth", target / "pretrained")
    return {"training": target / "training", "pretrained": target / "pretrained"}


def run(image: str, folder: Path, channels: dict[str, Path]) -> None:
    """Do what a user of the SDK does."""
    import boto3
    import numpy as np
    from sagemaker.deserializers import JSONDeserializer
    from sagemaker.estimator import Estimator
    from sagemaker.local import LocalSession
    from sagemaker.serializers import IdentitySerializer

    account = boto3.Session(region_name=REGION, aws_access_key_id="none", aws_secret_access_key="none")
    session = LocalSession(boto_session=account)
    root = folder / "containers"
    root.mkdir()
    session.config = {"local": {"container_root": str(root), "serving_port": free_port()}}
    output = folder / "output"
    output.mkdir()
    estimator = Estimator(
        image_uri=image,
        role="arn:aws:iam::000000000000:role/none",
        instance_count=1,
        instance_type="local",
        output_path=f"file://{output}",
        hyperparameters=HYPERPARAMETERS,
        sagemaker_session=session,
    )
    estimator.fit({name: f"file://{channel}" for name, channel in channels.items()})
    tick(f"trained: {Path(estimator.model_data).name}")

    predictor = estimator.deploy(
        initial_instance_count=1,
        instance_type="local",
        serializer=IdentitySerializer("image/jpeg"),
        deserializer=JSONDeserializer(),
    )
    try:
        tick("deployed")
        breeds = sorted(entry.name for entry in (channels["training"] / "test").iterdir())
        pictures = sorted((channels["training"] / "test").rglob("*.jpg"))
        right = 0
        for picture in pictures:
            probabilities = predictor.predict(picture.read_bytes())
            right += breeds[int(np.argmax(probabilities, 1)[0])] == picture.parent.name
        tick(f"predicted: {right} of {len(pictures)} photos right")
        if right < len(pictures) / 2:
            sys.exit("sdk-smoke: that is too few")
    finally:
        predictor.delete_endpoint()
    tick("deleted")


def tick(text: str) -> None:
    """Print a line with a tick."""
    print(f"✓ {text}", flush=True)  # noqa: T201 - that is what it is for


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
