"""A model folder that answers in this process, through the server's own code."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kennel_cli.platforms.means import require_image_packages
from kennel_cli.prediction.answers import IMAGE, refused
from kennel_cli.prediction.transports import SERVER_LIMIT, retry_after

if TYPE_CHECKING:
    from flask import Flask


class ModelTransport:
    """The server's application without its network: answers, refusals and heat maps are those of an endpoint.

    The model is loaded for the first picture. What is in the folder's `code/inference.py` runs, as it does in a server.
    """

    limit = SERVER_LIMIT

    def __init__(self, folder: Path) -> None:
        """Take a model folder, with a kennel.json. Raises MissingPackages when only the light client is installed."""
        require_image_packages()
        self.place = str(folder)
        self._folder = folder
        self._lock = threading.Lock()
        self._app: Flask | None = None
        self._service: Any = None

    def post(self, body: bytes, accept: str) -> bytes:
        """See `Transport.post`. Raises ArtifactError where there is no model in the folder."""
        with self._lock:
            app = self._app = self._app or self._load()
        headers = {"Content-Type": IMAGE, "Accept": accept}
        with app.test_client().post("/invocations", data=body, headers=headers) as answer:
            data: bytes = answer.get_data()
            if answer.status_code >= 300:
                raise refused(answer.status_code, data, retry_after(answer.headers.get("Retry-After", "")))
        return data

    def _load(self) -> "Flask":
        import torch  # noqa: PLC0415 - slow, and not needed by the light client

        from kennel.serving.app import create_app  # noqa: PLC0415 - as above
        from kennel.serving.service import Settings, load_service  # noqa: PLC0415 - as above

        settings = Settings(explain=True)
        threads = torch.get_num_threads()
        try:
            self._service = load_service(self._folder, settings)
        finally:
            torch.set_num_threads(threads)  # a server needs one until it has forked; the caller's own work does not
        self._service.start()
        return create_app(self._service, settings)

    def close(self) -> None:
        """Let go of the model; the next picture loads it again."""
        with self._lock:
            if self._service is not None:
                self._service.close()
                self._service.stop()
            self._app = self._service = None
