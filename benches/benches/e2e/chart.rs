//! The ratios as a picture: a row of bars for each work, against the kernel's one.

use std::fmt::Write as _;

use netns_tests::{Context as _, Result};
use serde_json::Value;

const BAR: f64 = 16.0;
const GAP: f64 = 4.0;
/// Between two works.
const BREAK: f64 = 18.0;
/// Where the bars begin, and how wide the largest may be.
const LEFT: f64 = 280.0;
const WIDTH: f64 = 330.0;
/// Where the figures stand, off the line of the kernel.
const FIGURES: f64 = LEFT + WIDTH + 16.0;
const TOTAL: f64 = FIGURES + 174.0;
const TOP: f64 = 64.0;
/// Ratios beyond it are cut off, with the number beside them: one far away would make all others one line.
const MOST: f64 = 3.0;

/// Of light and of dark backgrounds: what is drawn on nothing has to show on both.
const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#1f2328}.small{font-size:11px;fill:#59636e}\
.title{font-size:15px;font-weight:600}.kernel{fill:#8c959f}.ours{fill:#0969da}.ovs{fill:#bf8700}.wire{fill:#afb8c1}\
line{stroke:#59636e;stroke-dasharray:3 3}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.small{fill:#9198a1}\
.kernel{fill:#6e7681}.ours{fill:#4493f8}.ovs{fill:#d29922}.wire{fill:#484f58}line{stroke:#9198a1}}";

struct Bar {
    peer: String,
    ratio: f64,
    /// The figure itself.
    figure: String,
}

/// Draws what `--json` wrote.
pub(crate) fn svg(samples: &Value) -> Result<String> {
    let rows = samples["rows"].as_array().context("no rows in the samples")?;
    let works: Vec<_> = rows.iter().map(|row| (text(&row["name"]), bars(row))).collect();
    let mut y = TOP;
    let mut body = String::new();
    for (name, bars) in works.iter().filter(|(_, bars)| !bars.is_empty()) {
        let _ = writeln!(body, "<text x=\"8\" y=\"{:.0}\" class=\"title\">{}</text>", y + BAR - 3.0, escape(name));
        for bar in bars {
            draw(&mut body, bar, y);
            y += BAR + GAP;
        }
        y += BREAK;
    }
    let one = LEFT + WIDTH / MOST;
    let machine = &samples["machine"];
    let congestion = machine["congestion"].as_str().map(|name| format!(", TCP {name}")).unwrap_or_default();
    let place = format!("Linux {}, {} cores, shared by all{congestion}", text(&machine["kernel"]), machine["cores"]);
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {TOTAL:.0} {y:.0}\" width=\"{TOTAL:.0}\" \
         height=\"{y:.0}\" role=\"img\" aria-label=\"Speed against the kernel's bridge and VXLAN\">\n<style>{STYLE}</style>"
    );
    let _ = writeln!(
        svg,
        "<text x=\"8\" y=\"22\" class=\"title\">Speed against the kernel's bridge and VXLAN (= 1); longer is faster</text>\n\
         <text x=\"8\" y=\"42\" class=\"small\">{}</text>",
        escape(&place)
    );
    let _ = writeln!(svg, "<line x1=\"{one:.1}\" y1=\"{:.0}\" x2=\"{one:.1}\" y2=\"{:.0}\"/>", TOP - 8.0, y - BREAK);
    Ok(svg + &body + "</svg>\n")
}

fn draw(body: &mut String, bar: &Bar, y: f64) {
    let Bar { peer, ratio, figure } = bar;
    let width = (ratio.min(MOST) / MOST * WIDTH).max(1.0);
    let class = match peer.split([',', ' ']).next() {
        Some("vswitch") => "ours",
        Some("OVS") => "ovs",
        Some("veth") => "wire",
        _ => "kernel",
    };
    let base = y + BAR - 4.0;
    let _ = writeln!(
        body,
        "<text x=\"{:.0}\" y=\"{base:.0}\" text-anchor=\"end\">{}</text>\
         <rect x=\"{LEFT:.0}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"{BAR:.0}\" rx=\"2\" class=\"{class}\"/>",
        LEFT - 8.0,
        escape(peer)
    );
    let beyond = if *ratio > MOST { " →" } else { "" };
    let _ = writeln!(
        body,
        "<text x=\"{FIGURES:.0}\" y=\"{base:.0}\" class=\"small\">{ratio:.2} x · {}{beyond}</text>",
        escape(figure)
    );
}

fn bars(row: &Value) -> Vec<Bar> {
    let unit = text(&row["unit"]);
    let less_is_better = unit.starts_with("us");
    let bar = |peer: &Value| {
        let ratio = peer["ratio"].as_f64()?;
        let ratio = if less_is_better { 1.0 / ratio } else { ratio };
        Some(Bar { peer: text(&peer["peer"]), ratio, figure: format!("{:.1} {unit}", peer["rate"].as_f64()?) })
    };
    row["peers"].as_array().into_iter().flatten().filter_map(bar).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
