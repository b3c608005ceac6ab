//! Each request of a client goes to what answers it; between requests, the control thread does what is due.

use std::mem;
use std::os::fd::OwnedFd;
use std::time::Duration;

use mio::Token;
use vswitch_api::{Change as Wish, Code, Query, Request, RpcError, rpc};

use super::Control;
use super::access::{Access, Peer};
use super::answer::{Answer, json};
use super::server::{End, Line, Server, ServerError, Service};

/// The control thread, and who may ask what of it.
struct Desk<'a>(&'a mut Control, Access);

impl Service for Desk<'_> {
    fn answer(&mut self, client: Token, line: Line<'_>) -> (Vec<u8>, Vec<OwnedFd>) {
        let Self(control, access) = self;
        let mut sent = Vec::new();
        let (id, answer) = match rpc::read_request(line.bytes) {
            Ok((id, Request::Takeover(word))) => {
                (id, access.check_takeover(line.peer).and_then(|()| control.hand_over(client, word, &mut sent)))
            }
            Ok((id, request)) => {
                let answer = control.answer_to(access, line.peer, &request, line.fds);
                control.tell_changes();
                (id, answer)
            }
            Err((id, error)) => (id, Err(error)),
        };
        let answer = rpc::write_answer(id, answer).unwrap_or_else(|error| {
            tracing::error!(%error, "an answer could not be written");
            Vec::new()
        });
        (answer, sent)
    }

    fn tend(&mut self, news: bool) -> Option<Duration> {
        let control = &mut *self.0;
        control.lost.has_news |= news;
        control.tell_metrics();
        let left = control.tend_takeover();
        if control.is_handed_over {
            return None; // lost ports are another's to look after
        }
        let probes = control.tend_probes();
        let left = left.or_else(|| control.tend_lost_ports());
        left.into_iter().chain(probes).chain(control.tend_monitors()).min()
    }

    fn mounts_changed(&mut self) {
        self.0.lost.names_may_differ = true;
    }

    fn heir(&self) -> Option<Token> {
        self.0.heir()
    }

    fn heir_left(&mut self) {
        self.0.decide_who_serves("the other left");
    }

    fn lets_in(&self) -> bool {
        !self.0.is_paused() && !self.0.is_handed_over
    }

    fn is_handed_over(&self) -> bool {
        self.0.is_handed_over
    }
}

impl Control {
    /// Answers every client of `server` until a signal comes or another daemon serves.
    pub(crate) fn serve(&mut self, server: &mut Server) -> Result<End, ServerError> {
        self.listener =
            server.listener().map_err(|error| tracing::warn!(%error, "the control socket cannot be handed over")).ok();
        self.removes_socket = server.removes_file();
        self.manager.ready();
        let access = server.access().clone();
        match server.run(&mut Desk(self, access))? {
            End::Signal => self.decide_who_serves("a signal ends this one"),
            End::HandedOver => {}
        }
        if self.is_handed_over {
            return Ok(End::HandedOver);
        }
        self.end_feeds("vswitchd ends", "vswitchd ends");
        self.manager.stopping();
        if let Err(error) = self.leave() {
            tracing::warn!(%error, "what was learned and counted cannot be left to the next daemon");
        }
        Ok(End::Signal)
    }

    fn answer_to(&mut self, access: &Access, peer: Peer, request: &Request, fds: &mut Vec<OwnedFd>) -> Answer {
        if request.writes() {
            access.check(peer)?;
            self.not_under_way()?;
        }
        if self.not_under_way().is_ok() {
            match request {
                // Of the dead it needs to know only where one is in its way.
                Request::Change(Wish::AttachmentAdd(_)) => {}
                Request::Query(Query::AttachmentList { .. } | Query::PoolShow { .. }) => {
                    self.look_after_lost_ports().map_err(RpcError::from)?;
                }
                // Those that no worker has told of yet.
                _ => self.let_lost_ports_go().map_err(RpcError::from)?,
            }
        }
        match request {
            Request::Change(Wish::PortAdd(spec)) => json(self.add_port(spec, mem::take(fds)).map_err(RpcError::from)?),
            Request::Change(Wish::AttachmentAdd(attach)) => {
                json(self.attach(attach, mem::take(fds)).map_err(RpcError::from)?)
            }
            Request::Change(wish @ Wish::AttachmentDel { container, ifname, lost, .. }) => {
                json(self.detach(wish, (container, ifname), *lost).map_err(RpcError::from)?)
            }
            Request::Query(Query::AttachmentPlan(attach)) => {
                json(self.plan_attachment(attach).map_err(RpcError::from)?)
            }
            Request::Query(Query::Why(ask)) => json(self.why(ask)?),
            Request::Query(Query::Monitor(asks)) => self.listen(asks, peer.uid, mem::take(fds)),
            Request::Query(Query::PeerProbe(ask)) => json(self.probe(ask)?),
            Request::Change(wish) => json(self.change(wish).map_err(RpcError::from)?),
            Request::Flush(filter) => json(self.flush(filter)?),
            Request::Query(query) => self.query(query),
            Request::Observe(observe) => self.observe(observe, mem::take(fds)),
            Request::Takeover(_) => Err(RpcError::new(Code::Internal, "a takeover is answered elsewhere")),
        }
    }

    fn query(&self, query: &Query) -> Answer {
        match query {
            Query::PortList {} => json(self.desired.ports().map(|spec| self.port_info(spec)).collect::<Vec<_>>()),
            Query::PortShow { name } => json(self.port_info(self.port(name)?)),
            Query::PortPlan(spec) => json(self.plan_port(spec).map_err(RpcError::from)?),
            Query::AttachmentPlan(_) => Err(RpcError::new(Code::Internal, "a plan is answered elsewhere")),
            Query::AttachmentList { network } => json(self.attachments(network.as_ref())),
            Query::PoolShow { vlan, pools } => json(self.pools(*vlan, pools)?),
            Query::VlanList {} => {
                json(self.desired.known_vlans().into_iter().map(|vlan| self.vlan_info(vlan)).collect::<Vec<_>>())
            }
            Query::VtepShow {} => json(self.vtep_info()?),
            Query::PeerList {} => json(self.peers()),
            Query::FdbList(filter) => json(self.fdb(filter)?),
            Query::Trace(ask) => json(self.trace(ask)?),
            Query::Why(_) => Err(RpcError::new(Code::Internal, "why is answered elsewhere")),
            Query::PeerProbe(_) => Err(RpcError::new(Code::Internal, "a probe is answered elsewhere")),
            Query::Monitor(_) => Err(RpcError::new(Code::Internal, "who listens is answered elsewhere")),
            Query::NeighbourList {} => json(self.neighbours()?),
            Query::Stats { port } => json(self.stats(port.as_deref())?),
            Query::WorkerList {} => json(self.loads()?),
            Query::Status {} => json(self.status()?),
        }
    }
}
