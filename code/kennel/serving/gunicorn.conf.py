"""gunicorn's settings, each with its reason. Workers and threads: one process holds one model."""

from typing import Any

from kennel.container.environment import BIND_HOST, BIND_TO_PORT, SERVER_TIMEOUT, number_variable, variable
from kennel.serving.app import EXTENSION
from kennel.serving.service import Settings
from kennel.serving.starting import Starter

bind = f"{variable(BIND_HOST, '0.0.0.0')}:{number_variable(BIND_TO_PORT, 8080)}"  # contract C1.3
workers = 1  # the batcher keeps all cores busy; a second process would hold a second copy of the model
worker_class = "kennel.serving.worker.Worker"  # gthread, in which no thread waits for a client
threads = Settings.max_requests + 16  # places beyond those that may wait for the model, so that /ping finds one (C1.4)
worker_connections = 900  # a process may have 1024 descriptors where nobody allows more, and dies of the next one
preload_app = True  # a model that cannot be loaded ends the server at once, with one message
timeout = max(60, number_variable(SERVER_TIMEOUT, 60))  # seconds without a sign of life from the worker (C1.7)
graceful_timeout = 25  # seconds for requests in work after SIGTERM; SIGKILL comes after 30 (contract C1.2)
keepalive = 75  # seconds; the platform keeps its connections open between two pings
worker_tmp_dir = "/dev/shm"  # heartbeats on a disk can stall
accesslog = None  # telemetry says more of a request, and nothing of pings (contract E8)
errorlog = "-"
loglevel = "warning"

starter = Starter()


def post_worker_init(worker: Any) -> None:
    """Start the model in the worker: threads do not survive a fork."""
    starter.start(worker.app.wsgi().extensions[EXTENSION])


def worker_exit(server: Any, worker: Any) -> None:
    """Let the worker say its last figures."""
    worker.app.wsgi().extensions[EXTENSION].stop()
