//! The confusion matrix, and what follows from it: accuracy, precision, recall, F1.

use std::fmt;

use graver_ir::{Array, Diag};

use super::{classes, labels, ratio};

/// The matrix has as many cells as this at most.
const MAX_CELLS: usize = 1 << 28;

/// How values of classes become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Average {
    /// The mean over classes.
    Macro,
    /// Of the counts of all classes together: the accuracy.
    Micro,
    /// The mean over classes, weighted by how often each is the label.
    Weighted,
}

/// How often each class was predicted for each label.
///
/// Precision, recall and F1 are as scikit-learn 1.x computes them with `labels=None` and `zero_division=0`: a value whose
/// divisor is 0 is 0, and classes that are neither label nor prediction are left out of averages.
///
/// ```
/// use graver_data::metrics::ConfusionMatrix;
/// use graver_ir::Array;
/// let mut matrix = ConfusionMatrix::new(3)?.with_names(["cat", "dog", "fish"])?;
/// matrix.update(&Array::from_vec([4], vec![0i64, 1, 1, 2])?, &Array::from_vec([4], vec![0i64, 1, 0, 0])?)?;
/// assert_eq!(matrix.to_string(), "
/// label \\ predicted     cat    dog  fish  recall
/// cat                     1      1     1   33.3%
/// dog                     0      1     0  100.0%
/// fish                    0      0     0       -
/// precision          100.0%  50.0%  0.0%   50.0%
/// ".trim_start());
/// # Ok::<(), graver_ir::Diag>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfusionMatrix {
    classes: usize,
    names: Vec<String>,
    /// Row: label; column: prediction.
    counts: Vec<u64>,
    ignored: Option<i64>,
}

impl ConfusionMatrix {
    /// Nothing counted.
    ///
    /// # Errors
    /// If there are no classes, or more than 16384.
    pub fn new(classes: usize) -> Result<Self, Diag> {
        let cells = classes.checked_mul(classes).filter(|cells| (1..=MAX_CELLS).contains(cells));
        let cells = cells.ok_or_else(|| Diag::new(format!("takes 1 to 16384 classes, got {classes}")).op("confusion"))?;
        let names = (0..classes).map(|class| class.to_string()).collect();
        Ok(Self { classes, names, counts: vec![0; cells], ignored: None })
    }

