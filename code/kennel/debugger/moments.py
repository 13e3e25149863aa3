"""When each step was, for the rule about trainings that hang."""

from statistics import median

MOST_MOMENTS = 2000


class Moments:
    """Steps and their times in Unix seconds; of many, those that tell least are forgotten."""

    def __init__(self) -> None:
        self.kept: list[tuple[int, float]] = []

    def add(self, step: int, seconds: float) -> None:
        """Remember a step."""
        self.kept.append((step, seconds))
        if len(self.kept) > MOST_MOMENTS:
            self._thin()

    def _thin(self) -> None:
        """Forget every second step, but none beside a long wait: what is forgotten must not look like one."""
        kept = self.kept
        spans = [after[1] - before[1] for before, after in zip(kept, kept[2:], strict=False)]
        usual = 2 * median(spans)
        every_second = range(1, len(kept) - 1, 2)
        forgotten = {index for index in every_second if spans[index - 1] <= usual} or {*every_second}
        self.kept = [moment for index, moment in enumerate(kept) if index not in forgotten]
