"""Makes the cases of this folder: small networks of images of any size, as torch's older exporter writes them, and what torch makes of some.

Needs torch and onnx; the tests need neither. Run it here: `python make.py`.
A case is a folder as `graver conform` takes it. Each has a chain of operations in which sizes are computed, in part as floats.
"""

import pathlib
import shutil

import numpy
import torch
from torch import nn
from torch.nn import functional as F

HERE = pathlib.Path(__file__).parent


def block(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU())


class UNet(nn.Module):
    """Halved twice and doubled twice; `fit` brings what was doubled to the size that it had."""

    def __init__(self, fit):
        super().__init__()
        self.fit = fit
        self.down = nn.ModuleList([block(1, 2), block(2, 3), block(3, 4)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(4, 3, 2, stride=2), nn.ConvTranspose2d(3, 2, 2, stride=2)])
        self.join = nn.ModuleList([block(6, 3), block(4, 2)])

    def forward(self, x):
        first = self.down[0](x)
        second = self.down[1](F.max_pool2d(first, 2))
        y = self.down[2](F.max_pool2d(second, 2))
        for up, join, beside in zip(self.up, self.join, [second, first]):
            y = join(torch.cat([beside, self.fit(up(y), beside)], 1))
        return y


def lost(x, to):
    return [to.size(axis) - x.size(axis) for axis in (3, 2)]


def halves(x, to):
    return F.pad(x, [side for d in lost(x, to) for side in (d // 2, d - d // 2)])


def floors_and_ceilings(x, to):
    def whole(function, d):
        return function(torch.as_tensor(d) / 2).to(torch.int64)

    return F.pad(x, [side for d in lost(x, to) for side in (whole(torch.floor, d), whole(torch.ceil, d))])


def resized(x, to):
    return F.interpolate(x, size=to.shape[2:], mode="nearest")


class Padded(nn.Module):
    """To a multiple of 4, and cut again."""

    def __init__(self):
        super().__init__()
        self.inner = UNet(lambda x, to: x)

    def forward(self, x):
        sizes = [torch.as_tensor(size) for size in x.shape[2:]]
        height, width = [(torch.ceil(size / 4) * 4).to(torch.int64) - size for size in sizes]
        y = self.inner(F.pad(x, [0, width, 0, height]))
        return y[:, :, : x.shape[2], : x.shape[3]]


class Half(nn.Module):
    """A picture of half the size, and back."""

    def __init__(self):
        super().__init__()
        self.inner = block(1, 2)

    def forward(self, x):
        small = F.interpolate(x, scale_factor=0.5, mode="bilinear", recompute_scale_factor=True)
        return F.interpolate(self.inner(small), size=x.shape[2:], mode="bilinear")


CASES = {
    "padded_by_halves": (lambda: UNet(halves), 17),
    "padded_by_floors_and_ceilings": (lambda: UNet(floors_and_ceilings), 17),
    "padded_to_a_multiple": (Padded, 17),
    "resized_by_a_half": (Half, 17),
    "resized_to_sizes_as_scales": (lambda: UNet(resized), 9),
}

if __name__ == "__main__":
    for seed, (case, (network, version)) in enumerate(CASES.items()):
        torch.manual_seed(seed)
        model, folder = network().eval(), HERE / case
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        axes = {"x": {0: "n", 2: "h", 3: "w"}, "y": {0: "n", 2: "rows", 3: "columns"}}
        torch.onnx.export(
            model, (torch.randn(1, 1, 16, 24),), folder / "model.onnx", dynamo=False, opset_version=version,
            input_names=["x"], output_names=["y"], dynamic_axes=axes,
        )
        for place, sizes in enumerate([(1, 8, 12), (2, 9, 14), (1, 11, 7)]):
            x = torch.randn(sizes[0], 1, *sizes[1:])
            given = folder / f"set_{place}"
            (given / "expect").mkdir(parents=True)
            numpy.save(given / "input_0.npy", x.numpy())
            numpy.save(given / "expect/output_0.npy", model(x).detach().numpy())
