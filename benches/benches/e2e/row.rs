//! One line of work over one place: every peer's samples, and what they come to.

use std::fmt;

use netns_tests::SuperFrames;
use serde_json::{Value, json};

use crate::peer::{Peer, Place};
use crate::work::{Latency, Sample, Work};

/// The row's name, for filters.
pub(crate) fn name(place: Place, work: Work) -> String {
    format!("{}/{}", place.name(), work.name())
}

/// All samples of one kind of work in one place.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) place: Place,
    pub(crate) work: Work,
    pub(crate) peers: Vec<(Peer, Samples)>,
}

/// A peer's samples.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples {
    shared: Vec<Sample>,
    /// Those with a core for each.
    apart: Vec<Sample>,
}

/// All peers' figures.
pub(crate) type Results = Vec<(Peer, Figures)>;

/// What a peer's samples come to: the median of each figure.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    /// In the unit of the work; the least and the most of all samples beside it.
    pub(crate) rate: f64,
    pub(crate) range: (f64, f64),
    /// CPU seconds of the whole machine for a gigabyte, a million frames or a million round trips.
    pub(crate) cost: f64,
    /// The same of all daemons together; `None` where there is none.
    pub(crate) daemon_cost: Option<f64>,
    /// The same of who has most to do.
    bottleneck_cost: f64,
    /// The rate with a core for each; `None` where it was not measured.
    rate_apart: Option<f64>,
    pub(crate) loss: Option<f64>,
    pub(crate) latency: Option<Latency>,
}

impl Work {
    /// Bytes, frames or round trips in one unit of cost.
    pub(crate) const fn batch(self) -> f64 {
        match self {
            Self::Bulk(_) => 1e9,
            Self::Flood | Self::PingPong => 1e6,
        }
    }

    /// The unit of a rate.
    pub(crate) const fn unit(self) -> &'static str {
        match self {
            Self::Bulk(_) => "Gb/s",
            Self::Flood => "k frames/s",
            Self::PingPong => "us mean",
        }
    }

    /// The unit of a cost.
    pub(crate) const fn cost_unit(self) -> &'static str {
        match self {
            Self::Bulk(_) => "s/GB",
            Self::Flood => "s/M frames",
            Self::PingPong => "s/M trips",
        }
    }

    pub(crate) fn rate(self, sample: &Sample) -> f64 {
        match self {
            Self::Bulk(_) => sample.done * 8.0 / 1e9 / sample.spent.elapsed,
            Self::Flood => sample.done / 1e3 / sample.spent.elapsed,
            Self::PingPong => sample.latency.map_or(0.0, |latency| latency.mean),
        }
    }
}

impl Row {
    pub(crate) fn new(place: Place, work: Work, peers: impl Iterator<Item = Peer>) -> Self {
        Self { place, work, peers: peers.map(|peer| (peer, Samples::default())).collect() }
    }

    pub(crate) fn name(&self) -> String {
        name(self.place, self.work)
    }

    pub(crate) fn add(&mut self, peer: Peer, sample: Sample) {
        if let Some(samples) = self.of(peer) {
            samples.shared.push(sample);
        }
    }

    /// Adds one with a core for each.
    pub(crate) fn add_apart(&mut self, peer: Peer, sample: Sample) {
        if let Some(samples) = self.of(peer) {
            samples.apart.push(sample);
        }
    }

    fn of(&mut self, peer: Peer) -> Option<&mut Samples> {
        self.peers.iter_mut().find(|(other, _)| *other == peer).map(|(_, samples)| samples)
    }

    /// How many samples there are, and how many of them others disturbed.
    pub(crate) fn disturbed(&self) -> (usize, usize) {
        let samples = || self.peers.iter().flat_map(|(_, samples)| &samples.shared);
        (samples().count(), samples().filter(|sample| sample.spent.is_disturbed()).count())
    }

    /// What each peer's samples come to.
    pub(crate) fn figures(&self) -> Results {
        self.peers.iter().map(|(peer, samples)| (*peer, Figures::of(self.work, samples))).collect()
    }

