"""What the averages of the weights share: evaluated in place of the weights, which come back afterwards."""

import torch


class Average:
    """A component whose `average` (a state dict, empty until there is one) stands in for the weights in every evaluation."""

    def __init__(self):
        self.average, self.own = {}, {}
        self.restarts = self.begun = 0  # of the training, and the step at which the average began

    @torch.no_grad()
    def _blend(self, state, share):
        """average <- (1 - share) average + share weights; counters and other integers are copied."""
        if not self.average or self.restarts != state.restarts:
            self.average, self.restarts, self.begun = state.weights(), state.restarts, state.step
            return
        now = state.model.state_dict()
        real = [name for name, value in now.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.average[n] for n in real], [now[n].detach() for n in real], share)
        for name in now.keys() - set(real):
            self.average[name].copy_(now[name])

    def eval_enter(self, state):
        if self.average and self.restarts == state.restarts:
            self.own = state.weights()
            state.load_weights(self.average)

    def eval_exit(self, state):
        if self.own:
            state.load_weights(self.own)
            self.own = {}
