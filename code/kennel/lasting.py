"""What lasts as long as its process, and the garbage collector need not look at."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lasting() -> Iterator[None]:
    """Keep what is imported and made inside, and all else that exists by then, from the garbage collector for good.

    torch brings half a million objects, of which no collection frees one. To find that out takes 0.2 s each time:
    during the imports, in the work, and when the process ends and takes all of them apart. Processes that are forked
    later share their memory for longer, too.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.collect()  # once: what a model was made from is not to last
        gc.freeze()
        gc.enable()
