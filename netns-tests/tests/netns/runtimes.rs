use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use netns_tests::runtimes::Runtime;
use netns_tests::{Context as _, Host, Result, SOON, ensure_eq};
use socket2::{Domain, Type};

use crate::Tests;

/// The stock `bridge` plugin in our place: fails first when the fault is in the harness or in the machine.
#[path = "runtimes/stock.rs"]
mod stock;

/// Tests of each client, with what it is.
pub(crate) const TESTS: &[(Runtime, Tests)] = &[
    (Runtime::Containerd, &[("containerd_with_the_stock_bridge", stock::containerd)]),
    (Runtime::Podman, &[("podman_with_the_stock_bridge", stock::podman)]),
    (Runtime::Cri, &[("cri_with_the_stock_bridge", stock::cri)]),
];

/// Connects from `from` to `published`, which is to be port `port` of `container`, and speaks both ways. Returns whom the
/// container saw.
fn published(from: &Host, published: SocketAddr, container: &Host, port: u16) -> Result<SocketAddr> {
    let own: SocketAddr = if published.is_ipv4() { ([0; 4], port).into() } else { ([0u16; 8], port).into() };
    let listener = container.socket(Domain::for_address(own), Type::STREAM, None)?;
    listener.set_reuse_address(true)?;
    listener.bind(&own.into())?;
    listener.listen(1)?;
    listener.set_read_timeout(Some(SOON))?;
    let mut client = from.socket(Domain::for_address(published), Type::STREAM, None)?;
    let what = format!("{} to {published}", from.name());
    client.connect_timeout(&published.into(), SOON).context(&what)?;
    let (mut server, peer) = listener.accept().context(format_args!("{what}: accept"))?;
    client.write_all(b"question")?;
    let mut bytes = [0; 8];
    server.set_read_timeout(Some(SOON))?;
    server.read_exact(&mut bytes).context(&what)?;
    ensure_eq!(&bytes, b"question", "what {what} brought");
    server.write_all(b"answered")?;
    client.set_read_timeout(Some(SOON))?;
    client.read_exact(&mut bytes).context(&what)?;
    ensure_eq!(&bytes, b"answered", "what {what} brought back");
    peer.as_socket().context("no peer")
}
