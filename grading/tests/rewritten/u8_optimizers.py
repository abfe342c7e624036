import torch


# %% ema: factors exchanged
def ema(values, beta):
    averages = []
    avg = torch.zeros_like(values[0])
    for value in values:
        avg = avg + beta * (value - avg)
        averages.append(avg)
    return torch.stack(averages)


# %% ema: start at the first value
def ema(values, beta):
    averages = [values[0]]
    for value in values[1:]:
        averages.append(averages[-1] * beta + value * (1 - beta))
    return torch.stack(averages)


# %% ema: already debiased
def ema(values, beta):
    averages = []
    total, weights = 0.0, 0.0
    for value in values:
        total = beta * total + value
        weights = beta * weights + 1
        averages.append(total / weights)
    return torch.stack(averages)


# %% ema: sum instead of average
def ema(values, beta):
    sums = values.clone()
    for i in range(1, len(sums)):
        sums[i] += beta * sums[i - 1]
    return sums


# %% debias: exponent i
def debias(avg, beta, i):
    power = 1.0
    for _ in range(i):
        power = power * beta
    return avg / (1 - power)


# %% debias: no power
def debias(avg, beta, i):
    weight_of_values = 1 - beta
    return torch.div(avg, weight_of_values)


# %% debias: multiplied instead of divided
def debias(avg, beta, i):
    return avg - avg * beta ** (i + 1)


# %% sgd: new tensor instead of parameter
class SGD:
    def __init__(self, params, lr, wd=0.0):
        self.params, self.lr, self.wd = list(params), lr, wd
        self.i = 0

    def step(self):
        with torch.no_grad():
            for p in self.params:
                if p.grad is None:
                    continue
                self.reg_step(p)
                self.opt_step(p)
        self.i += 1

    def opt_step(self, p):
        p = torch.sub(p, self.lr * p.grad)

    def reg_step(self, p):
        p.mul_(1 - self.lr * self.wd)

    def zero_grad(self):
        for p in self.params:
            p.grad = None


# %% sgd: decay after the step
class SGD:
    def __init__(self, params, lr, wd=0.0):
        self.params = list(params)
        self.lr = lr
        self.wd = wd
        self.i = 0

    @torch.no_grad()
    def step(self):
        trained = [p for p in self.params if p.grad is not None]
        for p in trained:
            self.opt_step(p)
        for p in trained:
            self.reg_step(p)
        self.i += 1

    def opt_step(self, p):
        p.sub_(p.grad, alpha=self.lr)

    def reg_step(self, p):
        p.mul_(1 - self.lr * self.wd)

    def zero_grad(self):
        for p in self.params:
            if p.grad is not None:
                p.grad.zero_()


# %% sgd: decay without gradient
class SGD:
    def __init__(self, params, lr, wd=0.0):
        self.params = list(params)
        self.lr, self.wd, self.i = lr, wd, 0

    def step(self):
        with torch.no_grad():
            for p in self.params:
                self.reg_step(p)
            for p in self.params:
                if p.grad is not None:
                    self.opt_step(p)
        self.i += 1

    def opt_step(self, p):
        p.data.add_(-self.lr * p.grad)

    def reg_step(self, p):
        p.data.mul_(1 - self.lr * self.wd)

    def zero_grad(self):
        for p in self.params:
            p.grad = None


# %% sgd: gradients cleared by step
class SGD:
    def __init__(self, params, lr, wd=0.0):
        self.params = list(params)
        self.lr, self.wd, self.i = lr, wd, 0

    def step(self):
        with torch.no_grad():
            for p in self.params:
                if p.grad is not None:
                    self.reg_step(p)
                    self.opt_step(p)
        self.zero_grad()
        self.i += 1

    def opt_step(self, p):
        p += -self.lr * p.grad

    def reg_step(self, p):
        p -= self.lr * self.wd * p

    def zero_grad(self):
        for p in self.params:
            p.grad = None


