"""Exponential moving averages of weights: the copies of the networks that are used and measured."""

import copy

import torch
from torch import Tensor, nn

from pixgraft.errors import PixgraftError
from pixgraft.layers.spectral import SpectralConv2d, power_iterate


class Averages:
    """Averaged copies of named networks: float32, in eval mode, without gradients, on the live ones' devices.

    `modules` maps each name to its copy, which starts equal to the live network.
    """

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        self._live = dict(modules)
        self.modules = nn.ModuleDict({name: copy.deepcopy(module) for name, module in modules.items()})
        self.modules.float().eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Set every average to `decay` of itself plus `1 - decay` of the live weights; `decay` in [0, 1].

        Buffers are copied, except for the singular vectors of spectral normalisation: those belong to the averaged
        weights and follow them by one power iteration.
        """
        for name, average in self.modules.items():
            live = self._live[name]
            parameters: list[Tensor] = list(average.parameters())
            if parameters:
                current = [parameter.detach().float() for parameter in live.parameters()]
                torch._foreach_lerp_(parameters, current, 1.0 - decay)
            for layer, source in zip(average.modules(), live.modules(), strict=True):
                if isinstance(layer, SpectralConv2d):
                    continue
                for buffer, value in zip(layer.buffers(False), source.buffers(False), strict=True):
                    buffer.copy_(value)
            power_iterate(average)

    def state_dict(self) -> dict[str, Tensor]:
        """All averaged tensors as "NAME.key"; they are the live ones, not copies."""
        return dict(self.modules.state_dict())

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the tensors of `state_dict`; PixgraftError if one is missing, unknown or of another shape."""
        current = self.state_dict()
        for key in sorted(current.keys() | state.keys()):
            if key not in current or key not in state or current[key].shape != state[key].shape:
                raise PixgraftError(
                    f"the averages are of other networks: {key} is missing, unknown or of another shape; "
                    "resume with the configuration they were saved by"
                )
        self.modules.load_state_dict(state)
