import math
from collections import defaultdict

import torch


# %% ema: the weights written out
def ema(values, beta):
    steps = torch.arange(len(values), dtype=torch.float64)
    ages = steps[:, None] - steps
    weights = (1 - beta) * torch.tensor(beta, dtype=torch.float64) ** ages.clamp(min=0)
    return torch.einsum("ij,j->i", weights.tril(), values.double()).to(values.dtype)


# %% ema: a list of Python floats
def ema(values, beta):
    averages, avg = [], 0.0
    for value in values.tolist():
        avg = avg + (1 - beta) * (value - avg)
        averages.append(avg)
    return torch.tensor(averages, dtype=values.dtype)


# %% ema: stacked tensors
def ema(values, beta):
    avg = torch.zeros_like(values[0])
    averages = []
    for i in range(len(values)):
        avg = lerp(values[i], avg, beta)
        averages.append(avg)
    return torch.stack(averages)


def lerp(start, end, weight):
    return start + weight * (end - start)


# %% debias: the sum of the weights
def debias(avg, beta, i):
    weights = [(1 - beta) * beta**age for age in range(i + 1)]
    return torch.div(avg, sum(weights))


# %% debias: a power by logarithms
def debias(avg, beta, i):
    missing = math.exp((i + 1) * math.log(beta))
    return avg.clone().mul_(1 / (1 - missing))


# %% sgd: methods with alpha, gradients zeroed
class SGD:
    def __init__(self, params, lr, wd=0.0):
        self.params = list(params)
        self.lr, self.wd = lr, wd
        self.i = 0

    @torch.no_grad()
    def step(self):
        for p in self.params:
            if p.grad is None:
                continue
            self.reg_step(p)
            self.opt_step(p)
        self.i += 1

    def opt_step(self, p):
        p.add_(p.grad, alpha=-self.lr)

    def reg_step(self, p):
        p.mul_(1 - self.lr * self.wd)

    def zero_grad(self):
        for p in self.params:
            if p.grad is not None:
                p.grad = torch.zeros_like(p.grad)


# %% sgd: through data
class SGD:
    def __init__(self, params, lr, wd=0.0):
        self.params = list(params)
        self.lr = lr
        self.wd = wd
        self.i = 0

    def step(self):
        with torch.no_grad():
            trained = [p for p in self.params if p.grad is not None]
            for p in trained:
                self.reg_step(p)
                self.opt_step(p)
        self.i = self.i + 1

    def opt_step(self, p):
        p.data -= p.grad.data * self.lr

    def reg_step(self, p):
        if self.wd != 0:
            p.data *= 1 - self.lr * self.wd

    def zero_grad(self):
        for p in self.params:
            if p.grad is not None:
                p.grad.detach_()
                p.grad.zero_()


# %% sgd: copied into place
class SGD:
    def __init__(self, params, lr, wd=0.0):
        self.params, self.lr, self.wd, self.i = tuple(params), lr, wd, 0

    def step(self):
        recording = torch.is_grad_enabled()
        torch.set_grad_enabled(False)
        try:
            for p in self.params:
                if p.grad is not None:
                    self.reg_step(p)
                    self.opt_step(p)
        finally:
            torch.set_grad_enabled(recording)
        self.i += 1

    def opt_step(self, p):
        p.copy_(torch.sub(p, p.grad, alpha=self.lr))

    def reg_step(self, p):
        p.copy_(p - self.lr * self.wd * p)

    def zero_grad(self):
        for p in self.params:
            del p.grad


# %% weight_decay: what is lost subtracted
class SGD:
    def __init__(self, params, lr, wd=0.0):
        self.params, self.lr, self.wd = list(params), lr, wd
        self.i = 0

    def step(self):
        with torch.no_grad():
            for p in self.params:
                if p.grad is not None:
                    self.reg_step(p)
                    self.opt_step(p)
        self.i += 1

    def opt_step(self, p):
        p -= self.lr * p.grad

    def reg_step(self, p):
        p -= self.lr * self.wd * p

    def zero_grad(self):
        for p in self.params:
            p.grad = None


# %% weight_decay: scaled by a method
class SGD:
    def __init__(self, params, lr, wd=0.0):
        self.params, self.lr, self.wd = list(params), lr, wd
        self.i = 0

    def step(self):
        with torch.no_grad():
            for p in self.params:
                if p.grad is not None:
                    self.reg_step(p)
                    self.opt_step(p)
        self.i += 1

    def opt_step(self, p):
        p.sub_(p.grad * self.lr)

    def reg_step(self, p):
        if self.wd:
            p.data.mul_(1.0 - self.wd * self.lr)

    def zero_grad(self):
        for p in self.params:
            p.grad = None