# %% sgd: stop at a missing gradient
class SGD:
    def __init__(self, params, lr, wd=0.0):
        self.params = list(params)
        self.lr, self.wd, self.i = lr, wd, 0

    def step(self):
        self.i += 1
        with torch.no_grad():
            for p in self.params:
                if p.grad is None:
                    return
                self.reg_step(p)
                self.opt_step(p)

    def opt_step(self, p):
        p -= p.grad * self.lr

    def reg_step(self, p):
        p *= 1 - self.lr * self.wd

    def zero_grad(self):
        for p in self.params:
            p.grad = None


# %% sgd: clearing ends at a missing gradient
class SGD:
    def __init__(self, params, lr, wd=0.0):
        self.params = list(params)
        self.lr, self.wd, self.i = lr, wd, 0

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
        p *= 1 - self.lr * self.wd

    def zero_grad(self):
        for p in self.params:
            if p.grad is None:
                return
            p.grad.zero_()


# %% sgd: gradients not cleared
class SGD:
    def __init__(self, params, lr, wd=0.0):
        self.params = list(params)
        self.lr, self.wd, self.i = lr, wd, 0

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
        p *= 1 - self.lr * self.wd

    def zero_grad(self):
        if self.i == 0:
            return
        for p in self.params:
            p.grad = None


# %% weight_decay: no learning rate
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
        p.sub_(p, alpha=self.wd)

    def zero_grad(self):
        for p in self.params:
            p.grad = None


# %% weight_decay: penalty in the gradient
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
        p.grad = torch.add(p.grad, p.detach(), alpha=self.wd)

    def zero_grad(self):
        for p in self.params:
            p.grad = None


# %% weight_decay: no decay
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
        return p.mul(1 - self.lr * self.wd)

    def zero_grad(self):
        for p in self.params:
            p.grad = None


# %% momentum: sum instead of average
class Momentum(SGD):
    def __init__(self, params, lr, wd=0.0, mom=0.9):
        super().__init__(params, lr, wd)
        self.mom = mom
        self.bufs = [torch.zeros_like(p) for p in self.params]

    def opt_step(self, p):
        buf = next(b for b, q in zip(self.bufs, self.params, strict=True) if q is p)
        buf.mul_(self.mom).add_(p.grad)
        p.sub_(buf, alpha=self.lr)


# %% momentum: factors exchanged
class Momentum(SGD):
    def __init__(self, params, lr, wd=0.0, mom=0.9):
        super().__init__(params, lr, wd)
        self.mom = mom
        self.avgs = {id(p): torch.zeros_like(p) for p in self.params}

    def opt_step(self, p):
        avg = self.avgs[id(p)]
        avg.lerp_(p.grad, self.mom)
        p -= self.lr * avg


# %% momentum: start at the first gradient
class Momentum(SGD):
    def __init__(self, params, lr, wd=0.0, mom=0.9):
        super().__init__(params, lr, wd)
        self.mom = mom
        self.avgs = None

    def step(self):
        if self.avgs is None:
            self.avgs = {p: torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in self.params}
        super().step()

    def opt_step(self, p):
        self.avgs[p] = self.avgs[p] * self.mom + p.grad * (1 - self.mom)
        p -= self.avgs[p] * self.lr


# %% momentum: debiased average
class Momentum(SGD):
    def __init__(self, params, lr, wd=0.0, mom=0.9):
        super().__init__(params, lr, wd)
        self.mom = mom
        self.avgs = {p: torch.zeros_like(p) for p in self.params}

    def opt_step(self, p):
        avg = self.avgs[p]
        avg += (1 - self.mom) * (p.grad - avg)
        unbiased = avg / (1 - self.mom ** (self.i + 1))
        p -= self.lr * unbiased


# %% momentum: step before the update
class Momentum(SGD):
    def __init__(self, params, lr, wd=0.0, mom=0.9):
        super().__init__(params, lr, wd)
        self.mom = mom
        self.velocity = {}

    def opt_step(self, p):
        velocity = self.velocity.setdefault(p, torch.zeros_like(p))
        p.add_(velocity, alpha=-self.lr)
        velocity.mul_(self.mom).add_(p.grad, alpha=1 - self.mom)


