"""One random stream per user: adding a component never shifts another's draws, so that seeds are paired between methods."""

import hashlib

import torch


def derive(seed: int, *names) -> int:
    """A 63-bit seed from the run's seed and the names of its user."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


class Streams:
    """The random streams of a run, made on first use and saved with it."""

    def __init__(self, seed: int):
        self.seed = seed
        self._streams: dict[str, torch.Generator] = {}

    def __call__(self, name: str, device: str | torch.device = "cpu") -> torch.Generator:
        """The generator called `name`. CPU streams give the same draws whatever the run's device."""
        key = f"{name}@{torch.device(device).type}"
        if key not in self._streams:
            self._streams[key] = torch.Generator(device).manual_seed(derive(self.seed, name))
        return self._streams[key]

    def derive(self, *names) -> int:
        """A seed for something that keeps no stream, such as the order of one epoch."""
        return derive(self.seed, *names)

    def state_dict(self) -> dict:
        return {key: stream.get_state() for key, stream in self._streams.items()}

    def load_state_dict(self, saved: dict, device: torch.device) -> None:
        for key, state in saved.items():
            name, _, kind = key.rpartition("@")
            if kind in ("cpu", device.type):  # the run was on another kind of device before: there is no such generator here
                self(name, kind).set_state(state.cpu())


def seed_torch(seed: int) -> None:
    """Seed torch's own global streams, which dropout and other layers draw from."""
    torch.manual_seed(derive(seed, "torch"))
