import os

from kennel.machine import available_cores


def test_the_affinity_bounds_the_cores():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_a_process_may_be_asked_to_use_fewer_cores(monkeypatch):
    monkeypatch.setenv("KENNEL_CORES", "1")
    assert available_cores() == 1
    monkeypatch.setenv("KENNEL_CORES", "0")
    assert available_cores() == 1
    monkeypatch.setenv("KENNEL_CORES", "")
    assert available_cores() == len(os.sched_getaffinity(0))
