//! One run of the program: words in, texts and an exit code out.

use std::ffi::OsString;
use std::io::{self, Write};
use std::time::Duration;

use clap::Parser;
use vswitch_api::{Client, Request, socket};

use crate::call::{Call, json};
use crate::capture::{self, CaptureError};
use crate::cli::{Cli, Global};
#[cfg(feature = "top")]
use crate::failure::explain;
use crate::failure::{Complaint, Exit, Failure};
use crate::monitor::{self, MonitorError};
use crate::repeat::repeat;
use crate::style::{Screen, Tone, plain};
#[cfg(feature = "top")]
use crate::top::{self, TopError};
use crate::words::{self, Task};
use crate::{complete, demo, doctor, man, reference};

/// Does what `args` say; `out` gets the answer and `err` what went wrong.
pub(crate) fn run<I>(args: I, screen: &Screen, out: &mut dyn Write, err: &mut dyn Write) -> Exit
where
    I: IntoIterator<Item: Into<OsString> + Clone>,
{
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let wants_json = args.iter().skip(1).take_while(|arg| *arg != "--").any(|arg| arg == "--json");
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" too, and go where answers go.
            let text = error.render().ansi().to_string();
            let (written, exit) = if error.use_stderr() && wants_json {
                let complaint = Complaint::usage(plain(&text).trim_end().trim_start_matches("error: ").to_owned());
                (err.write_all(complaint.line().as_bytes()), Exit::Usage)
            } else if error.use_stderr() {
                (write!(err, "{}", screen.complaint(&text)), Exit::Usage)
            } else {
                (write!(out, "{}", screen.shown(&text)), Exit::Done)
            };
            // Nobody is left to tell that nobody listens.
            let _ = written;
            return exit;
        }
    };
    match execute(cli, screen, out, err) {
        Ok(exit) => exit,
        // Whoever reads has seen enough (`vsctl fdb list | head`).
        Err(
            Failure::Output(error)
            | Failure::Capture(CaptureError::Output(error))
            | Failure::Monitor(MonitorError::Output(error)),
        ) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
        Err(failure) => {
            let _ = err.write_all(complaint(&failure, wants_json, screen).as_bytes());
            failure.exit()
        }
    }
}

/// A failure as it is told: a line for people, or an object for programs.
fn complaint(failure: &Failure, wants_json: bool, screen: &Screen) -> String {
    if wants_json {
        return Complaint::of(failure).line();
    }
    screen.complaint(&format!("{}: {failure}\n", Tone::Bad.on("vsctl"))).into_owned()
}

fn execute(cli: Cli, screen: &Screen, out: &mut dyn Write, err: &mut dyn Write) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    match words::task(cli.command)? {
        Task::Reference => out.write_all(reference::page().as_bytes())?,
        Task::Complete(shell) => complete::script(shell, out)?,
        Task::Propose(index, words) => complete::propose(index, words, out)?,
        Task::Man(dir) => man::write(&dir)?,
        Task::Examine(words) => {
            let Global { socket, json: is_json, quiet, timeout } = cli.global;
            let checks = doctor::examine(words, socket::to_ask(socket), timeout);
            let is_wrong = checks.iter().any(|check| check.state == doctor::State::Wrong);
            exit = if is_wrong { Exit::Refused } else { Exit::Done };
            let mut text = String::new();
            if is_json {
                text = json(&checks)?
            } else {
                doctor::report(&checks, &mut text)
            };
            if !quiet {
                out.write_all(screen.shown(&text).as_bytes())?;
            }
        }
        Task::Demo(words) => {
            let Global { socket: _, json, quiet, timeout } = cli.global;
            demo::run(&words, timeout, demo::Style::new(json, quiet), out)?;
        }
        Task::Capture(args) => {
            watch(&cli.global, |client, options| capture::capture(client, &args, options, (out, err)))?;
        }
        Task::Follow(args) => {
            watch(&cli.global, |client, options| capture::trace(client, &args, options, (out, err)))?;
        }
        #[cfg(feature = "top")]
        Task::Top(args) => show_top(&cli.global, &args, out)?,
        Task::Monitor(args) => {
            let Global { socket, json, quiet: _, timeout } = cli.global;
            let path = socket::to_ask(socket);
            monitor::run(&args, (&path, timeout), json, out).map_err(|error| match error {
                MonitorError::Daemon(error) => Failure::Daemon { error, path },
                error => Failure::Monitor(error),
            })?;
        }
        Task::Ask(request, watch) => match watch.pause {
            Some(pause) => again(&cli.global, &request, pause, screen, (out, err))?,
            None => print(&cli.global, screen, out, |call| call.answer(&request))?,
        },
        Task::HandOver(spec) => print(&cli.global, screen, out, |call| call.hand_over(spec))?,
        Task::Trace(trace) => print(&cli.global, screen, out, |call| call.trace(&trace))?,
        Task::Probe(ask) => print(&cli.global, screen, out, |call| {
            let (text, is_there) = call.probe(ask)?;
            exit = if is_there { Exit::Done } else { Exit::Refused };
            Ok(text)
        })?,
        Task::Why(ask) => print(&cli.global, screen, out, |call| {
            let (text, is_reachable) = call.why(ask)?;
            exit = if is_reachable { Exit::Done } else { Exit::Refused };
            Ok(text)
        })?,
    }
    Ok(exit)
}

