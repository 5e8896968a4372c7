"""PyTorch on one case: `python peer_torch.py CASE MODE THREADS DATA`, modes eager, eager_fused, compile, freeze."""

import sys

import torch
import torch.nn.functional as F

from cases import CASES, HEADS, LAYERS, TOKENS, WIDTH, loss_of, result_of
from timing import attention_arrays, emit, load, measure, micro_arrays, product_arrays


def compiled(function, mode):
    if mode == "freeze":
        import torch._inductor.config as inductor

        inductor.freezing = True
    return function if mode.startswith("eager") else torch.compile(function)


def chain(x):
    for _ in range(10):
        x = x * 1.01
        x = x + 0.1
        x = x - 0.05
        x = torch.relu(x)
        x = x * 0.99
    return x


def operation(case, mode):
    """A call of a single operation."""
    if case == "tiny50":
        x, function = torch.randn(64), compiled(chain, mode)
        return lambda: function(x)
    if case.startswith("attn"):
        q, k, v, cotangent = (torch.from_numpy(array) for array in attention_arrays(case))
        attention = compiled(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), mode)
        if "fwd" in case:
            return lambda: attention(q, k, v)
        inputs = [x.requires_grad_() for x in (q, k, v)]
        return lambda: torch.autograd.grad(attention(*inputs), inputs, cotangent)
    if case.startswith(("gemm", "linear")):
        a, b = (torch.from_numpy(array) for array in product_arrays(case))
        function = compiled(torch.mm if case.startswith("gemm") else F.linear, mode)
        b = b if case.startswith("gemm") else b.t().contiguous()
        return lambda: function(a, b)
    x, w, b, y = (torch.from_numpy(array) for array in micro_arrays())
    functions = {
        "micro_gelu": (lambda x, w, b: F.gelu(x * w + b), (x, w, b)),
        "micro_softmax": (lambda x: F.softmax(x, -1), (x,)),
        "micro_layernorm": (lambda x, w, b: F.layer_norm(x, x.shape[1:], w, b), (x, w, b)),
        "micro_sum0": (lambda x: x.sum(0), (x,)),
        "micro_sum1": (lambda x: x.sum(1), (x,)),
        "micro_transpose_add": (lambda x, y: x.t() + y, (x, y)),
    }
    function, inputs = functions[case]
    function = compiled(function, mode)
    return lambda: function(*inputs)


def writer(model, prompt, mode):
    """A call that writes behind a prompt, always the token of the greatest score."""
    step = compiled(model.next, mode)
    capacity = prompt.shape[1] + TOKENS
    keys, values = torch.zeros(2, LAYERS, 1, HEADS, capacity, WIDTH // HEADS)

    def call():
        token = step(prompt, torch.arange(prompt.shape[1]), keys, values).argmax(-1, keepdim=True)
        for position in range(prompt.shape[1], capacity - 1):
            token = step(token, torch.tensor([position]), keys, values).argmax(-1, keepdim=True)
        return token.item()

    return call


def main():
    case, mode, threads, folder = sys.argv[1:]
    torch.set_num_threads(int(threads))
    if case not in CASES:
        call = operation(case, mode)
        if "grad" in case:
            row = measure(call)
        else:
            with torch.inference_mode(not mode.startswith("compile")), torch.no_grad():
                row = measure(call)
        return emit(case, "torch", mode, row)
    build, _, optimizer, _ = CASES[case]
    weights, data = load(folder, case)
    model = build()
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()}, strict=False)
    data = [torch.from_numpy(array) for array in data]
    if case.endswith("_decode"):
        with torch.no_grad():
            row = measure(writer(model.eval(), data[0], mode))
            return emit(case, "torch", mode, row, check=result_of(case, model, data).double().abs().mean().item())
    if optimizer is None:
        model, function = model.eval(), compiled(model.eval(), mode)
        with torch.no_grad():
            row = measure(lambda: function(*data))
            return emit(case, "torch", mode, row, check=function(*data).double().abs().mean().item())
    optimizer, losses = optimizer(model.train().parameters()), []
    if mode == "eager_fused":
        for group in optimizer.param_groups:
            group["fused"] = True
    loss_function = compiled(lambda *data: loss_of(model, data), mode)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = loss_function(*data)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    row = measure(step)
    emit(case, "torch", mode, row, check=losses[0], check2=losses[2])


if __name__ == "__main__":
    main()
