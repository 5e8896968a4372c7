"""Convolutional networks of the packages transformers and torchvision, of few features."""

import torchvision
import transformers
from torch import nn

from network import Network, randomised
from transformer import PICTURE, PICTURES, Call, picture

STAGES = dict(num_channels=3, hidden_sizes=[8, 16, 24], depths=[1, 2, 1], num_labels=5)
NARROW = dict(depth_multiplier=0.25, num_labels=5)


class Plain(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, pixel_values):
        return self.inner(pixel_values)


def of_transformers(stem, head, field, **given):
    def build():
        config = getattr(transformers, f"{stem}Config")(**given)
        return Call(randomised(getattr(transformers, f"{stem}{head}")(config)), ["pixel_values"], field, {})

    return build


def of_vision(name, **given):
    return lambda: Plain(randomised(getattr(torchvision.models, name)(weights=None, num_classes=10, **given)))


CLASSIFY = ("ForImageClassification", "logits")
FEATURES = ("Model", "last_hidden_state")
ROWS = [
    ("ResNet", "resnet_basic", of_transformers("ResNet", *CLASSIFY, embedding_size=8, layer_type="basic", **STAGES)),
    ("ResNet", "resnet_bottleneck", of_transformers("ResNet", *FEATURES, embedding_size=8, **STAGES)),
    ("ResNet", "resnet18", of_vision("resnet18")),
    ("ConvNeXt", "convnext", of_transformers("ConvNext", *CLASSIFY, num_stages=3, **STAGES)),
    ("ConvNeXt", "convnext2", of_transformers("ConvNextV2", *CLASSIFY, num_stages=3, **STAGES)),
    ("ConvNeXt", "convnext_features", of_transformers("ConvNext", *FEATURES, num_stages=3, **STAGES)),
    ("MobileNet", "mobilenet1", of_transformers("MobileNetV1", *CLASSIFY, min_depth=4, tf_padding=False, **NARROW)),
    ("MobileNet", "mobilenet2", of_vision("mobilenet_v2", width_mult=0.25)),
    ("MobileNet", "mobilenet2_padded", of_transformers("MobileNetV2", *CLASSIFY, **NARROW)),
    ("MobileNet", "mobilenet3_small", of_vision("mobilenet_v3_small", width_mult=0.5)),
    ("MobileNet", "mobilenet3_large", of_vision("mobilenet_v3_large", width_mult=0.25)),
]


def networks():
    for family, name, build in ROWS:
        yield Network(family, name, build, picture, PICTURE, PICTURES, (9, 11, 13, 17))
