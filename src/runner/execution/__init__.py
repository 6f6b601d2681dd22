"""From a checked config to a finished record."""

WARM = "runner.execution.warm"  # what every job imports
