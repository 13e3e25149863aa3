"""Which runner a job or an endpoint has asked for."""

from kennel_cli.platforms.docker import DockerRunner
from kennel_cli.platforms.runners import ProcessRunner, Runner
from kennel_cli.platforms.warm import WarmRunner

LOCAL = "local"  # as processes of this machine
WARM = "warm"  # as forks of the process that starts them: the tuner's trials
DOCKER = "docker"  # in containers


def choose_runner(name: str, image: str) -> Runner:
    """Return the runner of that name; a container is made from `image`. Raises ValueError for any other name."""
    if name == LOCAL:
        return ProcessRunner()
    if name == WARM:
        return WarmRunner()
    if name == DOCKER:
        return DockerRunner(image)
    raise ValueError(f"the runner is {name!r}; it should be {LOCAL} or {DOCKER}")
