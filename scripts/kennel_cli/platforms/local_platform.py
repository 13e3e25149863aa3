"""The user's machine as a place where jobs run: LocalSageMaker, links instead of uploads, log files."""

from pathlib import Path

from kennel.errors import DataError
from kennel_cli.platforms.choice import LOCAL
from kennel_cli.platforms.local import LocalSageMaker
from kennel_cli.platforms.logs import new_lines
from kennel_cli.platforms.means import require_means
from kennel_cli.platforms.platform import S3
from kennel_cli.settings import LOCAL as LOCAL_SETTINGS


class LocalPlatform:
    """Jobs of this machine, kept below `home`; new ones run with `runner`, a name that `choose_runner` knows."""

    poll = 0.2
    log_delay = 0.0
    option = ""
    settings = LOCAL_SETTINGS

    def __init__(self, home: Path, runner: str = LOCAL) -> None:
        self.sagemaker = LocalSageMaker(home, runner)

    def require_means(self) -> None:
        """Raise MissingPackages or DockerError when this machine lacks what jobs run with."""
        require_means(self.sagemaker.runner)

    def channel_uri(self, source: str) -> str:
        """Return the URI of a path, linked or not. Raises DataError for a URI under which nothing lies here."""
        store = self.sagemaker.store
        if not source.startswith(S3):
            return store.link_uri(Path(source), self.settings.bucket)
        try:
            file = store.path(source)
        except ValueError as error:
            raise DataError(f"{error}; give a folder or a file, or a URI such as s3://bucket/folder") from error
        if not file.exists():
            raise DataError(f"{source} is not on this machine ({file}); give a folder or a file, or take --on aws")
        return source

    def channel(self, source: str) -> str:
        """Link a file or folder into the local S3, and return its URI."""
        uri = self.channel_uri(source)
        return uri if source.startswith(S3) else self.sagemaker.store.link(Path(source), self.settings.bucket)

    def read_log(self, job: str, position: int | None, ended: bool) -> tuple[list[str], int]:
        """Return the lines after `position`, a count of bytes; none while there is no log."""
        return new_lines(self.sagemaker.training_log(job), position or 0, unfinished=ended)

    def fetch(self, uri: str, folder: Path) -> Path:
        """Return the artifact itself."""
        return self.sagemaker.store.path(uri)

    def locate(self, uri: str) -> str:
        """Return the path of an artifact."""
        return str(self.sagemaker.store.path(uri))

    def endpoint_url(self, endpoint: str) -> str:
        """Return the address of an endpoint in service. Raises ClientError when it is not."""
        return self.sagemaker.endpoint_url(endpoint)

    def endpoint_log(self, endpoint: str) -> list[str]:
        """Return the lines of an endpoint's log."""
        log = self.sagemaker.endpoint_log(endpoint)
        return log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
