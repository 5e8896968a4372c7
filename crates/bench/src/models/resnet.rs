//! ResNet-18 (He et al., 2015), for images of 224x224 and for those of 32x32.

use graver::prelude::*;
use graver::trace::Pool2d;

/// Two convolutions beside a shortcut.
#[derive(Module)]
struct Block {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    conv2: Conv2d,
    bn2: BatchNorm2d,
    down: Option<(Conv2d, BatchNorm2d)>,
}

impl Block {
    fn new(inputs: usize, outputs: usize, stride: i64, init: &mut Init) -> Self {
        Self {
            conv1: Conv2d::new(inputs, outputs, 3).stride(stride).padding(1).bias(false).init(init),
            bn1: BatchNorm2d::new(outputs).init(init),
            conv2: Conv2d::new(outputs, outputs, 3).padding(1).bias(false).init(init),
            bn2: BatchNorm2d::new(outputs).init(init),
            down: (inputs != outputs).then(|| {
                let conv = Conv2d::new(inputs, outputs, 1).stride(stride).bias(false).init(init);
                (conv, BatchNorm2d::new(outputs).init(init))
            }),
        }
    }

    fn forward(&self, x: Tensor) -> Tensor {
        let y = self.bn1.forward(self.conv1.forward(x)).relu();
        let y = self.bn2.forward(self.conv2.forward(y));
        let shortcut = self.down.as_ref().map_or(x, |(conv, norm)| norm.forward(conv.forward(x)));
        (y + shortcut).relu()
    }
}

/// Four stages of two blocks.
#[derive(Module)]
pub(crate) struct ResNet18 {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    layer1: [Block; 2],
    layer2: [Block; 2],
    layer3: [Block; 2],
    layer4: [Block; 2],
    fc: Linear,
    /// Whether images are small: the first stage then keeps their size.
    #[module(skip)]
    small: bool,
}

impl ResNet18 {
    pub(crate) fn new(classes: usize, small: bool, init: &mut Init) -> Self {
        let conv1 = if small { Conv2d::new(3, 64, 3).padding(1) } else { Conv2d::new(3, 64, 7).stride(2).padding(3) };
        let mut stage =
            |inputs, outputs, stride| [Block::new(inputs, outputs, stride, init), Block::new(outputs, outputs, 1, init)];
        let [layer1, layer2, layer3, layer4] = [stage(64, 64, 1), stage(64, 128, 2), stage(128, 256, 2), stage(256, 512, 2)];
        Self {
            conv1: conv1.bias(false).init(init),
            bn1: BatchNorm2d::new(64).init(init),
            layer1,
            layer2,
            layer3,
            layer4,
            fc: Linear::new(512, classes).init(init),
            small,
        }
    }

    pub(crate) fn forward(&self, x: Tensor) -> Tensor {
        let mut x = self.bn1.forward(self.conv1.forward(x)).relu();
        if !self.small {
            x = x.max_pool2d(Pool2d::new(3).stride(2).padding(1));
        }
        for block in [&self.layer1, &self.layer2, &self.layer3, &self.layer4].into_iter().flatten() {
            x = block.forward(x);
        }
        self.fc.forward(x.mean([2, 3]))
    }
}
