"""Weights, data and expected results of the bench's cases, as PyTorch computes them: `python dump.py DIR CASE..`

Writes DIR/CASE.safetensors: weights under the names of PyTorch's state_dict, data as data.0, data.1 .., and `expect.losses` (the
losses of the first three steps) or `expect.mean` (the mean magnitude of the result). Seeds are fixed.
"""

import os
import sys

import torch
from safetensors.torch import save_file

from cases import CASES, fill, loss_of, result_of


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


def main():
    folder, *cases = sys.argv[1:]
    os.makedirs(folder, exist_ok=True)
    for case in cases or CASES:
        torch.manual_seed(0)
        build, data, optimizer, std = CASES[case]
        model = build()
        fill(model, std)
        tensors = {name: value.clone() for name, value in model.state_dict().items()}
        data = data()
        tensors |= {f"data.{place}": value.contiguous() for place, value in enumerate(data)}
        tensors |= expected(case, model, data, optimizer)
        save_file(tensors, f"{folder}/{case}.safetensors")
        print(case, len(tensors), "tensors")


if __name__ == "__main__":
    main()