# %% momentum: look ahead
class Momentum(SGD):
    def __init__(self, params, lr, wd=0.0, mom=0.9):
        super().__init__(params, lr, wd)
        self.mom = mom
        self.avgs = {p: torch.zeros_like(p) for p in self.params}

    def opt_step(self, p):
        avg = self.avgs[p].lerp_(p.grad, 1 - self.mom)
        ahead = torch.lerp(p.grad, avg, self.mom)
        p.sub_(self.lr * ahead)


# %% momentum: learning rate in the average
class Momentum(SGD):
    def __init__(self, params, lr, wd=0.0, mom=0.9):
        super().__init__(params, lr, wd)
        self.mom = mom
        self.velocity = {p: torch.zeros_like(p) for p in self.params}

    def opt_step(self, p):
        v = self.velocity[p]
        v.mul_(self.mom).sub_(p.grad, alpha=self.lr * (1 - self.mom))
        p.add_(v)


# %% momentum: average outlives its optimizer
AVERAGES = {}


class Momentum(SGD):
    def __init__(self, params, lr, wd=0.0, mom=0.9):
        super().__init__(params, lr, wd)
        self.mom = mom

    def opt_step(self, p):
        if p not in AVERAGES:
            AVERAGES[p] = torch.zeros_like(p)
        AVERAGES[p] = AVERAGES[p] * self.mom + (1 - self.mom) * p.grad
        p -= self.lr * AVERAGES[p]


# %% momentum: decay in the average
class Momentum(SGD):
    def __init__(self, params, lr, wd=0.0, mom=0.9):
        super().__init__(params, lr, wd)
        self.mom = mom
        self.avgs = {p: torch.zeros_like(p) for p in self.params}

    def reg_step(self, p):
        pass

    def opt_step(self, p):
        grad = p.grad + self.wd * p
        self.avgs[p].mul_(self.mom).add_(grad, alpha=1 - self.mom)
        p -= self.lr * self.avgs[p]


# %% rmsprop: start at zero
class RMSProp(SGD):
    def __init__(self, params, lr, wd=0.0, sqr_mom=0.99, eps=1e-5):
        super().__init__(params, lr, wd)
        self.sqr_mom, self.eps = sqr_mom, eps
        self.sqr_avgs = {p: torch.zeros_like(p) for p in self.params}

    def opt_step(self, p):
        avg = self.sqr_avgs[p]
        avg.mul_(self.sqr_mom).addcmul_(p.grad, p.grad, value=1 - self.sqr_mom)
        p.addcdiv_(p.grad, avg.sqrt() + self.eps, value=-self.lr)


# %% rmsprop: start at zero, debiased
class RMSProp(SGD):
    def __init__(self, params, lr, wd=0.0, sqr_mom=0.99, eps=1e-5):
        super().__init__(params, lr, wd)
        self.sqr_mom, self.eps = sqr_mom, eps
        self.sqr_avgs = [torch.zeros_like(p) for p in self.params]

    def opt_step(self, p):
        index = [id(q) for q in self.params].index(id(p))
        avg = self.sqr_avgs[index]
        avg += (1 - self.sqr_mom) * (p.grad**2 - avg)
        root = torch.sqrt(avg / (1 - self.sqr_mom ** (self.i + 1)))
        p -= self.lr * p.grad / (root + self.eps)


# %% rmsprop: eps inside the root
class RMSProp(SGD):
    def __init__(self, params, lr, wd=0.0, sqr_mom=0.99, eps=1e-5):
        super().__init__(params, lr, wd)
        self.sqr_mom, self.eps = sqr_mom, eps
        self.sqr_avgs = {}

    def opt_step(self, p):
        square = p.grad * p.grad
        if p in self.sqr_avgs:
            self.sqr_avgs[p].lerp_(square, 1 - self.sqr_mom)
        else:
            self.sqr_avgs[p] = square
        p -= self.lr * p.grad * torch.rsqrt(self.sqr_avgs[p] + self.eps)


