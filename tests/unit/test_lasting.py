import gc
import weakref

import pytest

from kennel.lasting import lasting


class Part:
    """Something that can be one of a circle."""


@pytest.fixture(autouse=True)
def as_before():
    yield
    gc.unfreeze()


def test_what_is_made_inside_lasts_but_for_what_nobody_has():
    before = gc.get_freeze_count()
    with lasting():
        kept, lost = Part(), Part()
        lost.itself = lost
        lost = weakref.ref(lost)
        assert not gc.isenabled()
    assert gc.isenabled()
    assert lost() is None
    assert gc.get_freeze_count() > before
    assert not any(other is kept for other in gc.get_objects())


def test_the_collector_goes_on_after_a_failure():
    with pytest.raises(OSError), lasting():
        raise OSError
    assert gc.isenabled()
