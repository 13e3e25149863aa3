"""Fixtures that all tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import tests.engine  # noqa: F401 - the first to be imported, by the process that starts the workers
from tests.samples import SMALL_BACKBONE, save_random_model, save_random_weights, write_colour_images

# these take minutes each: they are begun first, so that no core waits for them at the end
_LONG = (
    "test_dogs10.py",
    "aws/test_story.py",
    "player/tuning/test_searches.py",
    "fuzz/test_requests.py",
    "player/test_notebook.py",
    "player/test_tune.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest; the others stay in their order."""
    items.sort(key=lambda item: next((i for i, name in enumerate(_LONG) if item.path.match(name)), len(_LONG)))


@pytest.fixture(scope="session", autouse=True)
def no_downloads() -> Iterator[None]:
    """Let jobs find no network where torchvision's weights are, so that tests are alike with one and without."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KENNEL_WEIGHTS_URL", "http://127.0.0.1:1")
        yield


@pytest.fixture(scope="session")
def colour_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colour_images(tmp_path_factory.mktemp("data") / "colours")


@pytest.fixture(scope="session")
def resnet18_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict of torchvision's resnet18 as its users have it, with 1,000 classes; the values are random."""
    return save_random_weights(tmp_path_factory.mktemp("weights"), "resnet18")


@pytest.fixture(scope="session")
def small_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of the backbone that small jobs have."""
    return save_random_weights(tmp_path_factory.mktemp("weights"), SMALL_BACKBONE)


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("model") / "random")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real photos and weights; tests that need it skip where it is not."""
    default = Path(__file__).parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("KENNEL_TEST_DATA", default))
    if not (folder / "dogs10").is_dir():
        pytest.skip(f"no test data in {folder}; name its folder with KENNEL_TEST_DATA")
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A KENNEL_HOME of its own."""
    monkeypatch.setenv("KENNEL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"
