"""Late stopping: network after network, those samples are dropped that are learned last. Yuan et al. 2023."""

import torch

from runner import Duration, card
from runner.core.phases import Phase

CARD = card(
    paper="latestopping2023",
    source="Yuan, Feng & Liu 2023 (ICCV), First-time k-epoch Learning; authors' code tmllab/2023_ICCV_LateStopping, main_cifar10_noise_ratio=40.py: "
    "rounds, warm-up, keep = 0.955 for 40 % wrong labels (0.98 for 20 %)",
    off={"rounds": []},
    rung={"batch": "select"},
    owns=("phases",),
    tasks=("classification",),
    uses=("network",),
)


class LateStopping:
    def __init__(self, keep, rounds, warmup, selection):
        self.keep, self.warmup, self.selection = keep, warmup, selection
        self.consecutive = [k for k, count in enumerate(rounds, start=1) for _ in range(count)]  # k of each round
        self.round, self.since, self.start = 0, 0, {}

    def setup(self, state):
        n = len(state.data.train)
        state.per_sample["selected"] = torch.ones(n, device=state.device)
        self.streak = torch.zeros(n, dtype=torch.long, device=state.device)  # epochs in a row in which a sample was predicted as its label
        self.learned = torch.zeros(n, dtype=torch.bool, device=state.device)

    def phases(self, state):
        if not self.consecutive:
            return [Phase("train")]
        return [Phase("selection", self.selection, self.keep_start), Phase("final", None, self.anew, fresh=True)]

    def keep_start(self, state):
        self.start = state.weights()

    def anew(self, state):
        """The network and its optimizer as they were at the beginning of the run."""
        state.load_weights(self.start, anew=True)
        for optimizer in state.optimizers:
            optimizer.state.clear()
        self.streak.zero_()
        self.learned.zero_()
        self.since = state.step

    def batch(self, state, batch):
        chosen = state.per_sample["selected"][batch.i] > 0
        if chosen.all():
            return batch
        if chosen.any():
            return batch.take(chosen)
        batch.w = torch.zeros(len(batch.i), device=batch.x.device)
        return batch

    def epoch_end(self, state):
        seen = state.step - self.since
        if state.phase or self.round == len(self.consecutive) or seen <= state.clock.steps(self.warmup):
            return
        self.streak = torch.where(self.fitted(state), self.streak + 1, 0)
        selected = state.per_sample["selected"] > 0
        self.learned |= selected & (self.streak >= self.consecutive[self.round])
        if self.learned.sum() >= int(len(selected) * self.keep ** (self.round + 1)):
            state.per_sample["selected"] = self.learned.float()
            self.round += 1
            self.anew(state)

    def fitted(self, state):
        """Which samples are predicted as their label."""
        training = state.model.training
        state.model.eval()
        right = torch.cat([batch.z.argmax(-1) == batch.y for batch in state.predictions(state.data.train)])
        state.forget_predictions()
        state.model.train(training)
        return right


def build(keep: float = 0.955, rounds: list[int] = (4, 4, 4), warmup: Duration = "6ep", selection: Duration | None = None):
    """A round trains from the start until a share keep^round of all samples has been predicted as labelled for k epochs in a row; the others are dropped.

    After the rounds, or what of them fits into `selection`, a network is trained from the start on the samples that are left.

    Args:
        keep: in (0, 1]; share of the samples that a round keeps.
        rounds: >= 0; number of rounds with k = 1, with k = 2 and so on.
        warmup: beginning of each round whose predictions do not count.
        selection: length of all rounds together at most; half of the run if not given.
    """
    return LateStopping(keep, rounds, warmup, selection)
