"""Run a keeper in the background, for good: `python -m kennel_cli.platforms.detach MODULE FOLDER` returns at once."""

import importlib
import os
import sys
from pathlib import Path


def main() -> None:
    """Fork, leave the terminal's session, and call `main(FOLDER)` of the module: no caller has to wait for it."""
    module, folder = sys.argv[1:]
    if os.fork():
        os._exit(0)
    os.setsid()
    importlib.import_module(module).main(Path(folder))


if __name__ == "__main__":
    main()
