//! Addresses to choose from.
//!
//! There is no table of leases: an address is taken if and only if a port has it. All that is kept beside the ports is
//! where the last search ended, so that an address that was freed is not given again while others are free.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::check::Refusal;
use crate::types::{Cidr, Net, Vid};

/// A subnet, and which of its addresses ports are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// The subnet, whose length the addresses get.
    pub subnet: Net,
    /// The first one given; the subnet's first host without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<IpAddr>,
    /// The last one given; the subnet's last host without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<IpAddr>,
    /// The router's, which no port is given; the subnet's first host without it, where there is a second one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

/// What a [`Pool`] comes to: the addresses from `first` to `last`, without the gateway's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolRange {
    subnet: Net,
    first: u128,
    last: u128,
    gateway: Option<u128>,
}

/// Where the search in a subnet goes on.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cursor {
    pub(super) vlan: Vid,
    pub(super) subnet: Net,
    pub(super) last: IpAddr,
}

impl Pool {
    /// All of `subnet`.
    #[must_use]
    pub const fn whole(subnet: Net) -> Self {
        Self { subnet, first: None, last: None, gateway: None }
    }

    /// The addresses it has to give.
    ///
    /// # Errors
    /// Where an end or the gateway is no host of the subnet, the ends are the wrong way round, or it is multicast.
    pub fn range(&self) -> Result<PoolRange, Refusal> {
        let subnet = self.subnet.net();
        let bad = |why: String| Refusal::BadPool { subnet: self.subnet, why };
        if subnet.addr().is_multicast() {
            return Err(bad("it is a multicast prefix, whose addresses no interface can have".to_owned()));
        }
        let (low, high) = hosts(subnet);
        let host = |what: &str, ip: IpAddr| {
            let within = ip.is_ipv4() == subnet.addr().is_ipv4() && (low..=high).contains(&number(ip));
            let (low, high) = (address(low, subnet), address(high, subnet));
            let refuse = || bad(format!("its {what} {ip} is no host of it: give one from {low} to {high}"));
            within.then(|| number(ip)).ok_or_else(refuse)
        };
        let first = self.first.map_or(Ok(low), |ip| host("first address", ip))?;
        let last = self.last.map_or(Ok(high), |ip| host("last address", ip))?;
        if first > last {
            let (first, last) = (address(first, subnet), address(last, subnet));
            return Err(bad(format!("its range from {first} to {last} runs backwards: give the lower address first")));
        }
        let usual = (low < high).then_some(low);
        let gateway = self.gateway.map_or(Ok(usual), |ip| host("gateway", ip).map(Some))?;
        Ok(PoolRange { subnet: self.subnet, first, last, gateway })
    }
}

/// The first and the last address of `subnet` that an interface can have.
fn hosts(subnet: IpNet) -> (u128, u128) {
    let (low, high) = (number(subnet.network()), number(subnet.broadcast()));
    match (subnet, subnet.max_prefix_len() - subnet.prefix_len()) {
        // RFC 3021 and RFC 6164: both addresses of a pair are hosts.
        (_, 0 | 1) => (low, high),
        (IpNet::V4(_), _) => (low + 1, high - 1),
        // RFC 4291 2.6.1: the first is that of the routers; there is no broadcast address.
        (IpNet::V6(_), _) => (low + 1, high),
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// The inverse of [`number`] in the family of `like`.
fn address(number: u128, like: IpNet) -> IpAddr {
    match like {
        // A number of that family fits.
        IpNet::V4(_) => Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)).into(),
        IpNet::V6(_) => Ipv6Addr::from_bits(number).into(),
    }
}

impl PoolRange {
    /// The first address.
    #[must_use]
    pub fn first(&self) -> IpAddr {
        self.address(self.first)
    }

    /// The last address.
    #[must_use]
    pub fn last(&self) -> IpAddr {
        self.address(self.last)
    }

    /// The router's address, where it has one.
    #[must_use]
    pub fn gateway(&self) -> Option<IpAddr> {
        self.gateway.map(|gateway| self.address(gateway))
    }

