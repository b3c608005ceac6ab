//! What a user may say to the switch, and what it answers.
//!
//! [`Desired`] is the state an operator wants; every way to say it (a config file, the state file, a request over the
//! socket) goes through [`Desired::apply`], so every way meets the same refusals. The daemon adds only those that need
//! the host. [`rpc`] is the envelope on the socket and [`client`] the blocking caller's side of it.

pub mod check;
pub mod client;
pub mod config;
pub mod error;
pub mod explain;
pub mod health;
pub mod monitor;
pub mod observe;
pub mod peer_stats;
pub mod record;
pub mod reply;
pub mod request;
pub mod rpc;
pub mod socket;
pub mod types;
pub mod worker;

pub use check::{Held, Outcome, Refusal};
pub use client::{Client, ClientError};
pub use config::{
    Ageing, Attach, Attachment, Config, Desired, FdbTarget, PeerSpec, PeerVlans, Pool, PoolRange, PortMode, PortSpec,
    Settings, Sight, StaticEntry, VlanSpec,
};
pub use error::{Code, RpcError};
pub use explain::{
    ExplainStep, Journey, NeighbourInfo, OuterInfo, StepOutcome, TraceAsk, TraceVerdict, Way, Why, WhyAsk,
};
pub use health::{Finding, Health, HealthState, Probe, ProbeAsk, RoundTrip};
pub use observe::Observe;
pub use peer_stats::PeerStats;
pub use reply::{
    Attached, AttachmentInfo, Carried, Detached, FdbInfo, FdbKind, FlappingInfo, Flushed, LimitsInfo, ModeInfo,
    ModeKind, Offload, PeerInfo, PoolInfo, PortInfo, PortPlan, PortState, PortStats, RateInfo, Sandbox, SharedAddress,
    Stats, Status, VlanInfo, VtepInfo,
};
pub use request::{Change, PortSet, Query, Request, Takeover};
pub use rpc::Id;
pub use types::{
    Allowed, AllowedWord, BadValue, BootId, Cidr, ContainerId, IfName, LimitWord, Limits, Mac, Mtu, Net, NetnsRef,
    NetworkName, PortName, RateLimit, Vid, VlanList, VlanName, Vni,
};
pub use worker::{Histogram, WorkerInfo};
