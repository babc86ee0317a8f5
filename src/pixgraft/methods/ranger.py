"""Ranger: RAdam (Liu et al. 2020, "On the Variance of the Adaptive Learning Rate and Beyond") with Lookahead (Zhang et
al. 2019, "Lookahead Optimizer: k steps forward, 1 step back") and centralized gradients (Yong et al. 2020).

The defaults are those of lessw2020's Ranger 20.4.11, which pSp was trained with.
"""

from collections.abc import Callable

import torch
from torch.optim.optimizer import ParamsT


class Ranger(torch.optim.RAdam):
    """RAdam with Lookahead: at every `k`-th step, the slow weights, which start as the initial parameters, move towards
    the parameters by the fraction `alpha`, and the parameters are set to the slow weights.

    `centralize` subtracts from a weight's gradient, in place, its mean over all dimensions but the first. Gradients of
    biases and other vectors are unchanged.

    The state of each parameter holds the tensors "step", "exp_avg", "exp_avg_sq" and "slow" (the parameter's shape).
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.95, 0.999),
        eps: float = 1e-5,
        k: int = 6,
        alpha: float = 0.5,
        centralize: bool = True,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps)
        # In `defaults` and the groups, as the base class does with its settings, so that `state_dict` holds them.
        settings = {"k": k, "alpha": alpha, "centralize": centralize}
        self.defaults.update(settings)
        for group in self.param_groups:
            group.update({name: group.get(name, value) for name, value in settings.items()})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step for all parameters with gradients. `closure` is called first and its loss returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        slow: dict[torch.Tensor, torch.Tensor] = {}
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                if parameter not in self.state:
                    slow[parameter] = parameter.detach().clone()
                if group["centralize"] and gradient.ndim > 1:
                    gradient -= gradient.mean(tuple(range(1, gradient.ndim)), keepdim=True)
        super().step()
        for parameter, initial in slow.items():
            self.state[parameter]["slow"] = initial
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and self.state[parameter]["step"].item() % group["k"] == 0:
                    parameter.copy_(self.state[parameter]["slow"].lerp_(parameter, group["alpha"]))
        return loss
