import os
import signal
import subprocess
import sys

# the grandchild comes to `end_with_parent` when its parent has ended already, and is this program's child by then
ORPHAN = """
import ctypes, os, sys
from kennel_cli.platforms.runners import end_with_parent
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
readable, writable = os.pipe()
parent = os.fork()
if parent == 0:
    if os.fork():
        os._exit(0)
    os.close(writable)
    os.read(readable, 1)
    end_with_parent(int(sys.argv[1]) or os.getppid())
    os._exit(0)
os.waitpid(parent, 0)
os.close(writable)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def ending(parent):
    done = subprocess.run([sys.executable, "-c", ORPHAN, str(parent)], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_a_program_whose_parent_ended_before_it_could_ask_for_word_of_that_ends_too():
    assert ending(parent=os.getpid()) == -signal.SIGTERM
    assert ending(parent=0) == 0  # its parent is there
