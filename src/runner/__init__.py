"""runner: config-driven experiments on label noise, softmax, sparsity, optimisation and robustness."""

from runner.core.card import Card, card
from runner.core.clock import Duration
from runner.core.errors import UserError

__version__ = "0.1.0"
__all__ = ["Card", "Duration", "UserError", "__version__", "card"]
