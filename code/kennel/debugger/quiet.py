"""Keeps smdebug from printing."""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator

_LEVEL = "SMDEBUG_LOG_LEVEL"
_PROFILER = "SMPROFILER_CONFIG_PATH"


@contextlib.contextmanager
def quiet_smdebug() -> Iterator[None]:
    """Keep smdebug from printing: its first import looks at a variable, later only the logger helps.

    Its own and protobuf's warnings are about code that nobody will mend. Nor does it find a configuration of its
    profiler, parts of which it would evaluate as Python (contract D2.4).
    """
    logger = logging.getLogger("smdebug")
    disabled, before = logger.disabled, {name: os.environ.get(name) for name in (_LEVEL, _PROFILER)}
    os.environ.update({_LEVEL: "off", _PROFILER: os.devnull + "/none"})
    logger.disabled = True
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.disabled = disabled
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
