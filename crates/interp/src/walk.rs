//! Ways to walk over arrays: strided views, points, and the elements under windows.

/// Row-major strides of a dense array.
pub(crate) fn strides(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * signed(shape[axis]);
    }
    strides
}

/// A size as a signed number.
pub(crate) fn signed(size: usize) -> isize {
    isize::try_from(size).expect("sizes in memory are below 2^63")
}

/// The offsets of a strided view in row-major order of its points: `start + index . strides`.
pub(crate) fn offsets<'a>(shape: &'a [usize], start: isize, strides: &'a [isize]) -> Offsets<'a> {
    Offsets { shape, strides, index: vec![0; shape.len()], offset: start, left: shape.iter().product() }
}

/// The iterator of [`offsets`].
pub(crate) struct Offsets<'a> {
    shape: &'a [usize],
    strides: &'a [isize],
    index: Vec<usize>,
    offset: isize,
    left: usize,
}

impl Iterator for Offsets<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let current = usize::try_from(self.offset).expect("a view's points lie in its array");
        for axis in (0..self.shape.len()).rev() {
            self.index[axis] += 1;
            self.offset += self.strides[axis];
            if self.index[axis] < self.shape[axis] {
                break;
            }
            self.offset -= self.strides[axis] * signed(self.shape[axis]);
            self.index[axis] = 0;
        }
        Some(current)
    }
}

/// Every point of a shape, in row-major order.
pub(crate) fn each_point(shape: &[usize], mut visit: impl FnMut(&[usize])) {
    let mut index = vec![0; shape.len()];
    for _ in 0..shape.iter().product() {
        visit(&index);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}

/// How windows lie along one axis: tap `k` of window `i` is at `i * stride - low + k * dilation` of an axis whose elements are
/// `spread` apart.
pub(crate) struct Along {
    pub(crate) windows: usize,
    pub(crate) taps: usize,
    pub(crate) size: usize,
    pub(crate) stride: i64,
    pub(crate) low: i64,
    pub(crate) dilation: i64,
    pub(crate) spread: i64,
}

impl Along {
    /// The element under a tap; none in padding and between spread elements.
    fn source(&self, window: usize, tap: usize) -> Option<usize> {
        let [window, tap] = [window, tap].map(|x| i64::try_from(x).expect("sizes in memory are below 2^63"));
        let position = window * self.stride - self.low + tap * self.dilation;
        let element = usize::try_from(position.div_euclid(self.spread)).ok()?;
        (position.rem_euclid(self.spread) == 0 && element < self.size).then_some(element)
    }
}

/// The elements under windows over several axes.
pub(crate) struct Windows {
    axes: Vec<Along>,
    /// `taps[axis][window]`: the taps that meet an element, and it.
    taps: Vec<Vec<Vec<(usize, usize)>>>,
}

impl Windows {
    pub(crate) fn new(axes: Vec<Along>) -> Self {
        let met = |axis: &Along, window: usize| {
            (0..axis.taps).filter_map(|tap| Some((tap, axis.source(window, tap)?))).collect::<Vec<_>>()
        };
        let taps = axes.iter().map(|axis| (0..axis.windows).map(|window| met(axis, window)).collect()).collect();
        Self { axes, taps }
    }

    /// How many windows there are along each axis.
    pub(crate) fn shape(&self) -> Vec<usize> {
        self.axes.iter().map(|axis| axis.windows).collect()
    }

    /// Visits a window's taps that meet an element, in row-major order: the tap's and the element's row-major positions.
    pub(crate) fn each(&self, window: &[usize], visit: &mut dyn FnMut(usize, usize)) {
        self.descend(window, 0, 0, 0, visit);
    }

    fn descend(&self, window: &[usize], axis: usize, tap: usize, element: usize, visit: &mut dyn FnMut(usize, usize)) {
        let Some(along) = self.axes.get(axis) else { return visit(tap, element) };
        for (k, at) in &self.taps[axis][window[axis]] {
            self.descend(window, axis + 1, tap * along.taps + k, element * along.size + at, visit);
        }
    }

    /// The element under a tap of a window; none in padding.
    pub(crate) fn element(&self, window: &[usize], tap: usize) -> Option<usize> {
        let (mut rest, mut factor, mut element) = (tap, 1, 0);
        for (axis, along) in self.axes.iter().enumerate().rev() {
            element += along.source(window[axis], rest % along.taps)? * factor;
            rest /= along.taps;
            factor *= along.size;
        }
        (rest == 0).then_some(element)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_in_row_major_order_of_the_view() {
        let transposed: Vec<usize> = offsets(&[3, 2], 0, &[1, 3]).collect();
        assert_eq!(transposed, [0, 3, 1, 4, 2, 5]);
        let backwards: Vec<usize> = offsets(&[3], 2, &[-1]).collect();
        assert_eq!(backwards, [2, 1, 0]);
        assert_eq!(offsets(&[0, 3], -1, &[1, 1]).count(), 0);
        assert_eq!(offsets(&[], 7, &[]).collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn windows_skip_padding() {
        let along = Along { windows: 3, taps: 2, size: 4, stride: 2, low: 1, dilation: 2, spread: 1 };
        let windows = Windows::new(vec![along]);
        let mut found = Vec::new();
        each_point(&windows.shape(), |window| windows.each(window, &mut |tap, at| found.push((window[0], tap, at))));
        assert_eq!(found, [(0, 1, 1), (1, 0, 1), (1, 1, 3), (2, 0, 3)]);
        assert_eq!(windows.element(&[0], 0), None);
        assert_eq!(windows.element(&[2], 0), Some(3));
        assert_eq!(windows.element(&[2], 5), None);
    }
}
