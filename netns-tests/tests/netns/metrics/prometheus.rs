//! Prometheus itself: its judgement of text, rules and dashboard.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use netns_tests::{Context, Host, Lab, Result, SOON, ensure, ensure_eq, eventually};
use serde_json::Value;

use super::{ADDR, GET, Scene, asked, page, scrape};

const PROGRAMS: [&str; 2] = ["prometheus", "promtool"];

/// Why Prometheus cannot be had here.
pub(crate) fn hindrance() -> Option<String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_here = |name: &&str| env::split_paths(&path).any(|folder| folder.join(name).is_file());
    let missing: Vec<_> = PROGRAMS.iter().copied().filter(|name| !is_here(name)).collect();
    (!missing.is_empty()).then(|| format!("not installed: {} (Debian: prometheus)", missing.join(", ")))
}

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/monitoring").join(name)
}

/// Runs `promtool`, which is to find nothing wrong.
fn promtool(folder: &Path, words: &[&str], input: Option<&str>) -> Result<String> {
    let mut command = Command::new("promtool");
    command.args(words).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    stdin.write_all(input.unwrap_or_default().as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    ensure!(output.status.success(), "promtool {}: {said}", words.join(" "));
    Ok(said)
}

pub(super) fn rules_and_text_are_as_prometheus_wants_them(lab: &Lab) -> Result {
    let folder = docs("");
    promtool(&folder, &["check", "rules", "alerts.yml"], None)?;
    promtool(&folder, &["test", "rules", "alerts_test.yml"], None)?;
    let scene = Scene::new(lab, &[])?;
    let answer = asked(&scene.one.host, ADDR, GET)?;
    let said = promtool(&folder, &["check", "metrics"], Some(page(&answer)?))?;
    ensure_eq!(said.trim(), "", "what promtool finds in the metrics");
    Ok(())
}

/// Prometheus as Debian has it; it is killed with this.
struct Prometheus<'a> {
    child: Child,
    host: &'a Host,
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const WEB: &str = "127.0.0.1:9090";

impl<'a> Prometheus<'a> {
    fn start(lab: &Lab, host: &'a Host) -> Result<Self> {
        let folder = lab.folder("prometheus")?;
        let config = folder.join("prometheus.yml");
        let rules = fs::canonicalize(docs("alerts.yml"))?;
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\n\
             scrape_configs:\n  - job_name: vswitch\n    static_configs: [{{targets: ['{ADDR}']}}]\n",
            rules.display()
        );
        fs::write(&config, text)?;
        let log = fs::File::create(folder.join("log"))?;
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={WEB}"))
            .arg("--log.level=warn");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self { child: host.spawn(command)?, host })
    }

    /// What it answers on `path`, where that is a success.
    fn get(&self, path: &str) -> Result<Value> {
        let answer = asked(self.host, WEB, format!("GET {path} HTTP/1.0\r\nHost: p\r\n\r\n"))?;
        let (_, body) = answer.split_once("\r\n\r\n").context(answer.clone())?;
        let answer: Value = serde_json::from_str(body)?;
        ensure_eq!(answer["status"], "success", "{path}: {answer}");
        Ok(answer["data"].clone())
    }

    /// What an expression comes to: labels and value of each.
    fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let data = self.get(&format!("/api/v1/query?query={encoded}"))?;
        Ok(data["result"].as_array().cloned().unwrap_or_default())
    }

    fn number(&self, expression: &str) -> Result<f64> {
        let found = self.query(expression)?;
        let value = found.first().and_then(|one| one["value"][1].as_str()).context(format_args!("no {expression}"))?;
        Ok(value.parse()?)
    }
}

/// Names of metrics in an expression.
fn names(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    words.filter(|word| word.starts_with("vswitch_") || word.starts_with("process_")).map(str::to_owned).collect()
}

/// All expressions of the dashboard: those of panels, and those of variables as `label_values(series, label)`.
fn dashboard() -> Result<(Vec<String>, Vec<String>)> {
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(docs("grafana.json"))?)?;
    let (mut panels, mut variables) = (Vec::new(), Vec::new());
    for panel in dashboard["panels"].as_array().context("panels")? {
        for target in panel["targets"].as_array().into_iter().flatten() {
            panels.push(target["expr"].as_str().context("expr")?.to_owned());
        }
    }
    for variable in dashboard["templating"]["list"].as_array().context("variables")? {
        variables.extend(variable["definition"].as_str().map(str::to_owned));
    }
    ensure!(panels.len() > 20 && variables.len() == 2, "{} panels, {} variables", panels.len(), variables.len());
    Ok((panels, variables))
}

