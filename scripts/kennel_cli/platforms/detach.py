"""Run a keeper in the background, for good: no caller has to wait for it.

`python -m kennel_cli.platforms.detach MODULE FOLDER` returns at once.
"""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

# starts the function `main(FOLDER)` of a module; its output goes to the descriptor `log`, and it holds `lock` open
StartKeeper = Callable[[str, Path, int, int], None]


def start_detached(module: str, folder: Path, log: int, lock: int) -> None:
    """Start a keeper as a new program; see `StartKeeper`."""
    subprocess.run(
        [sys.executable, "-P", "-m", "kennel_cli.platforms.detach", module, str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=[lock],
        check=True,
    )


def main() -> None:
    """Fork, leave the terminal's session, and call `main(FOLDER)` of the module."""
    module, folder = sys.argv[1:]
    if os.fork():
        os._exit(0)
    os.setsid()
    importlib.import_module(module).main(Path(folder))


if __name__ == "__main__":
    main()
