//! The `bandwidth` capability: what the stock plugin of that name does to a veth, we do at the port.

use serde::Deserialize;
use vswitch_api::{Limits, RateLimit};

use crate::protocol::{Code, Config, Failure};

/// Rates in bit/s and bursts in bits; zero is no limit. containerd writes the names as its Go fields are called.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Bandwidth {
    #[serde(alias = "IngressRate")]
    ingress_rate: u64,
    #[serde(alias = "IngressBurst")]
    ingress_burst: u64,
    #[serde(alias = "EgressRate")]
    egress_rate: u64,
    #[serde(alias = "EgressBurst")]
    egress_burst: u64,
}

/// The limits that the runtime, or else the configuration, asks for. Ingress is into the container: what we send to it.
///
/// # Errors
/// Rates that the switch cannot keep.
pub(crate) fn read(config: &Config) -> Result<Limits, Failure> {
    let asked: Option<Bandwidth> = config.get_in(&["runtimeConfig"], "bandwidth")?;
    let Some(asked) = asked.map_or_else(|| config.get("bandwidth"), |asked| Ok(Some(asked)))? else {
        return Ok(Limits::default());
    };
    let Bandwidth { ingress_rate, ingress_burst, egress_rate, egress_burst } = asked;
    Ok(Limits { rx: limit("egress", egress_rate, egress_burst)?, tx: limit("ingress", ingress_rate, ingress_burst)? })
}

fn limit(which: &str, rate: u64, burst: u64) -> Result<Option<RateLimit>, Failure> {
    if rate == 0 {
        return Ok(None);
    }
    // Less than a byte is no burst. Neither is the greatest number of 31 or 32 bits: so the kubelet and containerd write
    // that nobody said one, and a burst of half a gigabyte would be no limit for most of what pods send.
    let is_said = burst >= 8 && ![u64::from(u32::MAX), u64::from(u32::MAX >> 1)].contains(&burst);
    // More than a port takes is no bound.
    let burst = is_said.then_some((burst / 8).min(u32::MAX.into()));
    let limit = RateLimit::new(rate, burst);
    limit.map(Some).map_err(|error| Failure::new(Code::Config, format!("bandwidth, {which}Rate: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(keys: &str) -> Result<Limits, Failure> {
        read(&Config::read(format!("{{{keys}}}").into_bytes())?)
    }

    #[test]
    fn what_limits_come_to() {
        assert_eq!(limits("").unwrap(), Limits::default());
        let rate = |rate, burst| RateLimit::new(rate, burst).ok();
        let both = r#""bandwidth":{"ingressRate":8000000,"ingressBurst":80000,"egressRate":1000000}"#;
        assert_eq!(limits(both).unwrap(), Limits { rx: rate(1_000_000, None), tx: rate(8_000_000, Some(10_000)) });
        let over = format!(r#"{both},"runtimeConfig":{{"bandwidth":{{"egressRate":5000,"egressBurst":80000}}}}"#);
        assert_eq!(limits(&over).unwrap(), Limits { rx: rate(5000, Some(10_000)), tx: None });
        for unsaid in ["4294967295", "2147483647", "0", "7"] {
            let go = format!(r#""runtimeConfig":{{"bandwidth":{{"IngressRate":5000,"IngressBurst":{unsaid}}}}}"#);
            assert_eq!(limits(&go).unwrap(), Limits { rx: None, tx: rate(5000, None) }, "{unsaid}");
        }
        let failure = limits(r#""bandwidth":{"ingressRate":7}"#).unwrap_err();
        assert_eq!(failure.code, 7);
        assert!(failure.details.contains("ingressRate"), "{failure}");
    }
}
