import subprocess
import sys

ONCE = """
import os, signal, time
from kennel.forking import fork_program
signal.signal(signal.SIGTERM, lambda number, frame: None)
for _ in range(20):
    child = fork_program(lambda: time.sleep(5), os.environ, 1, 2)
    os.kill(child, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
GROUP = """
import os, signal, time
import sagemaker_training.cli.train as toolkit
from kennel.container import train
toolkit.main = lambda: time.sleep(10)
train._SIGTERM_SEEN.append(signal.SIGTERM)
print(train._run_toolkit(train._fork_toolkit, os.environ)[0])
"""


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_a_signal_that_comes_at_once_ends_the_child_whatever_the_parent_does_with_it():
    assert run(ONCE) == ["-15"] * 20


def test_a_job_that_is_stopped_before_its_work_has_begun_ends_at_once_a1_10():
    assert run(GROUP) == ["-15"]
