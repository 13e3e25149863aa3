"""gunicorn's settings, each with its reason, and what happens at the turning points of a worker's life."""

import os
from typing import Any

from prometheus_client.multiprocess import mark_process_dead

from kennel.container.environment import BIND_HOST, BIND_TO_PORT, number_variable, server_timeout, variable
from kennel.serving.app import EXTENSION
from kennel.serving.batch_transform import most_requests
from kennel.serving.processes import free_place, take_gpu, worker_processes
from kennel.serving.service import Settings
from kennel.serving.shared import memory_folder
from kennel.serving.starting import Starter

bind = f"{variable(BIND_HOST, '0.0.0.0')}:{number_variable(BIND_TO_PORT, 8080)}"  # contract C1.3
workers = worker_processes()  # contract C2.1
worker_class = "kennel.serving.worker.Worker"  # gthread, in which no thread waits for a client
# places beyond those that may wait for the model, so that /ping finds one (C1.4)
threads = most_requests(Settings.max_requests) + 16
worker_connections = 900  # a process may have 1024 descriptors where nobody allows more, and dies of the next one
preload_app = True  # a model that cannot be loaded ends the server at once, with one message
timeout = max(60, server_timeout(60))  # seconds without a sign of life from a worker (C1.7)
graceful_timeout = 25  # seconds for requests in work after SIGTERM; SIGKILL comes after 30 (contract C1.2)
keepalive = 75  # seconds; the platform keeps its connections open between two pings
worker_tmp_dir = memory_folder()  # heartbeats on a disk can stall
control_socket_disable = True  # one in the home of the user would be that of all servers of this machine
accesslog = None  # telemetry says more of a request, and nothing of pings (contract E8)
errorlog = "-"
loglevel = "warning"

starter = Starter()


def pre_fork(server: Any, worker: Any) -> None:
    """Give a worker the place of one that has ended, or a new one."""
    worker.place = free_place({other.place for other in server.WORKERS.values()})


def post_fork(server: Any, worker: Any) -> None:
    """Give a worker its GPU before it can have seen any."""
    take_gpu(worker.place)


def post_worker_init(worker: Any) -> None:
    """Start the model in the worker: threads do not survive a fork."""
    starter.start(worker.app.wsgi().extensions[EXTENSION])


def worker_exit(server: Any, worker: Any) -> None:
    """Let the worker say its last figures."""
    if os.getpid() == worker.pid:
        worker.app.wsgi().extensions[EXTENSION].stop()


def child_exit(server: Any, worker: Any) -> None:
    """Forget what a worker was doing when it ended; what it has done still counts."""
    mark_process_dead(worker.pid)
