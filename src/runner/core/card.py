"""The card: what a component says about itself. Literals only, so that it can be read without importing the component."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Card:
    """What a component declares about itself; see `card`."""

    paper: str = ""
    arxiv: str = ""
    source: str = ""
    off: dict | None = None
    close: bool = False
    rung: dict = field(default_factory=dict)
    owns: tuple = ()
    uses: tuple = ()
    better: dict = field(default_factory=dict)
    tasks: tuple = ()
    images: bool = False
    tokens: bool = False
    cost: float = 3.0


def card(
    paper="", arxiv="", source="", off=None, close=False, rung=None, owns=(), uses=(), better=None, tasks=(), images=False, tokens=False, cost=3.0
) -> Card:
    """Declare a component.

    Args:
        paper: the usual short key of the paper, such as `gce2018`.
        arxiv: its arXiv number.
        source: where the formula and the defaults were read, if not the arXiv paper.
        off: the options at which the component does nothing; a contract holds it against the run without it.
        close: the off-switch is equal up to rounding, not bit for bit.
        rung: event -> rung, its place among the hooks of that event (see `runner.core.events`).
        owns: resources that only one component of a run may own: `mask`, `phases`, `targets` (what the labels become), `eval-weights` (what is
            evaluated); and what a learner replaces: `loss` (that it gives the run's loss of each sample, unweighted, perhaps with more added), `outputs`
            (that `batch.z` are those of the network for the batch, with gradients), `network` (that there is no other).
        uses: resources that no other component may own, since it acts on what they are otherwise.
        better: metric -> `max` or `min`, for an evaluator.
        tasks: the kinds of task it is for (`classification`, `regression`, `language`, `segmentation`, `detection`, `boxes`); empty for all.
        images: whether inputs must be images (channels, height, width).
        tokens: whether a model takes token ids, and nothing else, or classification data holds them (`Info.vocabulary`).
        cost: upper bound on the forward passes of one step.
    """
    return Card(paper, arxiv, source, off, close, dict(rung or {}), tuple(owns), tuple(uses), dict(better or {}), tuple(tasks), images, tokens, cost)
