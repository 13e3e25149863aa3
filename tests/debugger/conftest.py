import pytest

from tests.debugger.trainings import Trials


@pytest.fixture(scope="session")
def trials(tmp_path_factory):
    return Trials(tmp_path_factory.mktemp("trials"))
