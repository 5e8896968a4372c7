"""Weights, data and expected results of the bench's cases, as PyTorch computes them: `python dump.py DIR CASE..`

Writes DIR/CASE.safetensors: weights under the names of PyTorch's state_dict, data as data.0, data.1 .., and `expect.losses` (the
losses of the first three steps), `expect.mean` (the mean magnitude of the result), or, of a single operation, its results as
expect.0, expect.1 .., computed in double precision. Seeds are fixed.
"""

import os
import sys

import torch
from safetensors.torch import save_file

from cases import CASES, FUNCTIONS, fill, loss_of, result_of, rounded, storage_of
from operations import OPERATIONS


def expected(case, model, data, optimizer):
    if optimizer is None:
        with torch.no_grad():
            return {"expect.mean": result_of(case, model.eval(), data).double().abs().mean().reshape(1)}
    optimizer, losses = optimizer(model.train().parameters()), []
    for _ in range(3):
        optimizer.zero_grad()
        loss = loss_of(model, data)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return {"expect.losses": torch.tensor(losses, dtype=torch.float64)}


def of_model(case):
    build, data, optimizer, std = CASES[case]
    model = build()
    fill(model, std)
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    if storage := storage_of(case):
        rounded(model, storage)
    data = data()
    tensors |= {f"data.{place}": value.contiguous() for place, value in enumerate(data)}
    return tensors | expected(case, model, data, optimizer)


def argument(arg):
    """Of a shape, or of a shape with the number that integers are below."""
    match arg:
        case [tuple() as shape, limit]:
            return torch.randint(limit, shape)
        case shape:
            return torch.randn(shape)


def of_operation(case):
    function, args, wrt, _ = OPERATIONS[case]
    data = [argument(arg) for arg in args]
    exact = [value.double() if value.is_floating_point() else value for value in data]
    if wrt:
        inputs = [value.requires_grad_() for value in exact[:wrt]]
        results = torch.autograd.grad(FUNCTIONS[function](*exact[:-1]), inputs, exact[-1])
    else:
        results = [FUNCTIONS[function](*exact)]
    named = {f"data.{place}": value for place, value in enumerate(data)}
    return named | {f"expect.{place}": value.float().contiguous() for place, value in enumerate(results)}


def main():
    folder, *cases = sys.argv[1:]
    os.makedirs(folder, exist_ok=True)
    for case in cases or [*CASES, *OPERATIONS]:
        torch.manual_seed(0)
        tensors = of_model(case) if case in CASES else of_operation(case)
        save_file(tensors, f"{folder}/{case}.safetensors")
        print(case, len(tensors), "tensors")


if __name__ == "__main__":
    main()
