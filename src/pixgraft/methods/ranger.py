"""Ranger: RAdam (Liu et al. 2020, "On the Variance of the Adaptive Learning Rate and Beyond") with Lookahead (Zhang et
al. 2019, "Lookahead Optimizer: k steps forward, 1 step back") and centralized gradients (Yong et al. 2020).

Defaults are those of lessw2020's Ranger 20.4.11, with which pSp was trained.
"""

from collections.abc import Callable

import torch
from torch.optim.optimizer import ParamsT


class Ranger(torch.optim.RAdam):
    """RAdam, whose every `k`-th step goes back: slow weights, at first the initial ones, move by `alpha` of the way to
    the parameters, and these become the slow weights.

    With `centralize` each output's gradient in a weight loses its mean, in place; that of a bias or other vector stays.

    State of each parameter, all tensors: "step", "exp_avg", "exp_avg_sq", "slow" (of the parameter's shape).
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
        # Where the base class has its own, so that groups and saved states have them too.
        ours = {"k": k, "alpha": alpha, "centralize": centralize}
        self.defaults.update(ours)
        for group in self.param_groups:
            group.update({name: group.get(name, value) for name, value in ours.items()})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step with the gradients that there are; gives what `closure`, called first, gives."""
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
