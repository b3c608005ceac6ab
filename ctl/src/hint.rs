//! "Did you mean": names that are there and nearly the one that is not.

use vswitch_api::{Change, Code, PortName, PortSet, Query, Request, RpcError, StaticEntry};

/// The names of ports that `request` takes for there.
pub(crate) fn ports_named(request: &Request) -> Vec<&str> {
    fn port(name: Option<&PortName>) -> Vec<&str> {
        name.map(PortName::as_str).into_iter().collect()
    }
    match request {
        Request::Change(Change::PortDel { name } | Change::PortSet(PortSet { name, .. }))
        | Request::Query(Query::PortShow { name }) => vec![name.as_str()],
        Request::Change(Change::FdbAdd(StaticEntry { target, .. })) => match target {
            vswitch_api::FdbTarget::Port(name) => vec![name.as_str()],
            vswitch_api::FdbTarget::Remote(_) => Vec::new(),
        },
        Request::Flush(filter) | Request::Query(Query::FdbList(filter)) => port(filter.port.as_ref()),
        Request::Query(Query::Stats { port: Some(name) }) => vec![name.as_str()],
        Request::Query(Query::Trace(ask)) => port(ask.port.as_ref()),
        Request::Query(Query::Why(ask)) => vec![ask.a.as_str(), ask.b.as_str()],
        _ => Vec::new(),
    }
}

/// Whether the refusal may be for a name that is not there.
pub(crate) fn may_help(error: &RpcError) -> bool {
    matches!(error.code, Code::NotFound | Code::InvalidParams)
}

/// What was meant, if any of `there` is near enough to one of `named` that is not among them.
pub(crate) fn did_you_mean<'a>(named: &[&str], there: &'a [PortName]) -> Option<&'a PortName> {
    let missing = named.iter().filter(|name| !there.iter().any(|port| port.as_str() == **name));
    let near = missing.flat_map(|name| there.iter().map(move |port| (distance(name, port.as_str()), name.len(), port)));
    // One slip in three letters is still a slip.
    near.filter(|(distance, len, _)| *distance <= (len / 3).max(1))
        .min_by_key(|(distance, ..)| *distance)
        .map(|near| near.2)
}

/// Letters to insert, delete, replace or swap with their neighbour (the restricted Damerau-Levenshtein distance), without
/// regard to case. Names are short: the table of all pairs is small.
fn distance(a: &str, b: &str) -> usize {
    let [a, b] = [a, b].map(|text| text.to_lowercase().chars().collect::<Vec<_>>());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = match (i, j) {
                (0, n) | (n, 0) => n,
                _ => {
                    let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                    let swapped = if swapped { rows[i - 2][j - 2] + 1 } else { usize::MAX };
                    replaced.min(swapped).min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1)
                }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_not() {
        let there: Vec<PortName> = ["web", "web-2", "database", "db"].map(|name| name.parse().unwrap()).to_vec();
        for (named, meant) in [
            ("wbe", Some("web")),
            ("WEB", Some("web")),
            ("we", Some("web")),
            ("databse", Some("database")),
            ("dtabaes", Some("database")),
            ("proxy", None),
            ("x", None),
            ("web", None),
        ] {
            assert_eq!(did_you_mean(&[named], &there).map(PortName::as_str), meant, "{named}");
        }
        assert_eq!(did_you_mean(&["db", "wb"], &there).map(PortName::as_str), Some("web"));
        assert_eq!(did_you_mean(&["web"], &[]), None);
    }
}
