//! Addresses of stations, as `vsctl fdb` lists and flushes them.

use std::collections::BTreeMap;

use vswitch_api::request::FdbFilter;
use vswitch_api::{FdbInfo, FdbTarget, FlappingInfo, Flushed, Mac, RpcError, Vid};
use vswitch_core::switch::{FdbEntry, FdbKind, History, PortId};

use super::Control;
use crate::network::vlan_id;

impl Control {
    pub(super) fn fdb(&self, filter: &FdbFilter) -> Result<Vec<FdbInfo>, RpcError> {
        let port = self.filtered_port(filter)?;
        if filter.port.is_some() && port.is_none() {
            return Ok(Vec::new());
        }
        let vlan = filter.vlan.map(vlan_id);
        let wanted = |(entry, _): &(FdbEntry, Option<History>)| {
            vlan.is_none_or(|vlan| entry.vlan == vlan) && port.is_none_or(|port| entry.port == port)
        };
        let entries = self.addresses.fdb_histories().filter(wanted);
        let now = self.ask(|worker| worker.now())?;
        let targets = self.targets();
        let info = |(entry, history): (FdbEntry, Option<History>)| {
            let age = match entry.kind {
                FdbKind::Static => None,
                FdbKind::Learned { last_seen } => Some(now.since(last_seen).as_secs()),
            };
            let (mac, vlan) = (Mac::new(entry.mac.0).ok()?, Vid::new(entry.vlan.get()).ok()?);
            let flapping = entry.flapping.map(|flapping| {
                let held_s = flapping.until.since(now).as_millis().div_ceil(1000);
                FlappingInfo::new(targets.get(&flapping.other).cloned(), u64::try_from(held_s).unwrap_or(u64::MAX))
            });
            let moved = history.and_then(|history| history.moved);
            let moves = moved.map_or(0, |moved| moved.times);
            let moved_from = moved.and_then(|moved| targets.get(&moved.from)).map(ToString::to_string);
            let learned_s = history.map(|history| now.since(history.learned).as_secs());
            Some(FdbInfo {
                flapping,
                moves,
                moved_from,
                learned_s,
                ..FdbInfo::new(mac, vlan, targets.get(&entry.port)?.clone(), age)
            })
        };
        let mut fdb: Vec<_> = entries.filter_map(info).collect();
        fdb.sort_unstable_by_key(|entry| (entry.vlan, entry.mac));
        Ok(fdb)
    }

    /// What each number stands for.
    pub(super) fn targets(&self) -> BTreeMap<PortId, FdbTarget> {
        let ports = self.live.iter().map(|(name, port)| (port.id, FdbTarget::Port(name.clone())));
        let remotes = self.remotes.iter().map(|(address, id)| (*id, FdbTarget::Remote(*address)));
        ports.chain(remotes).collect()
    }

    /// The number of the port that `filter` names; `None` where it names none, or a lost one.
    fn filtered_port(&self, filter: &FdbFilter) -> Result<Option<PortId>, RpcError> {
        let Some(name) = &filter.port else { return Ok(None) };
        self.port(name)?;
        Ok(self.live.get(name).map(|port| port.id))
    }

    pub(super) fn flush(&self, filter: &FdbFilter) -> Result<Flushed, RpcError> {
        let port = self.filtered_port(filter)?;
        if filter.port.is_some() && port.is_none() {
            return Ok(Flushed { flushed: 0 });
        }
        let vlan = filter.vlan.map(vlan_id);
        let flushed = self.ask(move |worker| worker.datapath.switch_mut().fdb_flush(vlan, port))?;
        Ok(Flushed { flushed: flushed.into() })
    }
}
