//! Plans: no two buffers that live at once share bytes, and little is wasted.

use graver_ir::DType::F32;
use graver_ir::kernel::{Entry, Place, Program, live_bytes, lives};
use graver_ir::{Module, Sizes};

use crate::common::compiled;
use crate::nets::{cnn_step, deep_mlp_step, mlp, transformer_block};

/// The bytes of every buffer in the arena, with the steps at which it lives. Knows nothing of how plans are made.
fn extents(entry: &Entry, sizes: &Sizes) -> Vec<(i64, i64, usize, usize)> {
    let extent = |(buffer, life): (&graver_ir::kernel::Buffer, Option<graver_ir::kernel::Life>)| {
        let (Place::Arena(offset), Some(life)) = (&buffer.place, life) else { return None };
        let start = offset.eval(sizes).expect("sizes are given");
        Some((start, start + buffer.bytes().eval(sizes).expect("sizes are given"), life.first, life.last))
    };
    entry.buffers.iter().zip(lives(entry)).filter_map(extent).collect()
}

fn check_no_overlap(program: &Program, sizes: &Sizes) {
    let entry = &program.entries[0];
    let arena = entry.arena.eval(sizes).expect("sizes are given");
    let extents = extents(entry, sizes);
    for (place, (start, end, first, last)) in extents.iter().enumerate() {
        assert!(*start >= 0 && *end <= arena && start % 64 == 0, "{start}..{end} of {arena}");
        for (other_start, other_end, other_first, other_last) in &extents[..place] {
            let apart = end <= other_start || other_end <= start || start == end || other_start == other_end;
            assert!(apart || last < other_first || other_last < first, "{start}..{end} and {other_start}..{other_end}");
        }
    }
}

/// Sound for several sizes, and at a usual one at most a tenth above what must be alive at once.
fn check(module: &Module) {
    let program = compiled(module);
    for n in [0, 1, 7, 64, 1000] {
        check_no_overlap(&program, &Sizes::from([("n".to_owned(), n)]));
    }
    let sizes = Sizes::from([("n".to_owned(), 64)]);
    let entry = &program.entries[0];
    let arena = entry.arena.eval(&sizes).expect("sizes are given");
    let peak = live_bytes(entry, &sizes).expect("sizes are given").into_iter().max().unwrap_or(0);
    assert!(arena * 10 <= peak * 11, "{arena} bytes planned, {peak} alive at once");
}

#[test]
fn nets_are_planned_tightly() {
    for module in [mlp(F32), cnn_step(F32), deep_mlp_step(F32), transformer_block(F32)] {
        check(&module);
    }
}

#[test]
fn random_programs_do_not_overlap() {
    for seed in 0..150 {
        let program = compiled(&graver_testkit::random_program(seed).module);
        check_no_overlap(&program, &graver_testkit::sizes());
    }
}
