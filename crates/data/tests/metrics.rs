//! Metrics against values computed by hand, batch by batch and at once, and what they refuse.

use graver_data::metrics::{Accuracy, Average, ConfusionMatrix, Mean, Regression, RunningMean, TopK};
use graver_ir::{Array, DType};

fn ints(values: &[i64]) -> Array {
    Array::from_vec([values.len()], values.to_vec()).expect("one axis")
}

fn rows(classes: usize, values: &[f32]) -> Array {
    Array::from_vec([values.len() / classes, classes], values.to_vec()).expect("whole rows")
}

fn near(x: Option<f64>, y: f64) {
    assert!(x.is_some_and(|x| (x - y).abs() < 1e-12), "{x:?} is not {y}");
}

/// The example of scikit-learn's documentation of `precision_recall_fscore_support`: cat 0, dog 1, pig 2.
#[test]
fn averages_are_scikit_learns() {
    let (labels, predicted) = (ints(&[0, 1, 2, 0, 1, 2]), ints(&[0, 2, 1, 0, 0, 1]));
    let mut matrix = ConfusionMatrix::new(3).expect("three");
    matrix.update(&predicted, &labels).expect("fits");
    let all = [Average::Macro, Average::Micro, Average::Weighted];
    let expected = [(2.0 / 9.0, 1.0 / 3.0, 4.0 / 15.0), (1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0), (2.0 / 9.0, 1.0 / 3.0, 4.0 / 15.0)];
    for (average, (precision, recall, f1)) in all.into_iter().zip(expected) {
        near(matrix.precision(average), precision);
        near(matrix.recall(average), recall);
        near(matrix.f1(average), f1);
    }
    assert_eq!(matrix.precisions(), [2.0 / 3.0, 0.0, 0.0]);
    assert_eq!(matrix.recalls(), [1.0, 0.0, 0.0]);
    assert_eq!(matrix.f1s(), [0.8, 0.0, 0.0]);
}

/// Labels 0 0 0 1, predictions 0 1 1 1 of four classes: 2 never occurs, 3 neither.
#[test]
fn weights_differ_from_means_and_absent_classes_are_left_out() {
    let mut matrix = ConfusionMatrix::new(4).expect("four");
    matrix.update(&ints(&[0, 1, 1, 1]), &ints(&[0, 0, 0, 1])).expect("fits");
    near(matrix.accuracy(), 0.5);
    near(matrix.precision(Average::Macro), (1.0 + 1.0 / 3.0) / 2.0);
    near(matrix.precision(Average::Weighted), (3.0 + 1.0 / 3.0) / 4.0);
    near(matrix.recall(Average::Macro), (1.0 / 3.0 + 1.0) / 2.0);
    near(matrix.f1(Average::Macro), 0.5);
    near(matrix.f1(Average::Weighted), 0.5);
    // Class 2 is predicted but never right: it counts with 0, as in scikit-learn.
    matrix.update(&ints(&[2]), &ints(&[0])).expect("fits");
    near(matrix.precision(Average::Macro), (1.0 + 1.0 / 3.0) / 3.0);
    near(matrix.recall(Average::Weighted), (4.0 * 0.25 + 1.0) / 5.0);
}

#[test]
fn batches_add_up() {
    let (labels, scores) = (ints(&[1, 0, 1]), rows(2, &[0.0, 1.0, 0.5, 0.5, 2.0, -1.0]));
    let (mut whole, mut parts) = (ConfusionMatrix::new(2).expect("two"), ConfusionMatrix::new(2).expect("two"));
    whole.update(&scores, &labels).expect("fits");
    parts.update(&rows(2, &[0.0, 1.0]), &ints(&[1])).expect("fits");
    parts.update(&rows(2, &[]), &ints(&[])).expect("an empty batch");
    parts.update(&rows(2, &[0.5, 0.5, 2.0, -1.0]), &ints(&[0, 1])).expect("fits");
    assert_eq!(whole, parts);
    assert_eq!([(0, 0), (0, 1), (1, 0), (1, 1)].map(|(label, predicted)| whole.count(label, predicted)), [1, 0, 1, 1]);
    assert_eq!(whole.count(2, 0), 0);
}

#[test]
fn predictions_are_classes_or_scores_of_any_rank() {
    let mut accuracy = Accuracy::new();
    assert_eq!(accuracy.compute(), None);
    let labels = Array::from_vec([2, 1], vec![1u8, 0]).expect("two");
    accuracy.update(&Array::from_vec([2, 1], vec![1i32, 1]).expect("two"), &labels).expect("fits");
    accuracy.update(&Array::from_vec([2, 1, 3], vec![0f32, 2.0, 1.0, 5.0, 5.0, 4.0]).expect("six"), &labels).expect("fits");
    accuracy.update(&Array::from_vec([2], vec![0f64, 1.0]).expect("two"), &Array::scalar(1i64)).expect("one row, no axis");
    near(accuracy.compute(), 4.0 / 5.0);
    let mut nan = Accuracy::new();
    nan.update(&rows(3, &[1.0, f32::NAN, f32::INFINITY]), &ints(&[1])).expect("fits");
    near(nan.compute(), 1.0);
}

