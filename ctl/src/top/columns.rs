//! What the tables have for columns, and in which order rows stand.

use std::cmp::Ordering;

use super::network::{Flow, Tone, Worker};
use super::number::{float, micros, percent, si};
use super::rate::{History, Rate};

/// The column of ports and peers that says how much passes both ways; they are sorted by it at first.
pub(super) const BITS: &str = "b/s";
/// That of workers.
pub(super) const WORKER: &str = "WORKER";

/// What is in a cell.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Not known.
    None,
    Text(String),
    /// A worker's number.
    Index(usize),
    /// In a second, or a mean.
    Number(f64),
    /// 0 to 1.
    Share(f64),
    Micros(f64),
}

impl Value {
    pub(super) fn text(&self) -> String {
        match self {
            Self::None => "-".to_owned(),
            Self::Text(text) => text.clone(),
            Self::Index(index) => index.to_string(),
            Self::Number(number) => si(*number),
            Self::Share(share) => percent(*share),
            Self::Micros(time) => micros(*time),
        }
    }

    /// Texts by the alphabet, indices ascending, numbers with the greatest first, what is not known last.
    fn order(&self, other: &Self) -> Ordering {
        let number = |value: &Self| match value {
            Self::None | Self::Text(_) | Self::Index(_) => f64::NEG_INFINITY,
            Self::Number(value) | Self::Share(value) | Self::Micros(value) => *value,
        };
        match (self, other) {
            (Self::Index(a), Self::Index(b)) => a.cmp(b),
            (Self::Text(a), Self::Text(b)) => a.is_empty().cmp(&b.is_empty()).then_with(|| a.cmp(b)),
            _ => number(other).total_cmp(&number(self)),
        }
    }
}

/// A column of a table of `T`.
pub(super) struct Column<T> {
    pub(super) title: &'static str,
    /// Whether it stands to the right, as numbers do.
    pub(super) is_number: bool,
    /// Columns with the greatest go first where there is no room for all; those with 0 never.
    pub(super) spare: u8,
    pub(super) value: fn(&T) -> Value,
    pub(super) tone: fn(&T) -> Tone,
}

/// A table's rows.
pub(super) trait Row: Sized + 'static {
    fn name(&self) -> String;
    fn history(&self) -> &History;
    /// What fills the height of a bar of the history; that of the greatest value shown, where this is `None`.
    const FULL: Option<f64>;
}

impl Row for Flow {
    fn name(&self) -> String {
        self.name.clone()
    }
    fn history(&self) -> &History {
        &self.history
    }
    const FULL: Option<f64> = None;
}

impl Row for Worker {
    fn name(&self) -> String {
        self.number.to_string()
    }
    fn history(&self) -> &History {
        &self.history
    }
    const FULL: Option<f64> = Some(1.0);
}

fn rate(flow: &Flow, part: impl Fn(&Rate) -> f64) -> Value {
    flow.rate.as_ref().map_or(Value::None, |rate| Value::Number(part(rate)))
}

const fn fine<T>(_: &T) -> Tone {
    Tone::Fine
}

fn drop_tone(flow: &Flow) -> Tone {
    if flow.rate.as_ref().is_some_and(|rate| !rate.drops.is_empty()) { Tone::Odd } else { Tone::Fine }
}

fn traffic(name: &'static str) -> Vec<Column<Flow>> {
    let number = |title, spare, value| Column { title, is_number: true, spare, value, tone: fine };
    vec![
        Column {
            title: name,
            is_number: false,
            spare: 0,
            value: |flow| Value::Text(flow.name.clone()),
            tone: |flow: &Flow| if flow.is_lost { Tone::Bad } else { Tone::Fine },
        },
        number("RX/s", 6, |flow| rate(flow, |rate| rate.rx_frames)),
        number("RX b/s", 4, |flow| rate(flow, |rate| rate.rx_bits)),
        number("TX/s", 6, |flow| rate(flow, |rate| rate.tx_frames)),
        number("TX b/s", 4, |flow| rate(flow, |rate| rate.tx_bits)),
        Column { tone: drop_tone, ..number("DROP/s", 1, |flow| rate(flow, Rate::dropped)) },
        Column {
            title: "NOTE",
            is_number: false,
            spare: 3,
            value: |flow| Value::Text(flow.note().to_owned()),
            tone: |flow: &Flow| if flow.is_lost { Tone::Bad } else { drop_tone(flow) },
        },
        number(BITS, 0, |flow| rate(flow, Rate::bits)),
    ]
}

/// Those of ports.
pub(super) fn ports() -> Vec<Column<Flow>> {
    traffic("PORT")
}

/// Those of `peers`: how the ways to them are only where that is known of any.
pub(super) fn peers(peers: &[Flow]) -> Vec<Column<Flow>> {
    let mut columns = traffic("PEER");
    if peers.iter().all(|peer| peer.health.is_none()) {
        return columns;
    }
    let health = [
        Column {
            title: "TRIP",
            is_number: true,
            spare: 2,
            value: |peer: &Flow| {
                let trip = peer.health.as_ref().and_then(|health| health.round_trip_us);
                trip.map_or(Value::None, |trip| Value::Micros(float(trip.p50)))
            },
            tone: fine,
        },
        Column {
            title: "LOSS",
            is_number: true,
            spare: 5,
            value: |peer| peer.health.as_ref().and_then(|health| health.loss_share).map_or(Value::None, Value::Share),
            tone: fine,
        },
        Column {
            title: "STATE",
            is_number: false,
            spare: 1,
            value: |peer| {
                peer.health.as_ref().map_or(Value::None, |health| Value::Text(health.state.name().to_owned()))
            },
            tone: |peer: &Flow| Flow { rate: None, ..peer.clone() }.tone(),
        },
    ];
    let last = columns.len() - 1;
    columns.splice(last..last, health);
    columns
}

