"""PyTorch on one case: `python peer_torch.py CASE MODE THREADS DATA`, modes eager, eager_fused, compile, freeze."""

import sys

import torch
import torch._functorch.config as functorch

from cases import CASES, FUNCTIONS, HEADS, LAYERS, TOKENS, WIDTH, kept, loss_of, result_of, storage_of
from operations import OPERATIONS
from timing import compared, emit, load, measure


def compiled(function, mode):
    if mode == "freeze":
        import torch._inductor.config as inductor

        inductor.freezing = True
    return function if mode.startswith("eager") else torch.compile(function)


def operation(case, mode, data):
    """A call of a single operation, which gives its results."""
    name, _, wrt, forward = OPERATIONS[case]
    function = compiled(FUNCTIONS[name], mode)
    if not wrt:
        return lambda: [function(*data)]
    *args, cotangent = data
    inputs = [value.requires_grad_() for value in args[:wrt]]
    if forward:
        return lambda: torch.autograd.grad(function(*args), inputs, cotangent)
    # What the forward pass keeps is read again and again.
    functorch.donated_buffer = False
    result = function(*args)
    return lambda: torch.autograd.grad(result, inputs, cotangent, retain_graph=True)


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
    weights, data = load(folder, case)
    data = [torch.from_numpy(array) for array in data]
    if case in OPERATIONS:
        wants_gradients = OPERATIONS[case].wrt > 0
        call = operation(case, mode, data)
        with torch.inference_mode(not wants_gradients and mode == "eager"), torch.set_grad_enabled(wants_gradients):
            row, results = measure(call), call()
        return emit(case, "torch", mode, row, **compared(folder, case, [result.numpy() for result in results]))
    build, _, optimizer, _ = CASES[case]
    model = build()
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()}, strict=False)
    if "_decode" in case:
        model = kept(model, storage_of(case)) if storage_of(case) else model
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
