"""What this machine must have before a runner can start programs on it."""

import importlib.util

from kennel.errors import KennelError
from kennel_cli.platforms.choice import DOCKER
from kennel_cli.platforms.docker import require_image
from kennel_cli.settings import LOCAL


class MissingPackages(KennelError):
    """The packages that the image holds are not installed here."""


def require_means(runner: str) -> None:
    """Raise MissingPackages or DockerError when this machine lacks what the runner starts the programs with."""
    if runner == DOCKER:
        require_image(LOCAL.image)
    else:
        require_image_packages()


def require_tuner() -> None:
    """Raise MissingPackages when this machine lacks what its own tuner proposes trials with."""
    if importlib.util.find_spec("optuna") is None:
        raise MissingPackages(
            "optuna is not installed, which a search on this machine needs; "
            "install it with `pip install optuna`, or take --in-one-job or --on aws"
        )


def require_image_packages(*more: str, instead: str = ", or take --on docker") -> None:
    """Raise MissingPackages when only the light client is installed, or one of `more` is missing.

    `instead` is what a user can do beside installing them.
    """
    needed = ("torch", "sagemaker_training", "gunicorn", *more)
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackages(
            f"{', '.join(missing)} is not installed, which jobs on this machine need; "
            f"install it with `make setup`, or pip install '.[image,demo]'{instead}"
        )
