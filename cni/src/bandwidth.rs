//! The `bandwidth` capability: what the stock plugin of that name does to a veth, we do at the port.

use serde::Deserialize;
use vswitch_api::{Limits, RateLimit};

use crate::protocol::{Code, Config, Failure};

/// Rates in bit/s and bursts in bits; zero is no limit.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Bandwidth {
    ingress_rate: u64,
    ingress_burst: u64,
    egress_rate: u64,
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
    // Less than a byte is no burst; more than a port takes is no bound.
    let burst = (burst >= 8).then_some((burst / 8).min(u32::MAX.into()));
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
        let over = format!(r#"{both},"runtimeConfig":{{"bandwidth":{{"egressRate":5000,"egressBurst":2147483647}}}}"#);
        assert_eq!(limits(&over).unwrap(), Limits { rx: rate(5000, Some(268_435_455)), tx: None });
        let failure = limits(r#""bandwidth":{"ingressRate":7}"#).unwrap_err();
        assert_eq!(failure.code, 7);
        assert!(failure.details.contains("ingressRate"), "{failure}");
    }
}