    /// Whether `ip` is one of those it gives.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let number = number(ip);
        let within = (self.first..=self.last).contains(&number);
        self.is_family(ip) && within && self.gateway != Some(number)
    }

    /// How many it gives in all; [`u64::MAX`] where they are more.
    #[must_use]
    pub fn size(&self) -> u64 {
        let gateway = self.gateway.is_some_and(|gateway| (self.first..=self.last).contains(&gateway));
        let more = self.last - self.first; // one less than there are: all of ::/0 are too many to count
        u64::try_from(more.saturating_add(u128::from(!gateway))).unwrap_or(u64::MAX)
    }

    /// The first address behind `after` that is not `taken`, and from the beginning again where there is none up to the
    /// end. It takes as many steps as addresses are taken.
    #[must_use]
    pub fn next(&self, after: Option<IpAddr>, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
        let taken: BTreeSet<_> = taken.iter().filter(|ip| self.contains(**ip)).map(|ip| number(*ip)).collect();
        let is_free = |number: &u128| !taken.contains(number) && self.gateway != Some(*number);
        let after = after.filter(|ip| self.is_family(*ip)).map(number);
        let start = after.filter(|after| (self.first..self.last).contains(after)).map_or(self.first, |after| after + 1);
        let found = (start..=self.last).find(is_free).or_else(|| (self.first..start).find(is_free));
        found.map(|number| self.address(number))
    }

    /// `ip` with the subnet's length.
    ///
    /// # Errors
    /// Where no interface can have it.
    pub fn with_length(&self, ip: IpAddr) -> Result<Cidr, Refusal> {
        let bad = |why: String| Refusal::BadPool { subnet: self.subnet, why };
        let net = IpNet::new(ip, self.subnet.net().prefix_len()).map_err(|error| bad(error.to_string()))?;
        Cidr::new(net).map_err(|error| bad(error.to_string()))
    }

    /// Whether `ip` is of the subnet's family.
    fn is_family(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.subnet.net().addr().is_ipv4()
    }

    fn address(&self, number: u128) -> IpAddr {
        address(number, self.subnet.net())
    }
}