# %% rmsprop: no root
class RMSProp(SGD):
    def __init__(self, params, lr, wd=0.0, sqr_mom=0.99, eps=1e-5):
        super().__init__(params, lr, wd)
        self.sqr_mom = sqr_mom
        self.eps = eps
        self.sqr_avgs = {}

    def opt_step(self, p):
        if p not in self.sqr_avgs:
            self.sqr_avgs[p] = p.grad.pow(2)
        self.sqr_avgs[p] = self.sqr_avgs[p] * self.sqr_mom + p.grad.pow(2) * (1 - self.sqr_mom)
        p.sub_(torch.div(p.grad, self.sqr_avgs[p] + self.eps), alpha=self.lr)


# %% rmsprop: sum of squares
class RMSProp(SGD):
    def __init__(self, params, lr, wd=0.0, sqr_mom=0.99, eps=1e-5):
        super().__init__(params, lr, wd)
        self.sqr_mom, self.eps = sqr_mom, eps
        self.sums = {p: torch.zeros_like(p) for p in self.params}

    def opt_step(self, p):
        self.sums[p].addcmul_(p.grad, p.grad)
        p.sub_(self.lr / (self.sums[p].sqrt() + self.eps) * p.grad)


# %% rmsprop: gradients not squared
class RMSProp(SGD):
    def __init__(self, params, lr, wd=0.0, sqr_mom=0.99, eps=1e-5):
        super().__init__(params, lr, wd)
        self.sqr_mom, self.eps = sqr_mom, eps
        self.sizes = {}

    def opt_step(self, p):
        size = p.grad.abs()
        self.sizes[p] = torch.lerp(size, self.sizes.get(p, size), self.sqr_mom)
        p -= self.lr * p.grad / (self.sizes[p] + self.eps)


# %% rmsprop: one square per tensor
class RMSProp(SGD):
    def __init__(self, params, lr, wd=0.0, sqr_mom=0.99, eps=1e-5):
        super().__init__(params, lr, wd)
        self.sqr_mom, self.eps = sqr_mom, eps
        self.sqr_avgs = {}

    def opt_step(self, p):
        square = p.grad.norm() ** 2 / p.grad.numel()
        before = self.sqr_avgs.get(p, square)
        self.sqr_avgs[p] = before + (1 - self.sqr_mom) * (square - before)
        p -= self.lr / (self.sqr_avgs[p] ** 0.5 + self.eps) * p.grad


# %% rmsprop: decay in the gradient
class RMSProp(SGD):
    def __init__(self, params, lr, wd=0.0, sqr_mom=0.99, eps=1e-5):
        super().__init__(params, lr, wd)
        self.sqr_mom, self.eps = sqr_mom, eps
        self.sqr_avgs = {}

    def reg_step(self, p):
        return None

    def opt_step(self, p):
        grad = p.grad.add(p, alpha=self.wd)
        if p not in self.sqr_avgs:
            self.sqr_avgs[p] = grad**2
        self.sqr_avgs[p] = self.sqr_mom * self.sqr_avgs[p] + (1 - self.sqr_mom) * grad**2
        p -= self.lr * grad / (self.sqr_avgs[p].sqrt() + self.eps)


# %% adam: no debiasing
class Adam(SGD):
    def __init__(self, params, lr, wd=0.0, beta1=0.9, beta2=0.99, eps=1e-5):
        super().__init__(params, lr, wd)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps
        self.avgs = {p: torch.zeros_like(p) for p in self.params}
        self.sqr_avgs = {p: torch.zeros_like(p) for p in self.params}

    def opt_step(self, p):
        avg = self.avgs[p].lerp_(p.grad, 1 - self.beta1)
        sqr_avg = self.sqr_avgs[p].lerp_(p.grad**2, 1 - self.beta2)
        p.sub_(self.lr * avg / (sqr_avg.sqrt() + self.eps))