/// What Grafana makes of an expression where all is chosen.
fn chosen(expression: &str) -> String {
    expression.replace("$__rate_interval", "5s").replace("$instance", ".*").replace("$port", ".*")
}

pub(super) fn a_real_prometheus(lab: &Lab) -> Result {
    let scene = Scene::new(lab, &["--probe-interval", "200ms"])?;
    let host = &scene.one.host;
    let answer = asked(host, ADDR, GET)?;
    let declared: BTreeSet<String> = page(&answer)?
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned))
        .collect();
    let prometheus = Prometheus::start(lab, host)?;
    eventually(SOON * 3, "Prometheus has scraped the daemon", || {
        ensure_eq!(prometheus.number("up{job=\"vswitch\"}")?, 1.0, "up");
        ensure!(prometheus.number("count_over_time(up[10s])")? >= 3.0, "too few samples");
        Ok(())
    })?;
    // It asks for OpenMetrics, so this is a judge of that too.
    let types = prometheus.get("/api/v1/metadata")?;
    for name in &declared {
        // There the family of a counter is called without its end.
        let known = [name.as_str(), name.trim_end_matches("_total")].iter().any(|name| types.get(name).is_some());
        ensure!(known, "Prometheus has no metadata of {name}: {types}");
    }
    for (port, counts) in [("a", "receive_frames"), ("a", "transmit_bytes"), ("alone", "receive_frames")] {
        let series = format!("vswitch_port_{counts}_total{{port=\"{port}\"}}");
        eventually(SOON, "what it knows is what the daemon tells", || {
            ensure_eq!(prometheus.number(&series)?, scrape(host)?.value(&series)?, "{series}");
            Ok(())
        })?;
    }
    let (panels, variables) = dashboard()?;
    for expression in &panels {
        for name in names(expression) {
            let plain = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let is_declared = [Some(name.as_str()), plain].into_iter().flatten().any(|name| declared.contains(name));
            ensure!(is_declared, "{name} of the dashboard is no metric: {expression}");
        }
        // Here is no container runtime, and nothing is wrong between the hosts; all else has happened.
        let may_be_empty = ["vswitch_attachments", "vswitch_peer_finding"].iter().any(|name| expression.contains(name));
        eventually(SOON, "the panel shows something", || {
            let found = prometheus.query(&chosen(expression))?;
            ensure!(may_be_empty || !found.is_empty(), "nothing: {expression}");
            Ok(())
        })?;
    }
    for variable in &variables {
        let inner = variable.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        let (series, label) = inner.and_then(|inner| inner.rsplit_once(", ")).context(variable.clone())?;
        let found = prometheus.query(&chosen(series))?;
        ensure!(found.iter().any(|one| one["metric"][label].is_string()), "{variable}: {found:?}");
    }
    eventually(SOON, "every rule was evaluated", || {
        let rules = prometheus.get("/api/v1/rules")?;
        let rules = rules["groups"][0]["rules"].as_array().cloned().unwrap_or_default();
        ensure!(rules.len() > 8, "{} rules", rules.len());
        for rule in &rules {
            ensure_eq!(rule["health"], "ok", "{rule}");
            let query = rule["query"].as_str().context("query")?;
            prometheus.query(query)?;
            for name in names(query) {
                ensure!(declared.contains(&name), "{name} of the rules is no metric: {query}");
            }
        }
        Ok(())
    })?;
    // And one that fires.
    let daemon = &scene.one.daemon;
    ensure_eq!(prometheus.query("ALERTS{alertname=\"VswitchDown\"}")?.len(), 0, "alerts of a daemon that is up");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(daemon.pid().try_into()?), nix::sys::signal::Signal::SIGKILL)?;
    eventually(SOON, "the alert is pending", || {
        ensure_eq!(prometheus.query("ALERTS{alertname=\"VswitchDown\"}")?.len(), 1, "alerts");
        Ok(())
    })
}