/// Those of workers.
pub(super) fn workers() -> Vec<Column<Worker>> {
    const fn number(title: &'static str, spare: u8, value: fn(&Worker) -> Value) -> Column<Worker> {
        Column { title, is_number: true, spare, value, tone: fine }
    }
    fn known(value: Option<f64>) -> Value {
        value.map_or(Value::None, Value::Number)
    }
    vec![
        Column { is_number: false, ..number(WORKER, 0, |worker| Value::Index(worker.number)) },
        number("BATCH", 2, |worker| known(worker.batch)),
        number("TURN P99", 3, |worker| worker.turn_us.map_or(Value::None, |time| Value::Micros(float(time)))),
        number("TURNS/s", 4, |worker| known(worker.turns)),
        number("SLEEPS/s", 5, |worker| known(worker.sleeps)),
        Column { tone: Worker::tone, ..number("BUSY", 0, |worker| Value::Share(worker.busy)) },
    ]
}

/// In which order rows stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sort {
    /// By the column of this title, or by the first where there is none.
    pub(super) title: &'static str,
    /// Against the column's own order, in which numbers begin with the greatest.
    pub(super) is_reversed: bool,
}

impl Sort {
    pub(super) const fn by(title: &'static str) -> Self {
        Self { title, is_reversed: false }
    }

    /// The column.
    pub(super) fn column<T>(self, columns: &[Column<T>]) -> usize {
        columns.iter().position(|column| column.title == self.title).unwrap_or(0)
    }

    /// Those of `rows` whose names contain `filter`, whatever its case, in this order; equal ones in that of their names.
    pub(super) fn rows<'a, T: Row>(self, rows: &'a [T], columns: &[Column<T>], filter: &str) -> Vec<&'a T> {
        let filter = filter.to_lowercase();
        let mut rows: Vec<_> = rows.iter().filter(|row| row.name().to_lowercase().contains(&filter)).collect();
        if let Some(column) = columns.get(self.column(columns)) {
            rows.sort_by_cached_key(|row| row.name());
            rows.sort_by(|a, b| {
                let order = (column.value)(a).order(&(column.value)(b));
                if self.is_reversed { order.reverse() } else { order }
            });
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::network::tests::{health, network, sample, sample_of};
    use super::*;

    #[test]
    fn rows_stand_in_order() {
        let more = json!([
            {"port": "Azure", "rx_frames": 0, "rx_bytes": 0, "tx_frames": 0, "tx_bytes": 0, "drops": {}},
            {"port": "azure2", "rx_frames": 0, "rx_bytes": 0, "tx_frames": 0, "tx_bytes": 0, "drops": {}},
        ]);
        let ports = network([sample_of(1, 42, &more), sample_of(2, 42, &more)]).ports;
        let columns = super::ports();
        let table = [
            (BITS, false, "", "blue red tunnel Azure azure2"),
            (BITS, true, "", "Azure azure2 tunnel red blue"),
            ("PORT", false, "", "Azure azure2 blue red tunnel"),
            ("PORT", true, "", "tunnel red blue azure2 Azure"),
            ("RX/s", false, "", "red blue Azure azure2 tunnel"),
            ("TX b/s", false, "", "blue tunnel red Azure azure2"),
            ("DROP/s", false, "", "blue Azure azure2 red tunnel"),
            // What has something to say comes first.
            ("NOTE", false, "", "blue Azure azure2 red tunnel"),
            ("gone", false, "", "Azure azure2 blue red tunnel"),
            (BITS, false, "aZ", "Azure azure2"),
            (BITS, false, "e", "blue red tunnel Azure azure2"),
            (BITS, false, "zzz", ""),
        ];
        for (title, is_reversed, filter, expected) in table {
            let names: Vec<_> =
                Sort { title, is_reversed }.rows(&ports, &columns, filter).iter().map(|row| row.name()).collect();
            assert_eq!(names.join(" "), expected, "{title} {is_reversed} {filter:?}");
        }
    }

    #[test]
    fn what_is_not_known_comes_last() {
        let (known, unknown) = (Value::Micros(1.0), Value::None);
        assert_eq!((known.order(&unknown), unknown.order(&known)), (Ordering::Less, Ordering::Greater));
        assert_eq!(unknown.order(&Value::None), Ordering::Equal);
        assert_eq!(Value::None.text(), "-");
    }

    #[test]
    fn health_has_columns_where_it_is_known() {
        let mut peers = network([sample(1), sample(2)]).peers;
        let titles =
            |peers: &[Flow]| super::peers(peers).iter().map(|column| column.title).collect::<Vec<_>>().join(" ");
        assert_eq!(titles(&peers), "PEER RX/s RX b/s TX/s TX b/s DROP/s NOTE b/s");
        peers[0].health = Some(health("degraded", json!([])));
        assert_eq!(titles(&peers), "PEER RX/s RX b/s TX/s TX b/s DROP/s NOTE TRIP LOSS STATE b/s");
        let cells: Vec<_> = super::peers(&peers).iter().map(|column| (column.value)(&peers[0]).text()).collect();
        assert_eq!(cells, ["192.0.2.2", "0", "0", "100", "80.0k", "0", "", "200 us", "10 %", "degraded", "80.0k"]);
    }
}
