"""The user's machine as a place where jobs run: LocalSageMaker, links instead of uploads, log files."""

import tempfile
from pathlib import Path

from botocore.exceptions import ClientError
from rich.console import Console

from kennel.errors import DataError
from kennel_cli.platforms.aws import AwsPlatform
from kennel_cli.platforms.choice import LOCAL
from kennel_cli.platforms.local import LocalSageMaker
from kennel_cli.platforms.logs import new_lines
from kennel_cli.platforms.means import require_means
from kennel_cli.platforms.platform import S3, Kind
from kennel_cli.platforms.store import short_digest
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
        """Return the URI of a path, linked or not, or of what lies in a bucket, downloaded or not.

        Raises DataError for a URI under which nothing can lie.
        """
        if not source.startswith(S3):
            return self.sagemaker.store.link_uri(Path(source), self.settings.bucket)
        file = self._file(source)
        if file.exists():
            return source
        if source.startswith(f"{S3}{self.settings.bucket}/"):
            raise DataError(f"{source} is not on this machine ({file}); give a folder or a file")
        plain = source.rstrip("/")  # in a place of its own: a part of it may be there for another job
        return f"{S3}{self.settings.bucket}/downloaded/{short_digest(plain)}/{plain.rpartition('/')[2]}"

    def channel(self, source: str) -> str:
        """Link a file or folder into the local S3, and return its URI.

        What lies in a bucket on AWS is downloaded once, and kept below `home`. Raises DataError where nothing lies
        there, and AwsError where that cannot be known.
        """
        uri = self.channel_uri(source)
        if not source.startswith(S3):
            return self.sagemaker.store.link(Path(source), self.settings.bucket)
        if not self._file(uri).exists():
            self._download(source, self._file(uri))
        return uri

    def _file(self, uri: str) -> Path:
        try:
            return self.sagemaker.store.path(uri)
        except ValueError as error:
            raise DataError(f"{error}; give a folder or a file, or a URI such as s3://bucket/folder") from error

    def _download(self, uri: str, target: Path) -> None:
        """Copy an object, or all below a URI, from AWS to where jobs find it; in full or not at all."""
        aws = AwsPlatform(Console(stderr=True))
        folder = f"{uri.rstrip('/')}/"
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as place:
            try:
                aws.fetch(folder if aws.names(folder) else uri, Path(place)).rename(target)
            except ClientError as error:
                reason = error.response["Error"].get("Message") or str(error)
                raise DataError(f"{uri} is neither on this machine nor on AWS: {reason}; give a folder") from error

    def read_log(self, name: str, position: int | None, ended: bool, of: Kind = Kind.TRAINING) -> tuple[list[str], int]:
        """Return the lines after `position`, a count of bytes; none while there is no log."""
        files = {
            Kind.TRAINING: self.sagemaker.training_log,
            Kind.ENDPOINT: self.sagemaker.endpoint_log,
            Kind.TRANSFORM: self.sagemaker.transform_log,
        }
        return new_lines(files[of](name), position or 0, unfinished=ended)

    def fetch(self, uri: str, folder: Path) -> Path:
        """Return the artifact itself."""
        return self.sagemaker.store.path(uri)

    def names(self, uri: str) -> list[str]:
        """Return the names of the files below a URI, or that of the one file there is."""
        return self.sagemaker.store.names(uri)

    def locate(self, uri: str) -> str:
        """Return the path of an artifact."""
        return str(self.sagemaker.store.path(uri))

    def page(self, kind: Kind, name: str) -> str:
        """Return "": this machine has no such pages."""
        return ""

    def endpoint_url(self, endpoint: str) -> str:
        """Return the address of an endpoint in service. Raises ClientError when it is not."""
        return self.sagemaker.endpoint_url(endpoint)