/// Connects, and has `show` show frames.
fn watch(
    Global { socket, json, quiet, timeout }: &Global,
    show: impl FnOnce(Client, &capture::Options) -> Result<(), CaptureError>,
) -> Result<(), Failure> {
    let path = socket::to_ask(socket.clone());
    let shown = Client::connect(&path, *timeout).map_err(CaptureError::Daemon);
    let options = capture::Options { json: *json, quiet: *quiet };
    shown.and_then(|client| show(client, &options)).map_err(|error| match error {
        CaptureError::Daemon(error) => Failure::Daemon { error, path },
        error => Failure::Capture(error),
    })
}

/// Shows what passes now.
#[cfg(feature = "top")]
fn show_top(
    Global { socket, json, quiet, timeout }: &Global,
    args: &top::TopArgs,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let path = socket::to_ask(socket.clone());
    let options = top::Options { path: path.clone(), timeout: *timeout, json: *json, quiet: *quiet, explain };
    top::run(args, options, out).map_err(|error| match error {
        TopError::Daemon(error) => Failure::Daemon { error, path },
        TopError::Output(error) => Failure::Output(error),
        error => Failure::Top(error),
    })
}

/// Connects, and prints what `ask` makes of it.
fn print(
    global: &Global,
    screen: &Screen,
    out: &mut dyn Write,
    ask: impl FnOnce(&mut Call) -> Result<String, Failure>,
) -> Result<(), Failure> {
    let text = ask(&mut Call::connect(global)?)?;
    if !global.quiet {
        out.write_all(screen.shown(&text).as_bytes())?;
        out.flush()?;
    }
    Ok(())
}