# %% momentum: in place on tensors of its own
class Momentum(SGD):
    def __init__(self, params, lr, wd=0.0, mom=0.9):
        super().__init__(params, lr=lr, wd=wd)
        self.mom = mom
        self.state = [torch.zeros_like(p) for p in self.params]

    def opt_step(self, p):
        index = next(i for i, q in enumerate(self.params) if q is p)
        avg = self.state[index]
        avg.mul_(self.mom).add_(p.grad, alpha=1 - self.mom)
        p.sub_(avg, alpha=self.lr)


# %% momentum: started when first seen
class Momentum(SGD):
    def __init__(self, params, lr, wd=0.0, mom=0.9):
        super().__init__(params, lr, wd)
        self.mom = mom
        self.memory = {}

    def opt_step(self, p):
        avg = self.memory.get(id(p))
        avg = (1 - self.mom) * p.grad if avg is None else avg + (1 - self.mom) * (p.grad - avg)
        self.memory[id(p)] = avg
        p.add_(-self.lr * avg)


# %% momentum: a sum, scaled at the step
class Momentum(SGD):
    def __init__(self, params, lr, wd=0.0, mom=0.9):
        super().__init__(params, lr, wd)
        self.mom = mom
        self.sums = defaultdict(float)

    def opt_step(self, p):
        self.sums[p] = self.mom * self.sums[p] + p.grad
        p -= self.lr * (1 - self.mom) * self.sums[p]


# %% momentum: averages on the parameters, cleared at the start
class Momentum(SGD):
    def __init__(self, params, lr, wd=0.0, mom=0.9):
        super().__init__(params, lr, wd)
        self.mom = mom
        self.name = f"average_{id(self)}"
        for p in self.params:
            setattr(p, self.name, torch.zeros_like(p))

    def opt_step(self, p):
        avg = getattr(p, self.name)
        avg.lerp_(p.grad, 1 - self.mom)
        p -= self.lr * avg


# %% rmsprop: in place on tensors of its own
class RMSProp(SGD):
    def __init__(self, params, lr, wd=0.0, sqr_mom=0.99, eps=1e-5):
        super().__init__(params, lr, wd)
        self.sqr_mom = sqr_mom
        self.eps = eps
        self.averages = {}

    def opt_step(self, p):
        if p not in self.averages:
            self.averages[p] = p.grad.square()
        avg = self.averages[p]
        avg.mul_(self.sqr_mom).addcmul_(p.grad, p.grad, value=1 - self.sqr_mom)
        p.addcdiv_(p.grad, avg.sqrt().add_(self.eps), value=-self.lr)


# %% rmsprop: the first step by itself
class RMSProp(SGD):
    def __init__(self, params, lr, wd=0.0, sqr_mom=0.99, eps=1e-5):
        super().__init__(params, lr, wd)
        self.sqr_mom, self.eps = sqr_mom, eps
        self.state = [None] * len(self.params)

    def opt_step(self, p):
        at = [q is p for q in self.params].index(True)
        square = p.grad * p.grad
        before = self.state[at]
        self.state[at] = square if before is None else torch.lerp(square, before, self.sqr_mom)
        p.sub_(self.lr * p.grad / torch.add(self.state[at] ** 0.5, self.eps))


# %% rmsprop: float64 inside
class RMSProp(SGD):
    def __init__(self, params, lr, wd=0.0, sqr_mom=0.99, eps=1e-5):
        super().__init__(params, lr, wd)
        self.sqr_mom, self.eps = sqr_mom, eps
        self.squares = {}

    def opt_step(self, p):
        grad = p.grad.double()
        key = id(p)
        before = self.squares.setdefault(key, grad.pow(2))
        self.squares[key] = before * self.sqr_mom + grad.pow(2) * (1 - self.sqr_mom)
        p.copy_(p.double() - self.lr * grad / (self.squares[key].sqrt() + self.eps))


