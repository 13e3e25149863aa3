"""The epochs of a job as TensorBoard shows them (contract A6.5)."""

from collections.abc import Mapping
from pathlib import Path


class TensorBoard:
    """Writes metrics into TensorBoard's files, one chart for loss and one for accuracy. Any call may raise."""

    def __init__(self, folder: Path) -> None:
        """Begin a file in `folder`, beside those of earlier attempts."""
        from tensorboardX import SummaryWriter  # noqa: PLC0415 - slow, and for jobs alone that ask for it

        self._writer = SummaryWriter(str(folder))

    def add(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of an epoch, `train_loss` as `loss/train`."""
        for name, value in metrics.items():
            split, metric = name.split("_", 1)
            self._writer.add_scalar(f"{metric}/{split}", value, epoch)
        self._writer.flush()
