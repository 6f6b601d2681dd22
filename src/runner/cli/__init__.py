"""One file a command. No torch at module level."""