# %% adam: in place on tensors of its own
class Adam(SGD):
    def __init__(self, params, lr, wd=0.0, beta1=0.9, beta2=0.99, eps=1e-5):
        super().__init__(params, lr, wd)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps
        self.state = {id(p): (torch.zeros_like(p), torch.zeros_like(p)) for p in self.params}

    def opt_step(self, p):
        avg, sqr_avg = self.state[id(p)]
        avg.lerp_(p.grad, 1 - self.beta1)
        sqr_avg.mul_(self.beta2).addcmul_(p.grad, p.grad, value=1 - self.beta2)
        t = self.i + 1
        root = (sqr_avg / (1 - self.beta2**t)).sqrt_().add_(self.eps)
        p.addcdiv_(avg, root, value=-self.lr / (1 - self.beta1**t))


# %% adam: updates counted per parameter
class Adam(SGD):
    def __init__(self, params, lr, wd=0.0, beta1=0.9, beta2=0.99, eps=1e-5):
        super().__init__(params, lr, wd)
        self.betas = beta1, beta2
        self.eps = eps
        self.state = {}

    def opt_step(self, p):
        beta1, beta2 = self.betas
        one, two, t = self.state.get(p, (0.0, 0.0, 0))
        t += 1
        one = beta1 * one + (1 - beta1) * p.grad
        two = beta2 * two + (1 - beta2) * p.grad.square()
        self.state[p] = one, two, t
        p -= self.lr * (one / (1 - beta1**t)) / (torch.sqrt(two / (1 - beta2**t)) + self.eps)


# %% adam: built on momentum
class Adam(Momentum):
    def __init__(self, params, lr, wd=0.0, beta1=0.9, beta2=0.99, eps=1e-5):
        super().__init__(params, lr, wd, mom=beta1)
        self.beta2 = beta2
        self.eps = eps
        self.squares = {p: torch.zeros_like(p) for p in self.params}

    def opt_step(self, p):
        self.avgs[p] = self.avgs[p] + (1 - self.mom) * (p.grad - self.avgs[p])
        self.squares[p] = self.squares[p] + (1 - self.beta2) * (p.grad * p.grad - self.squares[p])
        top = debias(self.avgs[p], self.mom, self.i)
        below = debias(self.squares[p], self.beta2, self.i)
        p.sub_(torch.div(top, below.sqrt() + self.eps) * self.lr)


# %% adam: weighted sums of what came so far
class Adam(SGD):
    def __init__(self, params, lr, wd=0.0, beta1=0.9, beta2=0.99, eps=1e-5):
        super().__init__(params, lr, wd)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps
        self.sums = {p: [torch.zeros_like(p, dtype=torch.float64) for _ in range(2)] for p in self.params}

    def opt_step(self, p):
        sums, grad, n = self.sums[p], p.grad.double(), self.i + 1
        sums[0] = sums[0] * self.beta1 + grad
        sums[1] = sums[1] * self.beta2 + grad**2
        weights = [sum(beta**age for age in range(n)) for beta in (self.beta1, self.beta2)]
        step = sums[0] / weights[0] / ((sums[1] / weights[1]).sqrt() + self.eps)
        p -= (self.lr * step).to(p.dtype)


# %% clip_grad_value: two bounds
def clip_grad_value(params, threshold):
    for grad in (p.grad for p in params if p.grad is not None):
        grad.copy_(
            torch.minimum(torch.maximum(grad, torch.full_like(grad, -threshold)), torch.full_like(grad, threshold))
        )


# %% clip_grad_value: by the sign
def clip_grad_value(params, threshold):
    with torch.no_grad():
        for p in params:
            if p.grad is None:
                continue
            large = p.grad.abs() > threshold
            p.grad[large] = threshold * p.grad.sign()[large]


# %% clip_grad_norm: one long vector
def clip_grad_norm(params, max_norm):
    grads = [p.grad for p in params if p.grad is not None]
    norm = torch.cat([grad.reshape(-1) for grad in grads]).pow(2).sum() ** 0.5
    factor = max_norm / norm if norm > max_norm else 1.0
    for grad in grads:
        grad.mul_(factor)
    return norm


# %% clip_grad_norm: a norm of norms, with a small number in the divisor
def clip_grad_norm(params, max_norm):
    params = [p for p in params if p.grad is not None]
    norm = torch.stack([(p.grad * p.grad).sum().sqrt() for p in params]).square().sum().sqrt()
    factor = torch.clamp(max_norm / (norm + 1e-6), max=1.0)
    for p in params:
        p.grad.copy_(p.grad * factor)
    return norm
