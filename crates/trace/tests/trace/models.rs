//! Whole models: forward, backward and update as one compiled step, with the interpreter of kernels as the device.

use std::sync::Arc;

use graver_interp::Interp;
use graver_trace::{
    Array, Attention, Buffer, ConvOptions, DType, Device, Error, Grads, Module, Param, Step, Tensor, TensorSpec, arange, compile,
    scalar, slot, spec, step, training, value_and_grad,
};

use crate::common::{close, ints, ramp, run};

fn device() -> Device {
    Device::new(Arc::new(Interp::default()))
}

fn param<const N: usize>(shape: [usize; N], scale: f64) -> Param {
    let values = ramp(shape);
    Param::new(Array::from_fn(DType::F32, shape.to_vec(), |place| {
        graver_ir::Scalar::float(DType::F32, values.to_f64()[place] * scale)
    }))
}

fn fill(size: usize, value: f64) -> Array {
    Array::full([size], graver_ir::Scalar::float(DType::F32, value))
}

/// Adam without bias correction, as a user writes it.
fn adam(grads: &Grads) {
    for (_, param, grad) in grads.iter() {
        let zeros = || Array::full(param.value().shape(), graver_ir::Scalar::zero(DType::F32));
        let (m, v) = (slot(param, "m", zeros), slot(param, "v", zeros));
        m.set(m.get() * 0.8 + grad * 0.2);
        v.set(v.get() * 0.9 + grad * grad * 0.1);
        param.set(param.get() - m.get() / (v.get().sqrt() + 1e-3) * 0.02);
    }
}

type Trained = (Step<(TensorSpec, TensorSpec), Tensor>, Vec<f64>);

/// A step and the losses of six runs over one batch.
fn train<M: Module>(
    model: &M,
    forward: fn(&M, Tensor) -> Tensor,
    specs: (TensorSpec, TensorSpec),
    data: (&Array, &Array),
) -> Result<Trained, Error> {
    let mut step = step(specs, |(x, y)| {
        let (loss, grads) = value_and_grad(model, |model| forward(model, x).cross_entropy(y));
        adam(&grads);
        loss
    })
    .compile(&device())?;
    let losses = (0..6).map(|_| Ok(step.run(data)?.item()?)).collect::<Result<Vec<f64>, Error>>()?;
    Ok((step, losses))
}

#[derive(Module)]
struct Norm {
    weight: Param,
    bias: Param,
    mean: Buffer,
    variance: Buffer,
}

impl Norm {
    fn forward(&self, x: Tensor) -> Tensor {
        self.scope(|| {
            if !training() {
                return x.batch_norm_with(&self.mean, &self.variance, &self.weight, &self.bias, 1e-5);
            }
            let (y, mean, variance) = x.batch_norm(&self.weight, &self.bias, 1e-5);
            self.mean.set(self.mean.get() * 0.9 + mean * 0.1);
            self.variance.set(self.variance.get() * 0.9 + variance * 0.1);
            y
        })
    }
}

#[derive(Module)]
struct Cnn {
    kernel: Param,
    norm: Norm,
    head: Param,
}

impl Cnn {
    fn forward(&self, x: Tensor) -> Tensor {
        let x = self.norm.forward(x.conv2d(&self.kernel, ConvOptions::new().padding(1))).relu().max_pool2d(2);
        x.flatten(1).dropout(0.1).matmul(&self.head)
    }
}

#[test]
fn a_cnn_with_batch_norm_learns() -> Result<(), Error> {
    let norm = Norm {
        weight: Param::new(fill(3, 1.0)),
        bias: Param::new(fill(3, 0.0)),
        mean: Buffer::new(fill(3, 0.0)),
        variance: Buffer::new(fill(3, 1.0)),
    };
    let mut model = Cnn { kernel: param([3, 1, 3, 3], 0.3), norm, head: param([12, 2], 0.2) };
    let (x, y) = (ramp([4, 1, 4, 4]), ints([4], [0, 1, 0, 1]));
    let image = || spec::<f32>((4, 1, 4, 4));
    let (step, losses) = train(&model, Cnn::forward, (image(), spec::<i64>([4])), (&x, &y))?;
    assert!(losses[5] < losses[0], "{losses:?}");
    let eval = compile(|x| model.forward(x), image(), &device())?;
    let living = eval.call_with(step.state(), &x)?;
    assert_ne!(living, eval.call(&x)?);
    drop(eval);
    step.write_to(&mut model)?;
    assert_ne!(model.norm.mean.value(), fill(3, 0.0));
    let written = compile(|x| model.forward(x), image(), &device())?.call(&x)?;
    assert_eq!(written, living);
    Ok(())
}

