"""Packages that a model's own code requires, installed when a server starts (contract C2.4)."""

import logging
import os
import re
import subprocess
import sys
import sysconfig
import time
import venv
from importlib import metadata
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from kennel.container.environment import CODE_ARTIFACT, variable
from kennel.serving.scratch import make_scratch, remove_scratch
from kennel.serving.user_code import CODE, HandlerError

log = logging.getLogger(__name__)

REQUIREMENTS = "requirements.txt"
_ARN = re.compile(
    r"arn:[^:]+:codeartifact:(?P<region>[^:]+):(?P<owner>[^:]+):repository/(?P<domain>[^/]+)/(?P<repository>.+)"
)
_SAID = 5  # lines of pip's that are repeated when it fails


def install_requirements(folder: Path) -> Path | None:
    """Install what a model folder's `code/requirements.txt` lists; return the environment, None without such a file.

    The packages get an environment of their own above the server's, in the scratch space: what the server has need
    not be installed again, nothing of it is changed, the root may be read-only, and two models may differ. It is
    removed when this process ends, and before when pip fails. Raises HandlerError with pip's own reason.
    """
    file = folder / CODE / REQUIREMENTS
    if not file.is_file():
        return None
    began = time.monotonic()
    home = make_scratch("packages")
    venv.create(home, symlinks=True, system_site_packages=True)
    packages = packages_of(home)
    # the new environment sees the server's packages below its own
    (packages / "server.pth").write_text("".join(f"{path}\n" for path in sys.path if path and Path(path).is_dir()))
    try:
        _pip_install(home / "bin" / "python", file)
    except HandlerError:
        remove_scratch(home)
        raise
    log.info("installed requirements=%s; seconds=%.1f;", file, time.monotonic() - began)
    _say_what_is_loaded(packages)
    return home


def packages_of(environment: Path) -> Path:
    """Return where an environment has its packages."""
    base = str(environment)
    return Path(sysconfig.get_path("purelib", "venv", vars={"base": base, "platbase": base}))


def _pip_install(python: Path, file: Path) -> None:
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "-r", str(file)]
    environment = dict(os.environ)
    if arn := variable(CODE_ARTIFACT, ""):
        environment["PIP_INDEX_URL"] = code_artifact_index(arn)
    result = subprocess.run(
        command,
        cwd=file.parent,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode:
        lines = [line for line in result.stdout.splitlines() if line.strip()]
        reasons = [line for line in lines if "ERROR" in line] or lines
        raise HandlerError(
            f"{file} cannot be installed: {'; '.join(reasons[-_SAID:])} (an endpoint without a network cannot install "
            f"anything: put the packages into the model's {CODE} folder, or into the image)"
        )


def code_artifact_index(arn: str) -> str:
    """Return the URL of a repository of AWS CodeArtifact, with a token in it. Raises HandlerError."""
    parts = _ARN.fullmatch(arn)
    if not parts:
        raise HandlerError(
            f"{CODE_ARTIFACT} is {arn!r}; it should be arn:aws:codeartifact:REGION:ACCOUNT:repository/DOMAIN/REPOSITORY"
        )
    import boto3  # noqa: PLC0415 - it takes a while, and few need it

    domain = {"domain": parts["domain"], "domainOwner": parts["owner"]}
    try:
        client = boto3.client("codeartifact", region_name=parts["region"])
        token = client.get_authorization_token(**domain)["authorizationToken"]
        endpoint = client.get_repository_endpoint(**domain, repository=parts["repository"], format="pypi")
    except Exception as error:  # boto3 raises many types; the message is AWS's own
        raise HandlerError(f"{CODE_ARTIFACT} is {arn}, and AWS CodeArtifact gives no access to it: {error}") from error
    url = urlsplit(str(endpoint["repositoryEndpoint"]))
    place = f"aws:{quote(token, safe='')}@{url.netloc}"
    return urlunsplit((url.scheme, place, url.path.rstrip("/") + "/simple/", "", ""))


def _say_what_is_loaded(packages: Path) -> None:
    """Warn of packages that come too late: the server has loaded another version of them."""
    owners = metadata.packages_distributions()
    loaded = {owner.lower() for name in list(sys.modules) for owner in owners.get(name, [])}
    for found in metadata.distributions(path=[str(packages)]):
        if found.name.lower() in loaded:
            log.warning(
                "%s %s is required, and the server itself has loaded version %s, which stays",
                found.name,
                found.version,
                metadata.version(found.name),
            )
