//! TCP.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;

use socket2::{Domain, Socket, Type};

use super::{PATIENCE, check, fill};
use crate::{Context, Failure, Host, Result, ensure};

/// Both ends of a connection.
#[derive(Debug)]
pub struct Connection {
    /// The end that connected.
    pub client: TcpStream,
    /// The end that listened.
    pub server: TcpStream,
}

impl Connection {
    /// Connects `from` to address `ip` of `to`.
    ///
    /// # Errors
    /// Where nothing comes through.
    pub fn open(from: &Host, to: &Host, ip: IpAddr) -> Result<Self> {
        let tcp = |host: &Host| host.socket(Domain::for_address(SocketAddr::new(ip, 0)), Type::STREAM, None);
        let listener = tcp(to)?;
        listener.bind(&SocketAddr::new(ip, 0).into()).context(format_args!("bind to {ip} in {}", to.name()))?;
        listener.listen(1)?;
        listener.set_read_timeout(Some(PATIENCE))?;
        let client = tcp(from)?;
        let what = format!("TCP from {} to {ip} of {}", from.name(), to.name());
        client.connect_timeout(&listener.local_addr()?, PATIENCE).context(format_args!("{what}: connect"))?;
        let (server, _) = listener.accept().context(format_args!("{what}: accept"))?;
        Ok(Self { client: ready(client)?, server: ready(server)? })
    }

    /// Sends `bytes` from the client to the server, in writes of `chunk`.
    ///
    /// # Errors
    /// Where other bytes arrive, or none.
    pub fn forth(&self, bytes: u64, chunk: usize, seed: u64) -> Result {
        one_way(&self.client, &self.server, bytes, chunk, seed)
    }

    /// Sends `bytes` from the server to the client, in writes of `chunk`.
    ///
    /// # Errors
    /// Where other bytes arrive, or none.
    pub fn back(&self, bytes: u64, chunk: usize, seed: u64) -> Result {
        one_way(&self.server, &self.client, bytes, chunk, seed)
    }

    /// Sends `bytes` each way at once, in writes of `chunk`.
    ///
    /// # Errors
    /// Where other bytes arrive, or none.
    pub fn both_ways(&self, bytes: u64, chunk: usize, seed: u64) -> Result {
        thread::scope(|scope| {
            let forth = scope.spawn(|| self.forth(bytes, chunk, seed));
            let back = self.back(bytes, chunk, !seed);
            joined(forth)?;
            back
        })
    }

    /// Sends `size` bytes forth in one write, and then back.
    ///
    /// # Errors
    /// Where other bytes arrive, or none.
    pub fn echo(&self, size: usize, seed: u64) -> Result {
        let bytes = u64::try_from(size)?;
        self.forth(bytes, size, seed)?;
        self.back(bytes, size, !seed)
    }
}

fn ready(socket: Socket) -> Result<TcpStream> {
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

fn joined(thread: thread::ScopedJoinHandle<'_, Result>) -> Result {
    thread.join().unwrap_or_else(|_| Err(Failure::new("a thread of the test panicked")))
}

fn one_way(mut from: &TcpStream, mut to: &TcpStream, bytes: u64, chunk: usize, seed: u64) -> Result {
    ensure!(chunk > 0 || bytes == 0, "writes of nothing carry no {bytes} bytes");
    let send = move || {
        let mut buf = vec![0; chunk];
        let mut sent = 0;
        while sent < bytes {
            let len = usize::try_from(bytes - sent).map_or(chunk, |left| left.min(chunk));
            fill(seed, sent, &mut buf[..len]);
            from.write_all(&buf[..len]).context(format_args!("TCP: write after {sent} of {bytes} bytes"))?;
            sent += u64::try_from(len)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let sender = scope.spawn(send);
        let mut receive = || {
            let mut buf = vec![0; 1 << 18];
            let mut got = 0;
            while got < bytes {
                let room = usize::try_from(bytes - got).map_or(buf.len(), |left| left.min(buf.len()));
                let len = to.read(&mut buf[..room]).context(format_args!("TCP: read after {got} of {bytes} bytes"))?;
                ensure!(len > 0, "TCP: the other end closed after {got} of {bytes} bytes");
                check(seed, got, &buf[..len], "TCP")?;
                got += u64::try_from(len)?;
            }
            Ok(())
        };
        let received = receive();
        let sent = joined(sender);
        received.and(sent)
    })
}
