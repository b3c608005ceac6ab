//! Metrics as text: Prometheus' own format, version 0.0.4, and OpenMetrics 1.0.0.

use std::fmt::{Display, Write as _};

use vswitch_api::Histogram;

use super::table::{Kind, Metric};

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Prometheus,
    OpenMetrics,
}

impl Format {
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What is told, as it grows.
#[derive(Debug)]
pub(super) struct Text {
    format: Format,
    out: String,
}

/// The series of one metric.
#[derive(Debug)]
pub(super) struct Family<'a> {
    metric: &'static str,
    labels: &'static [&'static str],
    out: &'a mut String,
}

impl Text {
    pub(super) fn new(format: Format) -> Self {
        Self { format, out: String::new() }
    }

    /// The series of `metric`; each metric is told at once, and once.
    pub(super) fn family(&mut self, metric: &Metric) -> Family<'_> {
        let &Metric { name, kind, help, labels } = metric;
        // In OpenMetrics a counter is called without the end of its samples.
        let family = match (self.format, kind) {
            (Format::OpenMetrics, Kind::Counter) => name.strip_suffix("_total").unwrap_or(name),
            _ => name,
        };
        let _ = writeln!(self.out, "# HELP {family} {help}\n# TYPE {family} {}", kind.name());
        Family { metric: name, labels, out: &mut self.out }
    }

    /// A metric that is a single series.
    pub(super) fn single(&mut self, metric: &Metric, value: impl Display) {
        self.family(metric).sample(&[], value);
    }

    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }
}

impl Family<'_> {
    /// The series of these labels, of which there are as many as the metric declares.
    pub(super) fn sample(&mut self, labels: &[&dyn Display], value: impl Display) {
        self.line("", labels, None, value);
    }

    /// The series of a histogram, each bound written by `bound`. `sum` is in the metric's unit.
    pub(super) fn histogram(
        &mut self,
        labels: &[&dyn Display],
        histogram: &Histogram,
        bound: impl Fn(u64) -> f64,
        sum: impl Display,
    ) {
        let mut below = 0;
        for (&le, count) in histogram.le.iter().zip(&histogram.counts) {
            below += count;
            self.line("_bucket", labels, Some(&format!("{:?}", bound(le))), below);
        }
        self.line("_bucket", labels, Some("+Inf"), histogram.count());
        self.line("_sum", labels, None, sum);
        self.line("_count", labels, None, histogram.count());
    }

    fn line(&mut self, suffix: &str, labels: &[&dyn Display], le: Option<&str>, value: impl Display) {
        debug_assert_eq!(labels.len(), self.labels.len(), "labels of {}", self.metric);
        let _ = write!(self.out, "{}{suffix}", self.metric);
        let mut open = '{';
        for (name, value) in self.labels.iter().zip(labels) {
            let _ = write!(self.out, "{open}{name}=\"");
            escape(&value.to_string(), self.out);
            self.out.push('"');
            open = ',';
        }
        if let Some(le) = le {
            let _ = write!(self.out, "{open}le=\"{le}\"");
            open = ',';
        }
        let _ = writeln!(self.out, "{} {value}", if open == ',' { "}" } else { "" });
    }
}

/// A label's value may be any text.
fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::{BUILD, FDB_MOVED, PORT_DROPS, WORKER_TURN};
    use super::*;

    fn written(format: Format) -> String {
        let mut text = Text::new(format);
        text.family(&BUILD).sample(&[&"1 \"a\" \\ \n b"], 1);
        text.single(&FDB_MOVED, u64::MAX);
        let mut drops = text.family(&PORT_DROPS);
        drops.sample(&[&"web", &"too_big"], 3);
        drops.sample(&[&"db", &"refused"], 0);
        let turns = Histogram { le: vec![1, 2, 1024], counts: vec![1, 0, 4, 2], sum: 9 };
        text.family(&WORKER_TURN).histogram(&[&0], &turns, |us| f64::from(u32::try_from(us).unwrap()) / 1e6, 0.25);
        text.finish()
    }

    #[test]
    fn formats_differ_in_the_names_of_counters_and_in_the_end() {
        let expected = r##"# HELP vswitch_build_info 1, with the version that runs.
# TYPE vswitch_build_info gauge
vswitch_build_info{version="1 \"a\" \\ \n b"} 1
# HELP vswitch_fdb_moved_total Times an address showed up elsewhere than before.
# TYPE vswitch_fdb_moved_total counter
vswitch_fdb_moved_total 18446744073709551615
# HELP vswitch_port_drops_total Frames dropped on the way in or out, by reason; a reason shows once it occurred.
# TYPE vswitch_port_drops_total counter
vswitch_port_drops_total{port="web",reason="too_big"} 3
vswitch_port_drops_total{port="db",reason="refused"} 0
# HELP vswitch_worker_turn_seconds What a turn of the worker took that found frames: what a frame waits at most, beside the queues.
# TYPE vswitch_worker_turn_seconds histogram
vswitch_worker_turn_seconds_bucket{worker="0",le="1e-6"} 1
vswitch_worker_turn_seconds_bucket{worker="0",le="2e-6"} 1
vswitch_worker_turn_seconds_bucket{worker="0",le="0.001024"} 5
vswitch_worker_turn_seconds_bucket{worker="0",le="+Inf"} 7
vswitch_worker_turn_seconds_sum{worker="0"} 0.25
vswitch_worker_turn_seconds_count{worker="0"} 7
"##;
        assert_eq!(written(Format::Prometheus), expected);
        let mut open = expected.to_owned() + "# EOF\n";
        for counter in ["vswitch_fdb_moved", "vswitch_port_drops"] {
            for word in ["HELP", "TYPE"] {
                open = open.replace(&format!("# {word} {counter}_total"), &format!("# {word} {counter}"));
            }
        }
        assert_eq!(written(Format::OpenMetrics), open);
    }
}
