r"""Whether the model's written solution of a problem ends at the right answer, as its last \boxed{} says."""

import torch

from runner import UserError, card
from runner.components._boxed import canonical, last_box

CARD = card(
    source=r"Hendrycks et al. 2021 (2103.03874), exact match of the last box by the rules of hendrycks/math, modeling/math_equivalence.py",
    better={"boxed": "max"},
    tasks=("language",),
)


class Boxed:
    def __init__(self, problems, tokens, splits, drawn):
        self.problems, self.tokens, self.splits, self.drawn = problems, tokens, splits, drawn

    def measure(self, state, split):
        if "asked" not in split.side:
            return {}
        if not hasattr(state.model, "write"):
            raise UserError("eval.boxed needs a model that writes, as model=causal_lm does; leave it out of eval")
        answer = lambda ids: last_box(state.info.spell(ids.tolist()))[1].strip()
        asked, order = split.side["asked"], torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[: self.problems].to(state.device)
        right = 0
        for rows in order[asked[order].argsort(stable=True)].split(state.eval_batch):  # prompts of about the same length together
            batch, begins = split.fetch(rows), asked[rows].tolist()
            drawn = self.drawn and {**self.drawn, "seed": state.rng.derive("eval/boxed", state.step, int(rows[0]))}
            written = state.model.write([x[:k] for x, k in zip(batch.x, begins, strict=True)], self.tokens, **drawn)
            truth = [y[k - 1 :] for y, k in zip(batch.y, begins, strict=True)]
            pairs = [(answer(a), answer(b)) for a, b in zip(written, truth, strict=True)]
            right += sum(said != "" and canonical(said) == canonical(true) for said, true in pairs)  # a unit alone has an empty spelling
        return {"boxed": 100 * right / len(order)}


def build(
    problems: int | None = None, tokens: int = 1680, temperature: float = 0.0, top_k: int = 0, top_p: float = 1.0, splits: list[str] = ("test",)
):  # fmt: skip
    r"""boxed: percent of the problems for which the last \boxed{} of what the model writes holds what that of the right solution holds.

    They are compared by MATH's rules: \frac12 is \frac{1}{2}, but \frac{2}{4} is not. The network that is trained writes, its average with
    `with=ema`; what a learner with several networks predicts does not count. Nothing is measured on data without side["asked"], which data=math_texts has.
    Drawn solutions, one a problem, depend on the run's seed, the step and trainer.eval_batch; training's random numbers are not touched.

    Args:
        problems: >= 1; only so many are asked, drawn once and for all, the same in all runs; all if not given.
        tokens: >= 1; most that are written of a solution; 1,680 in run_inference.py of hexuan21/Weak-to-Strong.
        temperature: >= 0; tokens are drawn with probability softmax(logits / temperature); 0 takes the most likely one; 0.6 in run_inference.py.
        top_k: >= 0; of so many most likely tokens; 0 of all; 50 in run_inference.py.
        top_p: in (0, 1]; of the fewest most likely tokens that have this probability together; 0.9 in run_inference.py.
        splits: where to measure: train, val, test.
    """
    if not temperature and (top_k or top_p < 1):
        raise ValueError("eval.boxed.top_k and top_p are for solutions that are drawn: set eval.boxed.temperature")
    return Boxed(problems, tokens, list(splits), {"temperature": temperature, "top_k": top_k, "top_p": top_p} if temperature else {})
