"""Early stopping: a trial that is worse than the others were at the same epoch is not worth finishing."""

import statistics
from collections.abc import Sequence

MIN_OTHERS = 3  # curves to compare with; the median of fewer says nothing


def is_hopeless(curve: Sequence[float], others: Sequence[Sequence[float]], maximize: bool) -> bool:
    """Return whether a running trial should be stopped.

    `curve` holds its objective after each epoch so far, `others` those of the trials before it. As SageMaker does
    (contract B7), the last value is compared with the median of the others' running averages up to the same epoch.
    """
    epoch = len(curve)
    if not epoch:
        return False
    averages = [statistics.fmean(other[:epoch]) for other in others if len(other) >= epoch]
    if len(averages) < MIN_OTHERS:
        return False
    median = statistics.median(averages)
    return curve[-1] < median if maximize else curve[-1] > median
