"""TensorBoard event files in the run's record."""

from runner import card

CARD = card()


class TensorBoard:
    def __init__(self, folder):
        self.folder = folder

    def start(self, record):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(self.folder or record.file("tensorboard"))

    def log(self, row):
        for name, value in row.items():
            if name not in ("step", "epoch"):
                self.writer.add_scalar(name, value, row["step"])

    def finish(self, summary):
        for name, value in summary.items():
            self.writer.add_scalar(f"summary/{name}", value, 0)

    def close(self):
        self.writer.close()


def build(folder: str | None = None):
    """Scalars for `tensorboard --logdir runs`.

    Args:
        folder: where to write; the run's own record if not given.
    """
    return TensorBoard(folder)
