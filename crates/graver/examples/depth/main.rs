//! Compile time against depth: a transformer of 12, 24 and 48 blocks, or of as many as the arguments say, as it predicts and as it is
//! trained, with where the time of the training step goes.

mod model;

use std::time::Instant;

use graver::ir::Sizes;
use graver::{Error, cpu};

use model::Net;

fn main() -> Result<(), Error> {
    let asked: Vec<usize> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    for depth in if asked.is_empty() { vec![12, 24, 48] } else { asked } {
        let net = Net::new(depth);
        let start = Instant::now();
        let predict = net.predicting(&cpu())?;
        println!("{depth} blocks, predicting: {:.0?}, {} kernels", start.elapsed(), predict.kernels().len());
        let start = Instant::now();
        let step = net.training(&cpu())?;
        let (took, report) = (start.elapsed(), step.report());
        let sizes = Sizes::from([("batch".to_owned(), 8), ("time".to_owned(), 64)]);
        println!(
            "{depth} blocks, training: {took:.0?}, {} kernels for {} launches; 8 x 64 take {:.1} MB to work in",
            step.kernels().len(),
            step.program().entries[0].steps.len(),
            step.working_bytes(&sizes)?.arena as f64 / 1e6
        );
        let passes = report.passes.iter().map(|pass| (pass.pass, pass.took));
        let stages = report.stages.iter().map(|(stage, took)| (*stage, *took));
        for (what, took) in [("trace", report.trace)].into_iter().chain(passes).chain(stages).chain([("codegen", report.codegen)])
        {
            if took.as_millis() > 0 {
                println!("  {what:<10} {took:>9.1?}");
            }
        }
    }
    Ok(())
}
