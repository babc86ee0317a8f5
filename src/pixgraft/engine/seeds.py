"""Random seeds as pure functions of their purpose, so that a resumed run needs no generator's state."""

import hashlib

import torch


def derive(*parts: int | str) -> int:
    """A seed in [0, 2**63), a pure function of `parts` that is equal on every machine.

    The type and the position of each part matter: (1, 23), (12, 3), ("1", 23) and (1, "23") give different seeds.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        kind, text = ("s", part) if isinstance(part, str) else ("i", str(int(part)))
        data = text.encode()
        digest.update(f"{kind}{len(data)}:".encode() + data)
    return int.from_bytes(digest.digest(), "big") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """A CPU generator seeded by `derive(*parts)`, of which PyTorch's CPU generator uses the lower 32 bits."""
    return torch.Generator().manual_seed(derive(*parts))