# %% adam: squares not debiased
class Adam(SGD):
    def __init__(self, params, lr, wd=0.0, beta1=0.9, beta2=0.99, eps=1e-5):
        super().__init__(params, lr, wd)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps
        self.m, self.v = {}, {}

    def opt_step(self, p):
        self.m[p] = self.beta1 * self.m.get(p, 0.0) + (1 - self.beta1) * p.grad
        self.v[p] = self.beta2 * self.v.get(p, 0.0) + (1 - self.beta2) * p.grad.square()
        rate = self.lr / (1 - self.beta1 ** (self.i + 1))
        p -= rate * self.m[p] / (torch.sqrt(self.v[p]) + self.eps)


# %% adam: eps inside the root
class Adam(SGD):
    def __init__(self, params, lr, wd=0.0, beta1=0.9, beta2=0.99, eps=1e-5):
        super().__init__(params, lr, wd)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps
        self.state = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self.params]

    def opt_step(self, p):
        m, v = next(s for s, q in zip(self.state, self.params, strict=True) if q is p)
        m.mul_(self.beta1).add_((1 - self.beta1) * p.grad)
        v.mul_(self.beta2).add_((1 - self.beta2) * p.grad * p.grad)
        t = self.i + 1
        m_hat, v_hat = m / (1 - self.beta1**t), v / (1 - self.beta2**t)
        p -= self.lr * m_hat * torch.rsqrt(v_hat + self.eps)


# %% adam: eps before debiasing
class Adam(SGD):
    def __init__(self, params, lr, wd=0.0, beta1=0.9, beta2=0.99, eps=1e-5):
        super().__init__(params, lr, wd)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps
        self.m = {p: torch.zeros_like(p) for p in self.params}
        self.v = {p: torch.zeros_like(p) for p in self.params}

    def opt_step(self, p):
        self.m[p] += (1 - self.beta1) * (p.grad - self.m[p])
        self.v[p] += (1 - self.beta2) * (p.grad**2 - self.v[p])
        t = self.i + 1
        rate = self.lr * (1 - self.beta2**t) ** 0.5 / (1 - self.beta1**t)
        p -= rate * self.m[p] / (self.v[p].sqrt() + self.eps)


# %% adam: exponent i
class Adam(SGD):
    def __init__(self, params, lr, wd=0.0, beta1=0.9, beta2=0.99, eps=1e-5):
        super().__init__(params, lr, wd)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps
        self.m = {p: torch.zeros_like(p) for p in self.params}
        self.v = {p: torch.zeros_like(p) for p in self.params}

    def opt_step(self, p):
        m = self.m[p].mul_(self.beta1).add_(p.grad, alpha=1 - self.beta1)
        v = self.v[p].mul_(self.beta2).add_(p.grad.pow(2), alpha=1 - self.beta2)
        m_hat = torch.div(m, 1 - self.beta1**self.i)
        v_hat = torch.div(v, 1 - self.beta2**self.i)
        p.sub_(self.lr * m_hat / (torch.sqrt(v_hat) + self.eps))


# %% adam: debiased averages stored
class Adam(SGD):
    def __init__(self, params, lr, wd=0.0, beta1=0.9, beta2=0.99, eps=1e-5):
        super().__init__(params, lr, wd)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps
        self.m = {p: torch.zeros_like(p) for p in self.params}
        self.v = {p: torch.zeros_like(p) for p in self.params}

    def opt_step(self, p):
        m, v, t = self.m[p], self.v[p], self.i + 1
        m.mul_(self.beta1).add_(p.grad, alpha=1 - self.beta1)
        v.mul_(self.beta2).add_(p.grad**2, alpha=1 - self.beta2)
        m /= 1 - self.beta1**t
        v /= 1 - self.beta2**t
        p -= self.lr * m / (v.sqrt() + self.eps)


