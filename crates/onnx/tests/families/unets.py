"""U-Nets: by how they go down, go up, and bring what was doubled to the size that it had."""

import torch
from torch import nn
from torch.nn import functional as F

from network import Network, randomised

ODD = [dict(batch=2, height=16, width=24), dict(batch=1, height=19, width=22), dict(batch=3, height=13, width=17)]
EVEN = [dict(batch=2, height=16, width=24), dict(batch=1, height=24, width=16), dict(batch=3, height=8, width=20)]
LARGE = [dict(batch=1, height=44, width=52), dict(batch=2, height=48, width=44), dict(batch=1, height=52, width=60)]


def lost(x, to):
    return [to.size(axis) - x.size(axis) for axis in (3, 2)]


def same(x, to):
    return x


def halves(x, to, mode="constant"):
    return F.pad(x, [side for d in lost(x, to) for side in (d // 2, d - d // 2)], mode=mode)


def repeated(x, to):
    return halves(x, to, "replicate")


def floors(x, to):
    ways = (torch.floor, torch.ceil)
    return F.pad(x, [way(torch.as_tensor(d) / 2).to(torch.int64) for d in lost(x, to) for way in ways])


def right(x, to):
    return F.pad(x, [side for d in lost(x, to) for side in (0, d)])


def cut(x, to):
    return x[:, :, : to.size(2), : to.size(3)]


def inner(x, to):
    """The middle of `to` in the size of `x`."""
    top, left = (to.size(2) - x.size(2)) // 2, (to.size(3) - x.size(3)) // 2
    return to[:, :, top : top + x.size(2), left : left + x.size(3)]


def resized(mode, **given):
    return lambda x, to: F.interpolate(x, size=to.shape[2:], mode=mode, **given)


def weighted(mode, corners):
    def up(inputs, outputs):
        return nn.Sequential(nn.Upsample(scale_factor=2, mode=mode, align_corners=corners), nn.Conv2d(inputs, outputs, 1))

    return up


def transposed(size, **given):
    return lambda inputs, outputs: nn.ConvTranspose2d(inputs, outputs, size, stride=2, **given)


UPS = {
    "transposed": transposed(2),
    "transposed3": transposed(3, padding=1, output_padding=1),
    "transposed4": transposed(4, padding=1),
    "shuffle": lambda inputs, outputs: nn.Sequential(nn.Conv2d(inputs, 4 * outputs, 1), nn.PixelShuffle(2)),
    "nearest": weighted("nearest", None),
    "bilinear": weighted("bilinear", False),
    "bilinear_corners": weighted("bilinear", True),
    "bicubic": weighted("bicubic", False),
    "bicubic_corners": weighted("bicubic", True),
}
NORMS = {
    "none": lambda n: nn.Identity(),
    "batch": nn.BatchNorm2d,
    "group": lambda n: nn.GroupNorm(2, n),
    "instance": lambda n: nn.InstanceNorm2d(n, affine=True),
}
DOWNS = {
    "max": lambda n: nn.MaxPool2d(2),
    "ceil": lambda n: nn.MaxPool2d(2, ceil_mode=True),
    "average": lambda n: nn.AvgPool2d(2),
    "stride": lambda n: nn.Conv2d(n, n, 3, stride=2, padding=1),
}


class UNet(nn.Module):
    """Halved twice and doubled twice; `fit` changes what was doubled, or what stands beside it."""

    def __init__(self, up, fit=same, norm="batch", down="max", act=nn.ReLU, padding=1, beside=False, residual=False):
        super().__init__()

        def block(inputs, outputs):
            twice = [nn.Conv2d(n, outputs, 3, padding=padding) for n in (inputs, outputs)]
            return nn.Sequential(*(part for conv in twice for part in (conv, NORMS[norm](outputs), act())))

        self.fit, self.beside, self.residual = fit, beside, residual
        self.first, self.second, self.third = block(3, 4), block(4, 6), block(6, 8)
        self.down = nn.ModuleList([DOWNS[down](4), DOWNS[down](6)])
        self.up = nn.ModuleList([UPS[up](8, 6), UPS[up](6, 4)])
        self.join = nn.ModuleList([block(6 if residual else 12, 6), block(4 if residual else 8, 4)])
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        first = self.first(x)
        second = self.second(self.down[0](first))
        y = self.third(self.down[1](second))
        for up, join, saved in zip(self.up, self.join, [second, first]):
            y = up(y)
            y, saved = (y, self.fit(y, saved)) if self.beside else (self.fit(y, saved), saved)
            y = join(y + saved if self.residual else torch.cat([saved, y], 1))
        return self.head(y)


class Padded(nn.Module):
    """To a multiple of 4, and cut again."""

    def __init__(self, up, middle=False):
        super().__init__()
        self.inner, self.middle = UNet(up), middle

    def forward(self, x):
        h, w = x.size(2), x.size(3)
        down, across = (-h) % 4, (-w) % 4
        top, left = (down // 2, across // 2) if self.middle else (0, 0)
        y = self.inner(F.pad(x, [left, across - left, top, down - top]))
        return y[:, :, top : top + h, left : left + w]


NETS = {
    "transposed": (lambda: UNet("transposed"), EVEN),
    "transposed3_group": (lambda: UNet("transposed3", norm="group"), EVEN),
    "transposed4_instance": (lambda: UNet("transposed4", norm="instance"), EVEN),
    "transposed_halves": (lambda: UNet("transposed", halves), ODD),
    "transposed_halves_group": (lambda: UNet("transposed", halves, "group", act=nn.SiLU), ODD),
    "transposed_floors": (lambda: UNet("transposed", floors, "none"), ODD),
    "transposed_right": (lambda: UNet("transposed", right), ODD),
    "transposed_repeated": (lambda: UNet("transposed", repeated), ODD),
    "transposed_nearest": (lambda: UNet("transposed", resized("nearest")), ODD),
    "transposed_bilinear": (lambda: UNet("transposed", resized("bilinear", align_corners=False)), ODD),
    "transposed_inner": (lambda: UNet("transposed", inner, padding=0, beside=True), LARGE),
    "transposed_residual": (lambda: UNet("transposed", halves, residual=True, act=nn.GELU), ODD),
    "ceil_cut": (lambda: UNet("transposed", cut, down="ceil"), ODD),
    "stride_cut": (lambda: UNet("transposed3", cut, down="stride"), ODD),
    "average_resized": (lambda: UNet("bilinear", resized("bilinear", align_corners=False), down="average", act=nn.LeakyReLU), ODD),
    "bilinear": (lambda: UNet("bilinear"), EVEN),
    "bilinear_corners": (lambda: UNet("bilinear_corners"), EVEN),
    "bilinear_corners_halves": (lambda: UNet("bilinear_corners", halves), ODD),
    "bilinear_halves": (lambda: UNet("bilinear", halves, "instance"), ODD),
    "bilinear_resized": (lambda: UNet("bilinear", resized("bilinear", align_corners=True)), ODD),
    "bicubic": (lambda: UNet("bicubic"), EVEN),
    "bicubic_corners": (lambda: UNet("bicubic_corners"), EVEN),
    "bicubic_resized": (lambda: UNet("bicubic", resized("bicubic", align_corners=False)), ODD),
    "nearest": (lambda: UNet("nearest", norm="group"), EVEN),
    "nearest_right": (lambda: UNet("nearest", right), ODD),
    "nearest_resized": (lambda: UNet("nearest", resized("nearest"), act=nn.Mish), ODD),
    "shuffle": (lambda: UNet("shuffle", act=nn.Hardswish), EVEN),
    "shuffle_halves": (lambda: UNet("shuffle", halves, act=nn.ELU), ODD),
    "padded": (lambda: Padded("transposed"), ODD),
    "padded_middle": (lambda: Padded("transposed", True), ODD),
    "padded_bilinear": (lambda: Padded("bilinear"), ODD),
}


def picture(sizes):
    return {"x": torch.randn(sizes["batch"], 3, sizes["height"], sizes["width"])}


def networks():
    axes = {"x": ("batch", None, "height", "width")}
    for name, (build, sizes) in NETS.items():
        yield Network("U-Net", f"unet_{name}", lambda build=build: randomised(build()), picture, axes, sizes, (11, 13, 17, 9))
