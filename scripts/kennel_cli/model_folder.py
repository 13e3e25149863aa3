"""Model folders of the user's: with another inference script, or packed."""

import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from kennel.errors import ArtifactError
from kennel_cli.platforms.store import write_tarball
from kennel_cli.settings import kennel_home


def is_model_folder(model: str) -> bool:
    """Return whether this is a folder with a model, and no job's name."""
    return (Path(model) / "kennel.json").is_file()


def with_code(fetch: Callable[[Path], Path], code: Path, name: str) -> Path:
    """Return a new model folder called `name`, below KENNEL_HOME, with the scripts of `code` as its `code/`.

    `fetch` returns a model folder or a `model.tar.gz`, and may put it into the folder that it is given. Raises
    ArtifactError when `code` has no inference.py.
    """
    if not (code / "inference.py").is_file():
        raise ArtifactError(f"there is no inference.py in {code}; give the folder that holds it")
    target = kennel_home() / "models" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as place:
        folder = Path(place, name)
        model = fetch(Path(place))
        if model.is_dir():
            shutil.copytree(model, folder)
        else:
            with tarfile.open(model) as tar:
                tar.extractall(folder, filter="data")
        shutil.rmtree(folder / "code", ignore_errors=True)
        shutil.copytree(code, folder / "code", ignore=shutil.ignore_patterns("__pycache__", ".*"))
        folder.rename(target)
    return target


def pack(folder: Path, name: str) -> Path:
    """Return a `model.tar.gz` of a folder, with the folder as its root (contract A2.8)."""
    file = kennel_home() / "models" / f"{name}.packed" / "model.tar.gz"
    write_tarball(folder, file)
    return file
