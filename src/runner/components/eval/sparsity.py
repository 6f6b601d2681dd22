"""How sparse the network is: share of zero weights, and what a forward pass costs compared with the dense one."""

import torch
from torch import nn

from runner import card
from runner.core.weights import matrices

CARD = card(arxiv="1911.11134", source="Evci et al. 2020, section 3; google-research/rigl, sparse_utils.py, get_stats: a layer's operations times its density")


class Sparsity:
    splits = ("test",)

    def measure(self, state, split):
        weights = list(matrices(state.model).values())
        if not weights:
            return {}
        zeros, total = sum((w == 0).sum() for w in weights), sum(w.numel() for w in weights)
        dense, sparse = self.operations(state, split.fetch(torch.tensor([0])).x)
        return {"sparsity": 100 * zeros / total, "flops": sparse / dense, "mflops": sparse / 1e6}

    def operations(self, state, x):
        """Multiplications and additions of one sample's forward pass in linear and convolution layers: dense, and at each layer's density."""
        found = []

        def count(name):
            def hook(layer, inputs, output):
                weight, mask = layer.weight, state.masks.get(f"{name}.weight".lstrip("."))
                density = (weight != 0).double().mean() if mask is None else mask.double().mean()
                # every output position of a convolution uses one filter; a transposed one is the same backwards
                uses = inputs[0].numel() if getattr(layer, "transposed", False) else output.numel()
                found.append((2 * uses * weight[0].numel(), density.item()))

            return hook

        kinds = (nn.Linear, nn.modules.conv._ConvNd)
        handles = [m.register_forward_hook(count(name)) for name, m in state.model.named_modules() if isinstance(m, kinds)]
        try:
            state.model._call_impl(x)  # `model(x)` may be a compiled call, which does not see the hooks
        finally:
            for handle in handles:
                handle.remove()
        return sum(n for n, _ in found), sum(n * density for n, density in found)


def build():
    """sparsity: zero weights in percent of all maskable ones; flops: operations relative to the dense network; mflops: millions of them.

    Operations are multiplications and additions of one sample in linear and convolution layers; biases, norms and attention products are left out.
    """
    return Sparsity()