    /// With names for the table.
    ///
    /// # Errors
    /// If there are not as many as classes.
    pub fn with_names<S: Into<String>>(self, names: impl IntoIterator<Item = S>) -> Result<Self, Diag> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        if names.len() == self.classes {
            Ok(Self { names, ..self })
        } else {
            Err(Diag::new(format!("{} names for {} classes", names.len(), self.classes)).op("confusion"))
        }
    }

    /// Does not count where this is the label: padding.
    #[must_use]
    pub fn ignoring(self, label: i64) -> Self {
        Self { ignored: Some(label), ..self }
    }

    /// Counts a batch.
    ///
    /// # Errors
    /// If predictions and labels do not fit (see the [module](super)), or one is not a class.
    pub fn update(&mut self, predicted: &Array, expected: &Array) -> Result<(), Diag> {
        let labels = labels("confusion", expected)?;
        let predicted = classes("confusion", predicted, expected)?;
        let counted = labels.iter().zip(&predicted).enumerate().filter(|(_, (label, _))| Some(**label) != self.ignored);
        let cells = counted.map(|(place, (label, class))| self.cell(place, *label, *class)).collect::<Result<Vec<_>, _>>()?;
        cells.into_iter().for_each(|cell| self.counts[cell] += 1);
        Ok(())
    }

    fn cell(&self, place: usize, label: i64, class: i64) -> Result<usize, Diag> {
        let inside = |x: i64| usize::try_from(x).ok().filter(|x| *x < self.classes);
        match (inside(label), inside(class)) {
            (Some(label), Some(class)) => Ok(label * self.classes + class),
            (None, _) => Err(self.outside("label", place, label)),
            (Some(_), None) => Err(self.outside("prediction", place, class)),
        }
    }

    fn outside(&self, what: &str, place: usize, class: i64) -> Diag {
        Diag::new(format!("{what} {place} is {class}, the classes are 0 to {}", self.classes - 1)).op("confusion")
    }

    /// How often `predicted` was given where `label` was right; 0 where there is no such class.
    #[must_use]
    pub fn count(&self, label: usize, predicted: usize) -> u64 {
        if label < self.classes && predicted < self.classes { self.counts[label * self.classes + predicted] } else { 0 }
    }

    /// Of the predictions of each class, the part that is right. 0 where there are none.
    #[must_use]
    pub fn precisions(&self) -> Vec<f64> {
        self.each(Class::precision)
    }

    /// Of the labels of each class, the part that was found. 0 where there are none.
    #[must_use]
    pub fn recalls(&self) -> Vec<f64> {
        self.each(Class::recall)
    }

    /// The harmonic mean of both, for each class. 0 where a class never occurs.
    #[must_use]
    pub fn f1s(&self) -> Vec<f64> {
        self.each(Class::f1)
    }

    /// The part that is right.
    #[must_use]
    pub fn accuracy(&self) -> Option<f64> {
        ratio((0..self.classes).map(|class| self.count(class, class)).sum(), self.counts.iter().sum())
    }

    /// The precision over all classes.
    #[must_use]
    pub fn precision(&self, average: Average) -> Option<f64> {
        self.averaged(average, Class::precision)
    }

    /// The recall over all classes.
    #[must_use]
    pub fn recall(&self, average: Average) -> Option<f64> {
        self.averaged(average, Class::recall)
    }

    /// F1 over all classes: of each class first, averaged then.
    #[must_use]
    pub fn f1(&self, average: Average) -> Option<f64> {
        self.averaged(average, Class::f1)
    }

    fn class(&self, class: usize) -> Class {
        let labelled = (0..self.classes).map(|predicted| self.count(class, predicted)).sum();
        let predicted = (0..self.classes).map(|label| self.count(label, class)).sum();
        Class { right: self.count(class, class), labelled, predicted }
    }

    fn each(&self, value: fn(Class) -> Option<f64>) -> Vec<f64> {
        (0..self.classes).map(|class| value(self.class(class)).unwrap_or(0.0)).collect()
    }

    fn averaged(&self, average: Average, value: fn(Class) -> Option<f64>) -> Option<f64> {
        let classes = (0..self.classes).map(|class| self.class(class)).filter(|class| class.labelled + class.predicted > 0);
        #[expect(clippy::cast_precision_loss, reason = "counts below 2^53 are exact")]
        let weight = |class: &Class| match average {
            Average::Macro => 1.0,
            Average::Weighted => class.labelled as f64,
            Average::Micro => 0.0,
        };
        match average {
            Average::Micro => self.accuracy(),
            Average::Macro | Average::Weighted => {
                let sums = classes.fold((0.0, 0.0), |(sum, weights), class| {
                    (sum + weight(&class) * value(class).unwrap_or(0.0), weights + weight(&class))
                });
                (sums.1 > 0.0).then(|| sums.0 / sums.1)
            }
        }
    }
}

/// Counts of one class.
#[derive(Clone, Copy)]
struct Class {
    right: u64,
    labelled: u64,
    predicted: u64,
}

impl Class {
    fn precision(self) -> Option<f64> {
        ratio(self.right, self.predicted)
    }

    fn recall(self) -> Option<f64> {
        ratio(self.right, self.labelled)
    }

    fn f1(self) -> Option<f64> {
        ratio(2 * self.right, self.labelled + self.predicted)
    }
}

impl fmt::Display for ConfusionMatrix {
    /// A row a label with its recall, a column a prediction with its precision, the accuracy in the corner; `-` where nothing was counted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.table();
        let widths: Vec<usize> =
            (0..self.classes + 2).map(|column| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
        for row in table {
            write!(f, "{:<width$}", row[0], width = widths[0])?;
            for (cell, width) in row.iter().zip(&widths).skip(1) {
                write!(f, "  {cell:>width$}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl ConfusionMatrix {
    fn table(&self) -> Vec<Vec<String>> {
        let percent = |part: Option<f64>| part.map_or("-".to_owned(), |part| format!("{:.1}%", 100.0 * part));
        let line = |first: &str, cells: Vec<String>, last: String| [vec![first.to_owned()], cells, vec![last]].concat();
        let mut table = vec![line("label \\ predicted", self.names.clone(), "recall".to_owned())];
        for (label, name) in self.names.iter().enumerate() {
            let counts = (0..self.classes).map(|predicted| self.count(label, predicted).to_string()).collect();
            table.push(line(name, counts, percent(self.class(label).recall())));
        }
        let precisions = (0..self.classes).map(|class| percent(self.class(class).precision())).collect();
        table.push(line("precision", precisions, percent(self.accuracy())));
        table
    }
}