/// Parameters have an identity: a model that was built once more is another one, whatever its paths are.
#[test]
fn a_state_of_another_model_of_the_same_kind_is_refused() -> Result<(), Error> {
    #[derive(Module)]
    struct Scale {
        weight: Param,
    }
    fn forward(model: &Scale, x: Tensor) -> Tensor {
        x * &model.weight
    }
    let [trained, mut other] = [1.0, 2.0].map(|scale| Scale { weight: param([2, 3], scale) });
    let specs = || (spec::<f32>((2, 3)), spec::<i64>([2]));
    let (step, _) = train(&trained, forward, specs(), (&ramp([2, 3]), &ints([2], [0, 1])))?;
    let eval = compile(|x| forward(&other, x), spec::<f32>((2, 3)), &device())?;
    let none = "the state has none of this model's parameters";
    assert!(eval.call_with(step.state(), &ramp([2, 3])).expect_err("it is another model").to_string().contains(none));
    drop(eval);
    let error = step.write_to(&mut other).expect_err("it is another model").to_string();
    assert!(error.contains("`weight`") && error.contains("another"), "{error}");
    let again = graver_trace::step(specs(), |(x, y)| forward(&other, x).cross_entropy(y)).state(step.state().clone());
    assert!(again.compile(&device()).expect_err("it is another model").to_string().contains(none));

    let mut list = vec![other];
    let unlike = step.write_to(&mut list).expect_err("it has other paths, too").to_string();
    assert!(unlike.contains(none) && unlike.contains("`0.weight`"), "{unlike}");

    // What the state does not speak of is the model's own.
    let both = compile(|x| forward(&trained, x) + forward(&list[0], x), spec::<f32>((2, 3)), &device())?;
    both.call_with(step.state(), &ramp([2, 3]))?;
    Ok(())
}

#[derive(Module)]
struct Block {
    attention_norm: Param,
    qkv: Param,
    out: Param,
    mlp_norm: Param,
    up: Param,
    down: Param,
}

impl Block {
    fn new() -> Self {
        Self {
            attention_norm: Param::new(fill(4, 1.0)),
            qkv: param([4, 12], 0.2),
            out: param([4, 4], 0.2),
            mlp_norm: Param::new(fill(4, 1.0)),
            up: param([4, 8], 0.2),
            down: param([8, 4], 0.2),
        }
    }

    /// Two heads of width 2.
    fn forward(&self, x: Tensor) -> Tensor {
        self.scope(|| {
            let (batch, length) = (x.dim(0), x.dim(1));
            let zero = scalar(0.0f32).broadcast_to([4]);
            let split = |x: Tensor| x.reshape((batch, length, 2, 2)).transpose(1, 2);
            let qkv = x.layer_norm(&self.attention_norm, zero, 1e-5).matmul(&self.qkv).chunk(3, -1);
            let heads = split(qkv[0]).attention(split(qkv[1]), split(qkv[2]), Attention::new().causal());
            let x = x + heads.transpose(1, 2).reshape((batch, length, 4)).matmul(&self.out);
            x + x.layer_norm(&self.mlp_norm, zero, 1e-5).matmul(&self.up).gelu().matmul(&self.down)
        })
    }
}

#[derive(Module)]
struct Gpt {
    tokens: Param,
    positions: Param,
    blocks: Vec<Block>,
    /// Tied to `tokens`.
    head: Param,
}

impl Gpt {
    fn forward(&self, ids: Tensor) -> Tensor {
        let places = self.positions.get().index_select(0, arange(ids.dim(1), DType::I64));
        let x = self.tokens.get().embedding(ids) + places;
        self.blocks.iter().fold(x, |x, block| block.forward(x)).matmul(self.head.get().t())
    }
}

#[test]
fn a_gpt_with_a_tied_embedding_learns() -> Result<(), Error> {
    let tokens = param([5, 4], 0.3);
    let blocks = vec![Block::new(), Block::new()];
    let model = Gpt { head: tokens.tie(), tokens, positions: param([8, 4], 0.1), blocks };
    let (ids, next) = (ints([2, 3], [0, 1, 2, 3, 4, 0]), ints([2, 3], [1, 2, 3, 4, 0, 1]));
    let shape = || spec::<i64>((2, 3));
    let (step, losses) = train(&model, Gpt::forward, (shape(), shape()), (&ids, &next))?;
    assert!(losses[5] < losses[0], "{losses:?}");
    // 2 beside the blocks' 6 each; the tied one is there once.
    assert_eq!(model.params().len(), 14);
    assert!(step.state().at("blocks.1.mlp_norm").is_some() && step.state().at("head").is_none());
    // The past does not see the future: a longer text begins with the same logits.
    let symbolic = || spec::<i64>(("batch", "length"));
    let short = run(|ids| model.forward(ids), symbolic(), &ints([1, 2], [0, 1]))?.to_f64();
    let long = run(|ids| model.forward(ids), symbolic(), &ints([1, 3], [0, 1, 2]))?.to_f64();
    close(&Array::from_vec([10], short)?, &long[..10], 1e-5);
    let outside = run(|ids| model.forward(ids), symbolic(), &ints([1, 1], [5])).expect_err("there are 5 tokens").to_string();
    assert!(outside.contains("models.rs"), "{outside}");
    Ok(())
}
