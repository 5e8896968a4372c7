//! Single operations: what goes in and what is made of it, as data; products of both kinds, and a chain of fifty.

use graver::ir::DType;
use graver::prelude::*;
use graver::trace::{DimArg, Extent, TensorSpec, spec_of};

use super::model::infer;
use super::runs::Runs;
use crate::numbers::Numbers;

/// A function of tensors.
pub(crate) struct Operation {
    pub(super) args: &'static [Arg],
    /// Kernels that it is compiled to.
    pub(super) kernels: usize,
    pub(super) of: fn(&[Tensor]) -> Vec<Tensor>,
}

/// An argument.
pub(super) enum Arg {
    /// Normal floats.
    Floats(&'static [Axis]),
    /// Integers below a number.
    Below(i64, &'static [Axis]),
}

/// A size.
pub(super) enum Axis {
    /// That is known when the operation is compiled.
    Known(usize),
    /// That a symbol stands for, which calls give this value.
    Symbol(&'static str, usize),
}

impl DimArg for Axis {
    fn dim_arg(&self) -> Extent {
        match self {
            Self::Known(size) => size.dim_arg(),
            Self::Symbol(name, _) => name.dim_arg(),
        }
    }
}

impl Axis {
    const fn size(&self) -> usize {
        match self {
            Self::Known(size) | Self::Symbol(_, size) => *size,
        }
    }
}

impl Arg {
    fn spec(&self) -> TensorSpec {
        let (dtype, axes) = match self {
            Self::Floats(axes) => (DType::F32, axes),
            Self::Below(_, axes) => (DType::I64, axes),
        };
        spec_of(dtype, *axes)
    }

    fn array(&self, place: usize, numbers: &mut Numbers) -> Result<Array, Error> {
        let shape = |axes: &[Axis]| axes.iter().map(Axis::size).collect::<Vec<usize>>();
        match self {
            Self::Floats(axes) => numbers.floats(place, &shape(axes)),
            Self::Below(limit, axes) => numbers.integers(place, &shape(axes), *limit),
        }
    }
}

impl Operation {
    pub(super) fn build(&self, numbers: &mut Numbers, device: &Device) -> Result<Box<dyn Runs>, Error> {
        let args =
            self.args.iter().enumerate().map(|(place, arg)| arg.array(place, numbers)).collect::<Result<Vec<Array>, Error>>()?;
        infer(self.specs(), args, device, |args| (self.of)(&args))
    }

    fn specs(&self) -> Vec<TensorSpec> {
        self.args.iter().map(Arg::spec).collect()
    }
}

/// `x y`, both arguments.
pub(super) fn product(numbers: &mut Numbers, device: &Device, [m, k, n]: [usize; 3]) -> Result<Box<dyn Runs>, Error> {
    let args = vec![numbers.floats(0, &[m, k])?, numbers.floats(1, &[k, n])?];
    infer([spec::<f32>(("rows", k)), spec::<f32>([k, n])], args, device, |[x, y]| vec![x.matmul(y)])
}

/// `x w^T`, the weight a model's.
pub(super) fn linear(numbers: &mut Numbers, device: &Device, [m, k, n]: [usize; 3]) -> Result<Box<dyn Runs>, Error> {
    let args = vec![numbers.floats(0, &[m, k])?];
    let weight = Param::new(numbers.floats(1, &[n, k])?);
    infer([spec::<f32>(("rows", k))], args, device, |[x]| vec![x.matmul(weight.get().t())])
}

/// Fifty operations on 64 numbers: what a call costs.
pub(super) fn tiny50(numbers: &mut Numbers, device: &Device) -> Result<Box<dyn Runs>, Error> {
    let args = vec![numbers.floats(0, &[64])?];
    infer([spec::<f32>(["n"])], args, device, |[x]| vec![(0..10).fold(x, |x, _| (x * 1.01 + 0.1 - 0.05).relu() * 0.99)])
}

#[cfg(test)]
mod tests {
    use graver::Isa;

    use super::*;
    use crate::cases::{Build, all};

    /// At every level, for one thread and for several.
    #[test]
    fn every_operation_is_so_many_kernels() {
        let device = |threads, isa| graver::cpu_with_isa(threads, isa).expect("only levels that are there");
        let levels = [Isa::Baseline, Isa::V3, Isa::V4].into_iter().filter(|isa| isa.is_available());
        let devices: Vec<Device> = levels.map(|isa| device(2, isa)).chain([graver::cpu_with_threads(1)]).collect();
        let mut wrong = Vec::new();
        for (case, device) in all().flat_map(|case| devices.iter().map(move |device| (case, device))) {
            let Build::Operation(operation) = &case.build else { continue };
            let compiled = compile(|args: Vec<Tensor>| (operation.of)(&args), operation.specs(), device);
            let compiled = compiled.unwrap_or_else(|error| panic!("{}: {error}", case.name));
            let names: Vec<&str> = compiled.kernels().iter().map(|kernel| kernel.name.as_str()).collect();
            let other = case.other_kernels(names.len());
            wrong.extend(other.map(|other| format!("{}: {other}: {names:?}; {:#?}", case.name, compiled.report().remarks)));
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
