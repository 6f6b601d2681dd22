"""The loop and its seams. Nothing here knows a component, a config library or a logger."""
