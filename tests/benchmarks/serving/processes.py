"""What a server costs: CPU time and memory of all its processes."""

import contextlib
import os
from collections.abc import Callable

import psutil


class ProcessTree:
    """A server's first process, and all that came of it, wherever they are in the tree now."""

    def __init__(self, pid: int) -> None:
        """Take the leader of a session of its own."""
        self._root = psutil.Process(pid)

    def cpu_seconds(self) -> float:
        """Return user and system time of all processes, those that have ended and were waited for among them."""
        return self._sum(lambda process: sum(process.cpu_times()[:4]))  # … children_user, children_system

    def memory(self) -> float:
        """Return bytes; what several processes share counts once (the sum of their proportional set sizes)."""
        return self._sum(lambda process: process.memory_full_info().pss)

    def kill(self) -> None:
        """End whatever is left of it."""
        for process in self._alive():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def _sum(self, figure: Callable[[psutil.Process], float]) -> float:
        total = 0.0
        for process in self._alive():
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended just now
                total += figure(process)
        return total

    def _alive(self) -> set[psutil.Process]:
        found = {process for process in psutil.process_iter() if self._is_in_session(process.pid)}
        with contextlib.suppress(psutil.NoSuchProcess):
            found |= {self._root, *self._root.children(recursive=True)}
        return {process for process in found if process.is_running()}

    def _is_in_session(self, pid: int) -> bool:
        try:
            return os.getsid(pid) == self._root.pid
        except ProcessLookupError:
            return False
