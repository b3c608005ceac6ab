//! Has anything grown?

use std::time::Duration;

use crate::gauges::Series;

/// What is not looked at in the beginning: tables fill, allocators settle. At most a fifth of the samples.
const WARM_UP: Duration = Duration::from_secs(60);

/// Prints a row for each series; returns those that grew.
pub(crate) fn print(series: &[Series]) -> Vec<String> {
    println!(
        "\n| what | first quarter, median | last quarter, median | greatest | may grow by |\n|---|---|---|---|---|"
    );
    let mut grown = Vec::new();
    for Series { name, slack, samples } in series {
        let warm_up = WARM_UP.min(samples.last().map_or(Duration::ZERO, |(at, _)| *at / 5));
        let values: Vec<u64> = samples.iter().filter(|(at, _)| *at >= warm_up).map(|(_, value)| *value).collect();
        let quarter = (values.len() / 4).max(1);
        let first = median(&values[..quarter.min(values.len())]);
        let last = median(&values[values.len().saturating_sub(quarter)..]);
        let greatest = values.iter().max().copied().unwrap_or(0);
        println!("| {name} | {first} | {last} | {greatest} | {slack} |");
        if last > first + slack {
            grown.push(format!("{name} grew from {first} to {last}, and may by {slack}"));
        }
    }
    grown
}

/// The one in the middle; 0 where there is none.
fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}
