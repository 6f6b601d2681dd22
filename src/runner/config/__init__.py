"""The edge to Hydra: signatures and recipes as config sources, composition, and where a value comes from. Imports no torch."""