impl fmt::Display for PoolRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.first(), self.last())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(text: &str) -> Pool {
        let mut words = text.split(' ');
        let subnet = words.next().unwrap().parse().unwrap();
        let mut ip = || words.next().filter(|word| *word != "-").map(|word| word.parse().unwrap());
        Pool { subnet, first: ip(), last: ip(), gateway: ip() }
    }

    /// All that `range` gives, one after the other, until it is exhausted; at most five.
    fn all(range: &PoolRange) -> String {
        let mut taken = BTreeSet::new();
        let mut last = None;
        while let Some(ip) = range.next(last, &taken).filter(|_| taken.len() < 5) {
            assert!(taken.insert(ip), "{ip} twice");
            last = Some(ip);
        }
        taken.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_pools_give() {
        // Subnet, first, last, gateway; how many; which.
        let table = [
            ("10.0.0.0/29", 5, "10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6"),
            ("10.0.0.0/30", 1, "10.0.0.2"),
            ("10.0.0.0/30 - - 10.0.0.2", 1, "10.0.0.1"),
            ("10.0.0.0/31", 1, "10.0.0.1"),
            ("10.0.0.0/31 - - 10.0.0.1", 1, "10.0.0.0"),
            ("10.0.0.9/32", 1, "10.0.0.9"),
            ("10.0.0.9/32 - - 10.0.0.9", 0, ""),
            ("10.0.0.0/24 10.0.0.7 10.0.0.9", 3, "10.0.0.7 10.0.0.8 10.0.0.9"),
            ("10.0.0.0/24 10.0.0.1 10.0.0.3", 2, "10.0.0.2 10.0.0.3"),
            ("10.0.0.0/24 10.0.0.254", 1, "10.0.0.254"),
            ("10.0.0.0/24 10.0.0.253 10.0.0.254 10.0.0.254", 1, "10.0.0.253"),
            ("10.0.0.0/16 10.0.0.254 10.0.1.1", 4, "10.0.0.254 10.0.0.255 10.0.1.0 10.0.1.1"),
            ("fd00::/64", u64::MAX - 1, "fd00::2 fd00::3 fd00::4 fd00::5 fd00::6"),
            ("fd00::/48", u64::MAX, "fd00::2 fd00::3 fd00::4 fd00::5 fd00::6"),
            ("::/0", u64::MAX, "::2 ::3 ::4 ::5 ::6"),
            ("fd00::/64 fd00::ffff fd00::1:1", 3, "fd00::ffff fd00::1:0 fd00::1:1"),
            ("fd00::/126", 2, "fd00::2 fd00::3"),
            ("fd00::/127", 1, "fd00::1"),
            ("fd00::5/128", 1, "fd00::5"),
        ];
        for (text, size, given) in table {
            let range = pool(text).range().unwrap();
            assert_eq!((range.size(), all(&range).as_str()), (size, given), "{text}");
        }
    }

    #[test]
    fn pools_that_are_none() {
        let table = [
            ("10.0.0.0/24 10.0.1.1", "first address 10.0.1.1 is no host of it: give one from 10.0.0.1 to 10.0.0.254"),
            ("10.0.0.0/24 10.0.0.0", "first address 10.0.0.0"),
            ("10.0.0.0/24 - 10.0.0.255", "last address 10.0.0.255"),
            ("10.0.0.0/24 - fd00::1", "last address fd00::1"),
            ("10.0.0.0/24 10.0.0.9 10.0.0.8", "from 10.0.0.9 to 10.0.0.8 runs backwards"),
            ("10.0.0.0/24 - - 10.0.1.1", "gateway 10.0.1.1"),
            ("fd00::/64 fd00::", "first address fd00::"),
            ("224.0.0.0/24", "multicast"),
            ("ff02::/64", "multicast"),
        ];
        for (text, part) in table {
            let message = pool(text).range().unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn what_is_next() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let table = [
            // After, taken, next; of 10.0.0.2 to 10.0.0.6.
            ("", "", "10.0.0.2"),
            ("10.0.0.2", "", "10.0.0.3"),
            ("10.0.0.3", "10.0.0.4 10.0.0.5", "10.0.0.6"),
            ("10.0.0.5", "10.0.0.6", "10.0.0.2"),
            ("10.0.0.6", "", "10.0.0.2"),
            ("10.0.0.6", "10.0.0.2 10.0.0.3", "10.0.0.4"),
            ("10.0.0.4", "10.0.0.2 10.0.0.3 10.0.0.5 10.0.0.6", "10.0.0.4"),
            ("10.0.0.4", "10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6", ""),
            ("10.0.0.99", "10.0.0.99 fd00::2", "10.0.0.2"),
            ("10.0.0.0", "", "10.0.0.2"),
            ("fd00::3", "", "10.0.0.2"),
        ];
        let range = pool("10.0.0.0/29").range().unwrap();
        for (after, taken, next) in table {
            let taken = taken.split_whitespace().map(ip).collect();
            let found = range.next(Some(after).filter(|text| !text.is_empty()).map(ip), &taken);
            assert_eq!(found.map_or_else(String::new, |ip| ip.to_string()), next, "after {after}, without {taken:?}");
        }
    }

    #[test]
    fn a_full_pool_takes_as_long_as_it_has_ports() {
        let range = pool("fd00::/64").range().unwrap();
        let taken: BTreeSet<IpAddr> =
            (2..60_000).map(|n: u128| Ipv6Addr::from_bits(number("fd00::".parse().unwrap()) + n).into()).collect();
        assert_eq!(range.next(None, &taken).unwrap().to_string(), "fd00::ea60");
    }

    #[test]
    fn addresses_have_the_subnets_length() {
        let range = pool("0.0.0.0/0 223.255.255.254 224.0.0.1").range().unwrap();
        assert_eq!(range.with_length("10.0.0.1".parse().unwrap()).unwrap().to_string(), "10.0.0.1/0");
        let message = range.with_length("224.0.0.1".parse().unwrap()).unwrap_err().to_string();
        assert!(message.contains("multicast"), "{message}");
    }
}