#[test]
fn top_k_counts_ranks() {
    let scores = rows(4, &[0.1, 0.4, 0.3, 0.2, 1.0, 1.0, 1.0, 0.0, 9.0, f32::NAN, 8.0, 7.0]);
    let labels = ints(&[2, 2, 0]);
    for (k, expected) in [(0, 0.0), (1, 0.0), (2, 2.0 / 3.0), (3, 1.0), (9, 1.0)] {
        let mut top = TopK::new(k);
        top.update(&scores, &labels).expect("fits");
        near(top.compute(), expected);
    }
    let mut top = TopK::new(2);
    let message = top.update(&scores, &ints(&[0, 4, 0])).expect_err("no class 4").to_string();
    assert_eq!(message, "top_k: label 1 is 4, there are scores of 4 classes");
    assert_eq!(top.compute(), None, "a failed update counts nothing");
    assert!(top.update(&labels, &labels).is_err());
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_counted() {
    let mut matrix = ConfusionMatrix::new(3).expect("three");
    let mut refuses = |predicted: &Array, labels: &Array, expected: &str| {
        let message = matrix.update(predicted, labels).expect_err("refused").to_string();
        assert!(message.starts_with(expected), "{message}");
    };
    refuses(&ints(&[0, 3]), &ints(&[0, 1]), "confusion: prediction 1 is 3, the classes are 0 to 2");
    refuses(&ints(&[0, 1]), &ints(&[0, -1]), "confusion: label 1 is -1, the classes are 0 to 2");
    refuses(&ints(&[0]), &ints(&[0, 1]), "confusion: predictions i64[1] do not fit labels i64[2]; integers of the labels' shape");
    refuses(&rows(3, &[0.0; 3]), &ints(&[0, 1]), "confusion: predictions f32[1, 3] do not fit labels i64[2]");
    refuses(&rows(4, &[0.0, 0.0, 0.0, 1.0]), &ints(&[0]), "confusion: prediction 0 is 3");
    refuses(&ints(&[0]), &rows(1, &[0.0]), "confusion: labels are integers, got f32[1, 1]");
    refuses(&ints(&[0]).cast(DType::Bool), &ints(&[0]), "confusion: labels are integers, got bool[1]");
    let none = Array::from_vec([1, 0], Vec::<f32>::new()).expect("none");
    refuses(&none, &ints(&[0]), "confusion: predictions f32[1, 0]");
    assert_eq!((matrix.accuracy(), matrix.f1(Average::Macro), matrix.f1(Average::Micro)), (None, None, None));
    assert!(ConfusionMatrix::new(0).is_err() && ConfusionMatrix::new(usize::MAX).is_err());
    assert!(ConfusionMatrix::new(2).expect("two").with_names(["one"]).is_err());
    let mut padded = ConfusionMatrix::new(2).expect("two").ignoring(-100);
    padded.update(&ints(&[0, 7, 1]), &ints(&[0, -100, 0])).expect("the padding is not looked at");
    near(padded.accuracy(), 0.5);
}

#[test]
fn regression_has_scikit_learns_edges() {
    let mut metric = Regression::new();
    assert_eq!((metric.mse(), metric.mae(), metric.r2()), (None, None, None));
    let y = Array::from_vec([1, 1], vec![3.0f64]).expect("one");
    metric.update(&y, &y).expect("fits");
    assert_eq!((metric.mse(), metric.r2()), (Some(0.0), None));
    metric.update(&y, &y).expect("fits");
    assert_eq!(metric.r2(), Some(1.0));
    metric.update(&Array::from_vec([1, 1], vec![4i64]).expect("one"), &y).expect("fits");
    assert_eq!(metric.r2(), Some(0.0));
    let message = metric.update(&ints(&[1]), &y).expect_err("shapes differ").to_string();
    assert_eq!(message, "regression: takes numbers of one shape, got i64[1] and f64[1, 1]; reshape one: [n, 1] and [n] differ");
}

#[test]
fn means_take_what_comes() {
    let mut mean = Mean::new();
    mean.update(5.0, 0.0);
    mean.update(5.0, -1.0);
    mean.update(5.0, f64::NAN);
    assert_eq!(mean.compute(), None);
    (0..10).for_each(|_| mean.update(0.1, 3.0));
    assert_eq!(mean.compute(), Some(0.1));
    mean.update(f64::NAN, 1.0);
    assert!(mean.compute().is_some_and(f64::is_nan));
    let mut constant = RunningMean::new(0.9);
    assert_eq!(constant.compute(), None);
    (0..5).for_each(|_| constant.update(3.0));
    near(constant.compute(), 3.0);
    let mut last = RunningMean::new(-1.0);
    last.update(1.0);
    last.update(2.0);
    assert_eq!(last.compute(), Some(2.0));
}