# %% adam: betas exchanged
class Adam(SGD):
    def __init__(self, params, lr, wd=0.0, beta1=0.9, beta2=0.99, eps=1e-5):
        super().__init__(params, lr, wd)
        self.betas, self.eps = (beta2, beta1), eps
        self.state = {p: [torch.zeros_like(p), torch.zeros_like(p)] for p in self.params}

    def opt_step(self, p):
        hats = []
        for avg, beta, value in zip(self.state[p], self.betas, (p.grad, p.grad**2), strict=True):
            avg.lerp_(value, 1 - beta)
            hats.append(avg / (1 - beta ** (self.i + 1)))
        p -= self.lr * hats[0] / (hats[1].sqrt() + self.eps)


# %% adam: largest square kept
class Adam(SGD):
    def __init__(self, params, lr, wd=0.0, beta1=0.9, beta2=0.99, eps=1e-5):
        super().__init__(params, lr, wd)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps
        self.m, self.v, self.most = ({p: torch.zeros_like(p) for p in self.params} for _ in range(3))

    def opt_step(self, p):
        t = self.i + 1
        self.m[p].lerp_(p.grad, 1 - self.beta1)
        self.v[p].lerp_(p.grad**2, 1 - self.beta2)
        v_hat = self.v[p] / (1 - self.beta2**t)
        self.most[p] = torch.where(v_hat > self.most[p], v_hat, self.most[p])
        p -= self.lr * self.m[p] / (1 - self.beta1**t) / (self.most[p].sqrt() + self.eps)


# %% adam: decay in the gradient
class Adam(SGD):
    def __init__(self, params, lr, wd=0.0, beta1=0.9, beta2=0.99, eps=1e-5):
        super().__init__(params, lr, wd)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps
        self.m = {p: torch.zeros_like(p) for p in self.params}
        self.v = {p: torch.zeros_like(p) for p in self.params}

    def reg_step(self, p):
        pass

    def opt_step(self, p):
        grad = p.grad + self.wd * p
        self.m[p].lerp_(grad, 1 - self.beta1)
        self.v[p].lerp_(grad**2, 1 - self.beta2)
        m_hat, v_hat = debias(self.m[p], self.beta1, self.i), debias(self.v[p], self.beta2, self.i)
        p -= self.lr * m_hat / (v_hat.sqrt() + self.eps)


# %% clip_grad_value: upper bound only
def clip_grad_value(params, threshold):
    for p in params:
        if p.grad is not None:
            p.grad[p.grad > threshold] = threshold


# %% clip_grad_value: scaled instead of capped
def clip_grad_value(params, threshold):
    for p in params:
        if p.grad is None:
            continue
        largest = p.grad.abs().max()
        if largest > threshold:
            p.grad.mul_(threshold / largest)


# %% clip_grad_norm: each parameter by itself
def clip_grad_norm(params, max_norm):
    squares = torch.tensor(0.0)
    for p in params:
        if p.grad is None:
            continue
        size = p.grad.pow(2).sum().sqrt()
        squares = squares + size**2
        p.grad.mul_(torch.clamp(max_norm / size, max=1.0))
    return squares.sqrt()


# %% clip_grad_norm: small gradients made longer
def clip_grad_norm(params, max_norm):
    grads = [p.grad for p in params if p.grad is not None]
    norm = torch.stack([grad.norm() for grad in grads]).norm()
    if norm != 0:
        for grad in grads:
            grad.mul_(max_norm / norm)
    return norm


# %% clip_grad_norm: norm after clipping
def clip_grad_norm(params, max_norm):
    grads = [p.grad for p in params if p.grad is not None]
    norm = torch.cat([grad.flatten() for grad in grads]).norm()
    if norm > max_norm:
        for grad in grads:
            grad.mul_(max_norm / norm)
    return torch.cat([grad.flatten() for grad in grads]).norm()