    pub(crate) fn json(&self) -> Value {
        let figures = self.figures();
        let kernel = of(&figures, Peer::Kernel);
        let [cut, whole] = [SuperFrames::Cut, SuperFrames::Whole].map(|kind| of(&figures, Peer::OpenVswitch(kind)));
        let peers = self.peers.iter().zip(&figures).map(|((peer, samples), (_, figures))| {
            let latency = |latency: Latency| {
                json!({"p50": latency.p50, "p99": latency.p99, "p999": latency.p999, "mean": latency.mean})
            };
            let sample = |sample: &Sample| {
                json!({
                    "rate": self.work.rate(sample), "done": sample.done, "loss": sample.loss,
                    "latency_us": sample.latency.map(latency),
                    "cpu_s": {
                        "machine": sample.spent.machine, "daemons": sample.spent.daemons,
                        "others": sample.spent.others, "worker": sample.spent.worker, "client": sample.spent.client, "server": sample.spent.server,
                    },
                    "elapsed_s": sample.spent.elapsed,
                })
            };
            json!({
                "peer": peer.to_string(),
                "rate": figures.rate, "least": figures.range.0, "most": figures.range.1,
                "ratio": kernel.map(|kernel| figures.ratio(kernel)),
                "ratio_ovs_offloads_off": cut.map(|ovs| figures.ratio(ovs)),
                "ratio_ovs_userspace_tso": whole.map(|ovs| figures.ratio(ovs)),
                "ratio_core_each": kernel.and_then(|kernel| figures.core_each(kernel, self.work)).map(CoreEach::ratio),
                "cost": figures.cost, "daemon_cost": figures.daemon_cost, "loss": figures.loss,
                "latency_us": figures.latency.map(latency),
                "samples": samples.shared.iter().map(sample).collect::<Vec<_>>(),
                "samples_apart": samples.apart.iter().map(sample).collect::<Vec<_>>(),
            })
        });
        json!({
            "name": self.name(), "unit": self.work.unit(), "cost_unit": self.work.cost_unit(),
            "peers": peers.collect::<Vec<_>>(),
        })
    }
}

/// In short, for who watches.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = self.work.unit();
        self.figures().iter().try_for_each(|(peer, figures)| writeln!(f, "    {peer:20}{:.1} {unit}", figures.rate))
    }
}

/// The figures of `peer`, to hold others against.
pub(crate) fn of(figures: &[(Peer, Figures)], peer: Peer) -> Option<&Figures> {
    figures.iter().find(|(other, _)| *other == peer).map(|(_, figures)| figures)
}

/// A ratio with a core for each.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CoreEach {
    /// Of runs in which everybody had one.
    Measured(f64),
    /// From CPU seconds: who has most to do for a byte or frame sets the pace.
    Computed(f64),
}

impl CoreEach {
    pub(crate) const fn ratio(self) -> f64 {
        match self {
            Self::Measured(ratio) | Self::Computed(ratio) => ratio,
        }
    }
}

impl Figures {
    fn of(work: Work, Samples { shared: samples, apart }: &Samples) -> Self {
        let over = |figure: &dyn Fn(&Sample) -> f64| median(samples.iter().map(figure).collect());
        let cost = |seconds: f64, sample: &Sample| seconds / (sample.done / work.batch());
        let rates = || samples.iter().map(|sample| work.rate(sample));
        let latency = |figure: fn(Latency) -> f64| over(&|sample| sample.latency.map_or(0.0, figure));
        Self {
            rate: over(&|sample| work.rate(sample)),
            range: (rates().fold(f64::INFINITY, f64::min), rates().fold(0.0, f64::max)),
            cost: over(&|sample| cost(sample.spent.machine, sample)),
            daemon_cost: samples
                .iter()
                .any(|sample| !sample.spent.daemons.is_empty())
                .then(|| over(&|sample| cost(sample.spent.daemons.iter().sum(), sample))),
            bottleneck_cost: over(&|sample| cost(sample.spent.bottleneck(), sample)),
            rate_apart: (!apart.is_empty()).then(|| median(apart.iter().map(|sample| work.rate(sample)).collect())),
            loss: samples
                .iter()
                .any(|sample| sample.loss.is_some())
                .then(|| over(&|sample| sample.loss.unwrap_or_default())),
            latency: samples.iter().any(|sample| sample.latency.is_some()).then(|| Latency {
                p50: latency(|latency| latency.p50),
                p99: latency(|latency| latency.p99),
                p999: latency(|latency| latency.p999),
                mean: latency(|latency| latency.mean),
            }),
        }
    }

    /// This rate against that of `other`. Of round trips, less is better.
    pub(crate) fn ratio(&self, other: &Self) -> f64 {
        self.rate / other.rate
    }

    /// What the ratio is if nobody has to wait for a core. Of round trips it says nothing: there, one waits for the other
    /// anyway.
    pub(crate) fn core_each(&self, kernel: &Self, work: Work) -> Option<CoreEach> {
        match (work, self.rate_apart, kernel.rate_apart) {
            (Work::PingPong, ..) => None,
            (_, Some(rate), Some(kernel)) => Some(CoreEach::Measured(rate / kernel)),
            _ => Some(CoreEach::Computed(kernel.bottleneck_cost / self.bottleneck_cost)),
        }
    }
}

/// The middle one; of an even count, the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.get(middle) {
        Some(value) if values.len() % 2 == 1 => *value,
        Some(value) => f64::midpoint(values[middle - 1], *value),
        None => 0.0,
    }
}
