"""Ask a model what is in pictures, wherever it runs, from Python.

predictor = ImagePredictor("dogs", on="aws")
predictor.predict("photo.jpg")[0].label
predictor.show("photo.jpg", true_label="beagle")
"""

import os
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from botocore.config import Config
from botocore.exceptions import ClientError
from PIL import Image
from rich.console import Console

from kennel.errors import KennelError
from kennel_cli.platforms.account import AwsError, aws_client
from kennel_cli.platforms.aws import AwsPlatform
from kennel_cli.platforms.choice import DOCKER, LOCAL
from kennel_cli.platforms.runtime import LocalSageMakerRuntime
from kennel_cli.prediction.answers import Answer, Prediction, PredictionError, accept_header, read_answer
from kennel_cli.prediction.asynchronous import AsyncTransport, output_of
from kennel_cli.prediction.drawing import draw_answer
from kennel_cli.prediction.in_process import ModelTransport
from kennel_cli.prediction.pictures import Picture, picture_bytes, picture_name, save_picture
from kennel_cli.prediction.retries import ATTEMPTS, retrying
from kennel_cli.prediction.transports import (
    AWS_LIMIT,
    SERVER_LIMIT,
    HttpTransport,
    Runtime,
    RuntimeTransport,
    Transport,
)
from kennel_cli.settings import kennel_home

__all__ = ["Answer", "ImagePredictor", "Picture", "Prediction", "PredictionError"]

AWS = "aws"
TOP_K = 5
THREADS = 8  # requests of `predict_many` at once


class ImagePredictor:
    """A model to ask: an endpoint, a server at an address, or a model folder that is run in this process.

    It may be asked by several threads at once. `close` lets go of a model folder's model; so does a `with` block.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        url: str | None = None,
        model_dir: str | os.PathLike[str] | None = None,
        on: str = "local",
        region: str | None = None,
        runtime: Runtime | None = None,
        attempts: int = ATTEMPTS,
        threads: int = THREADS,
    ) -> None:
        """Take one of `endpoint`, `url` and `model_dir`.

        An endpoint runs on this machine, or with `on="aws"` in `region`, that of the user's settings unless given; an
        asynchronous one is asked through its bucket. A `runtime` client other than theirs may be given. A model that
        is busy is asked up to `attempts` times in all. Raises KennelError for more or less than one model,
        AddressError, AwsError, or MissingPackages where a model folder cannot be run.
        """
        models = {"endpoint": endpoint, "url": url, "model_dir": model_dir}
        given = [name for name, value in models.items() if value]
        if len(given) != 1:
            raise KennelError(f"give one of endpoint, url and model_dir; given are {' and '.join(given) or 'none'}")
        if on not in (LOCAL, DOCKER, AWS):
            raise KennelError(f"on is {on!r}; it should be {LOCAL!r} for this machine's endpoints, or {AWS!r}")
        self._attempts = attempts
        self._threads = threads
        if endpoint:
            self._transport: Transport = (
                RuntimeTransport(runtime, endpoint, AWS_LIMIT if on == AWS else SERVER_LIMIT)
                if runtime
                else _endpoint_transport(endpoint, on, region, threads)
            )
        elif url:
            self._transport = HttpTransport(url, threads)
        else:
            self._transport = ModelTransport(Path(model_dir or ""))

    @property
    def place(self) -> str:
        """What was given: the endpoint's name, the address, or the folder."""
        return self._transport.place

    @property
    def limit(self) -> int:
        """How many bytes a picture's file may have."""
        return self._transport.limit

    def predict(self, picture: Picture, top_k: int = TOP_K) -> list[Prediction]:
        """Return the `top_k` most probable classes of a picture, the most probable first. Raises what `ask` does."""
        return self.ask(picture, top_k).predictions

    def predict_many(self, pictures: Iterable[Picture], top_k: int = TOP_K) -> list[list[Prediction]]:
        """Return what `predict` returns for each picture, in their order; several are asked for at once.

        Pictures are taken from the iterable when their turn comes. Raises the first error there is.
        """
        answers: list[list[Prediction]] = []
        asked: deque[Future[list[Prediction]]] = deque()
        with ThreadPoolExecutor(self._threads) as pool:
            for picture in pictures:
                if len(asked) == self._threads:
                    answers.append(asked.popleft().result())
                asked.append(pool.submit(self.predict, picture, top_k))
            answers += [future.result() for future in asked]
        return answers

    def show(
        self, picture: Picture, true_label: str | None = None, file: str | os.PathLike[str] | None = None
    ) -> Image.Image:
        """Return the picture with its five most probable classes as bars beside it, and save it to a `file`.

        The `true_label` stands above them: green with a tick when it is the first of them, red with a cross when it is
        not. Raises what `ask` does.
        """
        data = picture_bytes(picture)
        drawn = draw_answer(data, self._ask(data, picture_name(picture)).predictions, true_label)
        if file is not None:
            save_picture(drawn, Path(file))
        return drawn

    def ask(self, picture: Picture, top_k: int = TOP_K, explain: bool = False) -> Answer:
        """Return all that the model says of a picture: a path, a file's bytes, a PIL image, or H×W×3 uint8.

        With `explain` also where it sees the first class. Raises DataError when there is no such picture,
        PredictionError when the model refuses it or does not answer, and AwsError for what is wrong with the account.
        """
        return self._ask(picture_bytes(picture), picture_name(picture), top_k, explain)

    def _ask(self, data: bytes, name: str, top_k: int = TOP_K, explain: bool = False) -> Answer:
        accept = accept_header(top_k, explain)
        try:
            return read_answer(retrying(lambda: self._transport.post(data, accept), self._attempts))
        except PredictionError as error:
            raise PredictionError(f"{name}: {error}" if name else str(error), error.status) from error

    def close(self) -> None:
        """Let go of the model or the connections; the next picture opens them again."""
        self._transport.close()

    def __enter__(self) -> "ImagePredictor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _endpoint_transport(endpoint: str, on: str, region: str | None, threads: int) -> Transport:
    if on != AWS:
        return RuntimeTransport(LocalSageMakerRuntime(kennel_home()), endpoint, SERVER_LIMIT)
    session = AwsPlatform(Console(), {"region": region} if region else {}).session
    # boto3 would ask again too, and does not know which of a model's errors pass
    config = Config(retries={"total_max_attempts": 1}, read_timeout=70, max_pool_connections=threads)
    client: Runtime = aws_client(session, "sagemaker-runtime", config)
    try:
        # who may only ask an endpoint, or reaches no other service, is not kept waiting; a wrong name is told later
        once = Config(retries={"total_max_attempts": 1}, connect_timeout=3, read_timeout=10)
        output = output_of(aws_client(session, "sagemaker", once), endpoint)
    except (ClientError, AwsError):
        output = ""
    if output:
        return AsyncTransport(client, aws_client(session, "s3"), endpoint, output)
    return RuntimeTransport(client, endpoint, AWS_LIMIT)
