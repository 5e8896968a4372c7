"""Cases of results as ONNX: `python export_onnx.py CASE DATA FILE`, with PyTorch's exporter."""

import sys

import torch
import torch.nn as nn

from cases import CASES, FUNCTIONS
from operations import OPERATIONS
from timing import load


class Of(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def main():
    case, folder, file = sys.argv[1:]
    weights, data = load(folder, case)
    if case in CASES:
        model = CASES[case][0]()
        model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()}, strict=False)
    else:
        model = Of(FUNCTIONS[OPERATIONS[case].function])
    inputs = tuple(torch.from_numpy(array) for array in data)
    with torch.no_grad():
        torch.onnx.export(model.eval(), inputs, file, dynamo=True, external_data=True)


if __name__ == "__main__":
    main()