/// Prints the answer to `request` every `pause`. A daemon that answered once may restart meanwhile.
fn again(
    global: &Global,
    request: &Request,
    pause: Duration,
    screen: &Screen,
    (out, err): (&mut dyn Write, &mut dyn Write),
) -> Result<(), Failure> {
    let mut has_answered = false;
    repeat(pause, screen, out, || match Call::connect(global).and_then(|mut call| call.answer(request)) {
        Err(failure @ Failure::Daemon { .. }) if has_answered => {
            let text = complaint(&failure, global.json, screen);
            if screen.is_terminal {
                return Ok(text);
            }
            err.write_all(text.as_bytes())?;
            Ok(String::new())
        }
        answer => {
            has_answered = true;
            answer
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixListener;
    use std::thread;

    /// What `vsctl WORDS` does where the daemon's answer is `answer`: the exit code, and both outputs.
    fn vsctl(words: &str, answer: &str) -> (Exit, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let line = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,{answer}}}\n");
        let daemon = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            BufReader::new(&stream).read_line(&mut String::new()).unwrap();
            (&stream).write_all(line.as_bytes()).unwrap();
        });
        let result = alone(&format!("--timeout 60 --socket {} {words}", path.display()));
        daemon.join().unwrap();
        result
    }

    /// The same with nobody to answer.
    fn alone(words: &str) -> (Exit, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = run(["vsctl"].into_iter().chain(words.split_whitespace()), &Screen::PLAIN, &mut out, &mut err);
        (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    fn done(text: &str) -> (Exit, String, String) {
        (Exit::Done, text.to_owned(), String::new())
    }

    #[test]
    fn what_was_done_is_said() {
        let changed = r#""result":{"changed":true,"notes":[]}"#;
        assert_eq!(vsctl("vlan del 10", changed), done("VLAN 10 deleted\n"));
        assert_eq!(vsctl("-q vlan del 10", changed), done(""));
        assert_eq!(vsctl("vlan del 10 --json", changed), done("{\"changed\":true,\"notes\":[]}\n"));

        let noted = r#""result":{"changed":true,"notes":["it joins port a"]}"#;
        assert_eq!(vsctl("vlan del 10", noted), done("VLAN 10 deleted\n  it joins port a\n"));
        let same = r#""result":{"changed":false}"#;
        assert_eq!(vsctl("vlan add 10", same), done("VLAN 10 is so already: nothing changed\n"));
        assert_eq!(vsctl("fdb flush", r#""result":{"flushed":3}"#), done("3 learned addresses forgotten\n"));
    }

    #[test]
    fn lists_for_people_and_for_programs() {
        let answer = r#""result":[{"ip":"192.0.2.2","all_vlans":false,"vlans":[10]}]"#;
        assert_eq!(vsctl("vtep peer list", answer), done("PEER       VLANS\n192.0.2.2  10\n"));
        let json = "[{\"ip\":\"192.0.2.2\",\"all_vlans\":false,\"vlans\":[10],\"health\":null}]\n";
        assert_eq!(vsctl("vtep peer list --json", answer), done(json));
        assert_eq!(vsctl("vtep peer list -q", answer), done(""));

        let ports = r#"[{"port":"a","rx_frames":1,"rx_bytes":2,"tx_frames":3,"tx_bytes":4,"drops":{"x":5}}]"#;
        let answer = format!("\"result\":{{\"ports\":{ports},\"reasons\":{{\"x\":\"why\"}}}}");
        assert_eq!(vsctl("stats --json", &answer), done(&format!("{ports}\n")));
        assert!(vsctl("stats", &answer).1.contains("why"));
    }

    #[test]
    fn exit_codes() {
        let (exit, out, err) = vsctl("port del a", r#""error":{"code":2,"message":"there is no port a"}"#);
        assert_eq!((exit, out.as_str(), err.as_str()), (Exit::Refused, "", "vsctl: there is no port a\n"));

        for words in ["", "fly", "vlan add 4095", "port add a"] {
            let (exit, out, err) = alone(words);
            assert_eq!((exit, out.as_str()), (Exit::Usage, ""), "{words}");
            assert!(!err.is_empty(), "{words}");
        }
        for words in ["--help", "port add --help", "--version", "completions zsh"] {
            let (exit, out, err) = alone(words);
            assert_eq!((exit, err.as_str()), (Exit::Done, ""), "{words}");
            assert!(out.contains("vsctl"), "{words}");
        }

        let (exit, _, err) = alone("--socket /nonexistent/s status");
        assert_eq!(exit, Exit::Unreachable);
        for part in ["/nonexistent/s", "is vswitchd running?", "--socket", "$VSWITCH_SOCKET"] {
            assert!(err.contains(part), "{err}");
        }
        let (exit, _, err) = vsctl("status", r#""result":7"#);
        assert_eq!(exit, Exit::Unreachable);
        assert!(err.contains("not understood"), "{err}");
    }

    #[test]
    fn failures_for_programs() {
        let refused = r#""error":{"code":2,"message":"there is no port \"a\""}"#;
        for words in ["--json port del a", "port del a --json"] {
            let (exit, out, err) = vsctl(words, refused);
            let expected = "{\"code\":2,\"message\":\"there is no port \\\"a\\\"\"}\n";
            assert_eq!((exit, out.as_str(), err.as_str()), (Exit::Refused, "", expected), "{words}");
        }
        for (words, expected, part) in [
            ("--json vlan add 4095", Exit::Usage, "1 to 4094"),
            ("--json fly", Exit::Usage, "unrecognized"),
            ("--json --socket /nonexistent/s status", Exit::Unreachable, "is vswitchd running?"),
        ] {
            let (exit, out, err) = alone(words);
            assert_eq!((exit, out.as_str(), err.lines().count()), (expected, "", 1), "{words}: {err}");
            let said: serde_json::Value = serde_json::from_str(&err).unwrap();
            assert!(said["code"].is_null() && said["message"].as_str().unwrap().contains(part), "{words}: {err}");
        }
        assert_eq!(alone("--json --help").0, Exit::Done);
    }

    /// As [`vsctl`], with a daemon that gives these answers one after the other.
    fn vsctl_asking(words: &str, answers: &'static [&'static str]) -> (Exit, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let daemon = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(&stream);
            for (number, answer) in (1..).zip(answers) {
                lines.read_line(&mut String::new()).unwrap();
                let line = format!("{{\"jsonrpc\":\"2.0\",\"id\":{number},{answer}}}\n");
                (&stream).write_all(line.as_bytes()).unwrap();
            }
        });
        let result = alone(&format!("--timeout 60 --socket {} {words}", path.display()));
        daemon.join().unwrap();
        result
    }

    #[test]
    fn misspelt_words_and_names() {
        for (words, meant) in [("prot list", "'port'"), ("port lst", "'list'"), ("status --jsno", "'--json'")] {
            let (exit, _, err) = alone(words);
            assert_eq!(exit, Exit::Usage, "{words}");
            assert!(err.contains("similar") && err.contains(meant), "{words}: {err}");
        }
        const MISSING: &str = r#""error":{"code":2,"message":"there is no port wbe"}"#;
        const PORTS: &str = r#""result":[{"name":"web","netns":"a","ifname":"eth0","mac":null,"addresses":[],"mtu":1500,"mode":"access","vlan":10,"vlans":[],"native":null,"state":"up","offloads":[]}]"#;
        for words in ["port show wbe", "port del wbe", "stats wbe", "fdb list --port wbe", "why wbe 10.0.0.1"] {
            let (exit, out, err) = vsctl_asking(words, &[MISSING, PORTS]);
            assert_eq!((exit, out.as_str()), (Exit::Refused, ""), "{words}");
            assert_eq!(err, "vsctl: there is no port wbe; did you mean web?\n", "{words}");
        }
        let (_, _, err) = vsctl_asking("port show proxy", &[MISSING, PORTS]);
        assert_eq!(err, "vsctl: there is no port wbe\n");
        let (_, _, err) = vsctl_asking("port del wbe", &[r#""error":{"code":4,"message":"you may not"}"#]);
        assert_eq!(err, "vsctl: you may not\n");
    }

    #[test]
    fn a_daemon_that_hangs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _listener = UnixListener::bind(&path).unwrap();
        let (exit, _, err) = alone(&format!("--socket {} --timeout 0.02 status", path.display()));
        assert_eq!(exit, Exit::Unreachable);
        assert!(err.contains("20ms") && err.contains("--timeout SECS"), "{err}");
    }

    #[test]
    fn a_reader_that_has_seen_enough() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut err = Vec::new();
        assert_eq!(run(["vsctl", "completions", "bash"], &Screen::PLAIN, &mut Gone, &mut err), Exit::Done);
        assert_eq!(err, b"");
    }
}
