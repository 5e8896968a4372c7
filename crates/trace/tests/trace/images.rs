//! Images of other sizes, and convolutions the other way: numbers that PyTorch gives, and derivatives against what they are of.

use graver_trace::{Array, ConvOptions, ConvTransposeOptions, Error, Interpolation, Tensor, grad, spec, vjp};

use crate::common::{close, error, floats, ramp, run};

fn counted<const N: usize>(shape: [usize; N]) -> Array {
    let numel: usize = shape.iter().product();
    floats(shape, (0..numel).map(|place| place as f32 + 1.0))
}

#[test]
fn sizes_between() -> Result<(), Error> {
    let x = floats([1, 2, 3], [1.0, -2.0, 3.0, 0.5, 0.0, -1.0]);
    let of = |size: (i64, i64), how, expected: &[f64]| -> Result<(), Error> {
        let y = run(|x| x.interpolate(size, how), spec::<f32>(("n", "h", "w")), &x)?;
        close(&y, expected, 1e-6);
        Ok(())
    };
    let near = [1.0, 1.0, -2.0, -2.0, 3.0, 1.0, 1.0, -2.0, -2.0, 3.0, 0.5, 0.5, 0.0, 0.0, -1.0];
    of((3, 5), Interpolation::Nearest, &near)?;
    let linear = [1.0, -0.2, -2.0, 1.0, 3.0, 0.75, 0.05, -1.0, 0.2, 1.0, 0.5, 0.3, 0.0, -0.6, -1.0];
    of((3, 5), Interpolation::Bilinear, &linear)?;
    let aligned = [1.0, -0.5, -2.0, 0.5, 3.0, 0.75, -0.125, -1.0, 0.0, 1.0, 0.5, 0.25, 0.0, -0.5, -1.0];
    of((3, 5), Interpolation::BilinearAligned, &aligned)?;
    of((1, 2), Interpolation::Nearest, &[1.0, -2.0])?;
    of((1, 2), Interpolation::Bilinear, &[0.3125, 0.5])?;
    of((1, 2), Interpolation::BilinearAligned, &[1.0, 3.0])?;
    // Sizes that are symbols, and the derivative of a sum of weights that add up to one.
    let twice = |x: Tensor| x.interpolate((x.dim(1) * 2, x.dim(2) * 2), Interpolation::Bilinear);
    let y = run(|x| grad(x, |x| twice(x).sum(..)), spec::<f32>((1, "h", "w")), &x)?;
    close(&y, &[4.0; 6], 1e-6);
    let whole =
        run(|x| x.interpolate((1, 6), Interpolation::Nearest), spec::<i64>((1, 3)), &crate::common::ints([1, 3], [5, 6, 7]))?;
    assert_eq!(whole.to_f64(), [5.0, 5.0, 6.0, 6.0, 7.0, 7.0]);
    let found = error(|x| x.interpolate((2, 2), Interpolation::Bilinear), spec::<i64>((1, 3)));
    assert!(found.contains("what lies between elements is a float, got i64[1, 3]"), "{found}");
    Ok(())
}

#[test]
fn elements_are_spread_by_a_kernel() -> Result<(), Error> {
    let x = floats([1, 2, 2, 2], [1.0, 2.0, 3.0, 4.0, 0.0, 1.0, -1.0, 2.0]);
    let of = |kernel: Array, options: ConvTransposeOptions, shape: &[usize], expected: &[f64]| -> Result<(), Error> {
        let [a, b, c, d] = *kernel.shape() else { panic!("four axes") };
        let specs = (spec::<f32>(("n", 2, "h", 2)), spec::<f32>((a, b, c, d)));
        let y = run(|(x, kernel)| x.conv_transpose2d(kernel, options), specs, (&x, &kernel))?;
        assert_eq!(y.shape(), shape);
        close(&y, expected, 0.0);
        Ok(())
    };
    let options = ConvTransposeOptions::new().stride((2, 1)).padding(1).output_padding((1, 0)).dilation((1, 2));
    let mixed = [
        24.0, 5.0, 27.0, 6.0, 30.0, -8.0, 36.0, -6.0, 48.0, -2.0, 54.0, 0.0, 42.0, 11.0, 45.0, 12.0, 66.0, 4.0, 72.0, 6.0, 84.0,
        10.0, 90.0, 12.0,
    ];
    of(counted([2, 2, 2, 3]), options, &[1, 2, 3, 4], &mixed)?;
    let grouped = [
        1.0, 2.0, 2.0, 4.0, 3.0, 4.0, 6.0, 8.0, 3.0, 6.0, 4.0, 8.0, 9.0, 12.0, 12.0, 16.0, 5.0, 6.0, 10.0, 12.0, 7.0, 8.0, 14.0,
        16.0, 15.0, 18.0, 20.0, 24.0, 21.0, 24.0, 28.0, 32.0, 0.0, 0.0, 9.0, 10.0, 0.0, 0.0, 11.0, 12.0, -9.0, -10.0, 18.0, 20.0,
        -11.0, -12.0, 22.0, 24.0, 0.0, 0.0, 13.0, 14.0, 0.0, 0.0, 15.0, 16.0, -13.0, -14.0, 26.0, 28.0, -15.0, -16.0, 30.0, 32.0,
    ];
    of(counted([2, 2, 2, 2]), ConvTransposeOptions::new().stride(2).groups(2), &[1, 4, 4, 4], &grouped)?;
    let cut = [0.0, 0.0, 0.0, 0.0, 4.0, 20.0, 0.0, 0.0, 40.0, 0.0, 0.0, 0.0, 0.0, 8.0, 32.0, 0.0, 8.0, 64.0];
    of(counted([2, 2, 2, 2]), ConvTransposeOptions::new().padding(2).dilation(3).output_padding(2), &[1, 2, 3, 3], &cut)
}

/// What the derivative of the convolution is, with respect to its images.
#[test]
fn it_is_the_convolution_the_other_way() -> Result<(), Error> {
    let (there, back) = (
        ConvOptions::new().stride(2).padding(1).dilation((1, 2)).groups(2),
        ConvTransposeOptions::new().stride(2).padding(1).dilation((1, 2)).groups(2).output_padding(1),
    );
    let specs = (spec::<f32>((2, 4, 6, 8)), spec::<f32>((6, 2, 3, 3)));
    let (x, kernel) = (ramp([2, 4, 6, 8]), ramp([6, 2, 3, 3]));
    let difference = run(
        |(x, kernel)| {
            let (y, pullback) = vjp(x, |x| x.conv2d(kernel, there));
            let g = (y * 0.5).sin();
            pullback.pull(&g) - g.conv_transpose2d(kernel, back)
        },
        specs,
        (&x, &kernel),
    )?;
    close(&difference, &vec![0.0; 2 * 4 * 6 * 8], 1e-5);
    Ok(())
}

#[test]
fn what_a_transposed_convolution_is_not() {
    let of = |options| {
        let specs = (spec::<f32>((1, 3, 2, 2)), spec::<f32>((3, 2, 2, 2)));
        error(|(x, kernel): (Tensor, Tensor)| x.conv_transpose2d(kernel, options), specs)
    };
    let found = of(ConvTransposeOptions::new().output_padding(1));
    assert!(found.contains("conv_transpose2d: stride 1, dilation 1, padding 0 and output padding 1"), "{found}");
    let found = of(ConvTransposeOptions::new().groups(2));
    assert!(found.contains("3 features do not split into 2 groups"), "{found}");
}
