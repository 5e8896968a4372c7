//! Transforms and datasets against values computed by hand, and what they refuse.

use graver_data::{
    Dataset, InMemory, Interpolation, Key, OneHot, RandomCrop, RandomFlip, Resize, Scale, Standardise, ToF32, Transform, digits,
};
use graver_ir::{Array, DType};

fn image(height: usize, width: usize) -> Array {
    Array::from_vec([height, width], (0..height * width).map(|x| x as f32 + 1.0).collect()).expect("sizes agree")
}

fn check(transform: impl Transform, x: Array, shape: &[usize], expected: &[f64]) {
    let y = transform.apply(x, Key::default()).expect("applies");
    assert_eq!((y.shape(), y.to_f64().as_slice()), (shape, expected));
}

fn refuses(transform: impl Transform, x: Array, expected: &str) {
    let message = transform.apply(x, Key::default()).expect_err("refused").to_string();
    assert_eq!(message, expected);
}

fn resize(height: usize, width: usize, interpolation: Interpolation) -> Resize {
    Resize { height, width, interpolation }
}

/// The example of PyTorch's documentation of `Upsample`.
#[test]
fn bilinear_doubles_as_pytorch_does() {
    #[rustfmt::skip]
    let expected = [
        1.0, 1.25, 1.75, 2.0,
        1.5, 1.75, 2.25, 2.5,
        2.5, 2.75, 3.25, 3.5,
        3.0, 3.25, 3.75, 4.0,
    ];
    check(resize(4, 4, Interpolation::Bilinear), image(2, 2), &[4, 4], &expected);
    check(resize(2, 2, Interpolation::Bilinear), image(2, 2), &[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    // Centres 1/2 + 3/2 i - 1/2 = 0.25, 1.75 of 0, 1, 2.
    check(resize(1, 2, Interpolation::Bilinear), image(1, 3), &[1, 2], &[1.25, 2.75]);
    check(resize(3, 1, Interpolation::Bilinear), image(1, 1), &[3, 1], &[1.0, 1.0, 1.0]);
}

#[test]
fn nearest_takes_the_pixel_at_the_floor() {
    check(resize(1, 6, Interpolation::Nearest), image(1, 3), &[1, 6], &[1.0, 1.0, 2.0, 2.0, 3.0, 3.0]);
    check(resize(1, 2, Interpolation::Nearest), image(1, 5), &[1, 2], &[1.0, 3.0]);
    check(resize(4, 1, Interpolation::Nearest), image(3, 2), &[4, 1], &[1.0, 1.0, 3.0, 5.0]);
    let planes = Array::from_vec([2, 1, 1, 2], vec![1u8, 2, 3, 4]).expect("four");
    check(resize(2, 2, Interpolation::Nearest), planes, &[2, 1, 2, 2], &[1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0]);
}

#[test]
fn sizes_and_types_that_do_not_fit_are_refused() {
    refuses(resize(2, 0, Interpolation::Nearest), image(2, 2), "resize: f32[2, 2] cannot become 2 x 0: a size is 0");
    refuses(
        resize(1 << 40, 1 << 40, Interpolation::Nearest),
        image(1, 1),
        "resize: an array of shape [1099511627776, 1099511627776] is too large",
    );
    refuses(resize(2, 2, Interpolation::Bilinear), Array::scalar(1f32), "resize: takes images [.., height, width], got f32[]");
    let bytes = Array::full([2, 2], graver_ir::Scalar::one(DType::U8));
    refuses(resize(4, 4, Interpolation::Bilinear), bytes.clone(), "resize: takes floats, got u8[2, 2]; apply ToF32 first");
    refuses(Scale(2.0), bytes, "scale: takes floats, got u8[2, 2]; apply ToF32 first");
    let crop = RandomCrop { height: 3, width: 2, padding: 0 };
    refuses(crop, image(2, 2), "random_crop: f32[2, 2] with padding 0 has no part of 3 x 2");
    let crop = RandomCrop { height: 1, width: 1, padding: usize::MAX };
    assert!(crop.apply(image(2, 2), Key::default()).is_err());
    refuses(OneHot(3), image(1, 1), "one_hot: takes integer labels, got f32[1, 1]");
    refuses(OneHot(3), Array::scalar(3i64), "one_hot: the label 3 is not one of 3 classes");
    refuses(OneHot(3), Array::scalar(-1i64), "one_hot: the label -1 is not one of 3 classes");
    assert!(OneHot(usize::MAX).apply(image(2, 2).cast(DType::I64), Key::default()).is_err());
}

#[test]
fn crops_are_parts_of_the_padded_image() {
    let crop = RandomCrop { height: 2, width: 2, padding: 1 };
    let mut corners = 0;
    for seed in 0..64 {
        let y = crop.apply(image(2, 2), Key::seed(seed)).expect("fits").to_f64();
        corners += usize::from(y == [0.0, 0.0, 0.0, 1.0]);
        assert!([1.0, 2.0, 3.0, 4.0].iter().any(|pixel| y.contains(pixel)), "{y:?}");
    }
    assert!(corners > 0, "the upper left corner never came");
    check(RandomCrop { height: 2, width: 2, padding: 0 }, image(2, 2), &[2, 2], &[1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn flips_mirror_rows_or_do_nothing() {
    check(RandomFlip { probability: 1.0 }, image(2, 3), &[2, 3], &[3.0, 2.0, 1.0, 6.0, 5.0, 4.0]);
    check(RandomFlip { probability: 0.0 }, image(1, 3), &[1, 3], &[1.0, 2.0, 3.0]);
    check(RandomFlip { probability: 1.0 }, Array::from_vec([2, 0], Vec::<u8>::new()).expect("none"), &[2, 0], &[]);
    let half = RandomFlip { probability: 0.5 };
    let flipped = (0..100).filter(|seed| half.apply(image(1, 2), Key::seed(*seed)).expect("fits").to_f64() == [2.0, 1.0]).count();
    assert!((30..70).contains(&flipped), "{flipped} of 100");
}

#[test]
fn chains_draw_apart() {
    let flip = || RandomFlip { probability: 0.5 };
    let twice = flip().then(flip());
    let kept = (0..100).filter(|seed| twice.apply(image(1, 2), Key::seed(*seed)).expect("fits").to_f64() == [1.0, 2.0]).count();
    assert!((30..70).contains(&kept), "two flips of one draw would always cancel: {kept} of 100");
}

#[test]
fn standardise_is_fitted_to_channels() {
    // Channels of two pixels: 1 3 and 5 5, then 5 7 and 5 5: means 4 and 5, variances 5 and 0.
    let x = Array::from_vec([2, 2, 1, 2], vec![1f32, 3.0, 5.0, 5.0, 5.0, 7.0, 5.0, 5.0]).expect("eight");
    let data = InMemory::new(x).expect("an axis");
    let fitted = Standardise::fit(&data).expect("fits");
    assert_eq!((fitted.mean(), fitted.std()), ([4.0, 5.0].as_slice(), [5f64.sqrt(), 1.0].as_slice()));
    let y = data.transform(fitted.clone()).get(1).expect("there is one").to_f64();
    assert!(y.iter().zip([1.0 / 5f64.sqrt(), 3.0 / 5f64.sqrt(), 0.0, 0.0]).all(|(x, y)| (x - y).abs() < 1e-6), "{y:?}");
    assert!(fitted.apply(image(3, 2), Key::default()).is_err());
    assert!(Standardise::new(vec![0.0], vec![0.0]).is_err());
    assert!(Standardise::new(vec![f64::NAN], vec![1.0]).is_err());
    let empty = InMemory::new(Array::from_vec([0, 2], Vec::<f32>::new()).expect("none")).expect("an axis");
    assert!(Standardise::fit(&empty).is_err());
}

#[test]
fn datasets_compose() {
    let (train, test) = digits();
    let both = test.concat(train).subset(vec![355, 0, 355]).expect("there are so many");
    assert_eq!(both.len(), 3);
    let labels: Vec<f64> = (0..3).map(|index| both.get(index).expect("there is one").1.item().expect("a number")).collect();
    assert_eq!(labels[0].to_bits(), labels[2].to_bits());
    let hot = both.transform(ToF32.then(Scale(1.0 / 16.0))).transform_field(1, OneHot(10));
    let (image, label) = hot.get(0).expect("there is one");
    assert_eq!((image.dtype(), label.shape()), (DType::F32, [10].as_slice()));
    assert!(image.to_f64().iter().all(|pixel| (0.0..=1.0).contains(pixel)));
    assert_eq!(hot.get(3).expect_err("only three").to_string(), "dataset: there is no item 3 among 3");
    let nowhere = digits().0.transform_field(2, ToF32);
    assert_eq!(
        nowhere.get(0).expect_err("two arrays").to_string(),
        "transform: items have 2 arrays, the transform is for number 2"
    );
    assert!(digits().1.subset(vec![355]).is_err());
}

#[test]
fn columns_must_agree() {
    let rows = |n: usize| Array::from_vec([n, 2], vec![0f32; 2 * n]).expect("sizes agree");
    let message = InMemory::new((rows(3), rows(2))).expect_err("3 and 2").to_string();
    assert_eq!(message, "dataset: first axes must count the same items, got f32[3, 2], f32[2, 2]");
    assert!(InMemory::new(Array::scalar(1f32)).is_err());
}
