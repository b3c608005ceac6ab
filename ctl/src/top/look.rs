//! How things look on a terminal: colours, marks, bars.

use std::time::Duration;

use ratatui::style::{Color, Modifier, Style};

use super::network::Tone;
use super::rate::History;

/// How things look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Without, there are bold and reversed characters at most.
    pub(super) is_coloured: bool,
    /// Whether the terminal has more than ASCII.
    pub(super) is_unicode: bool,
    /// Time between samples.
    pub(super) interval: Duration,
}

impl Look {
    pub(super) fn tone(self, tone: Tone) -> Style {
        let (colour, modifier) = match tone {
            Tone::Fine => return Style::new(),
            Tone::Odd => (Color::Yellow, Modifier::empty()),
            Tone::Bad => (Color::Red, Modifier::BOLD),
        };
        let style = Style::new().add_modifier(modifier);
        if self.is_coloured { style.fg(colour) } else { style }
    }

    /// The head of a table that keys are for, or not.
    pub(super) fn head(self, is_focus: bool) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        match (is_focus, self.is_coloured) {
            (true, _) => style.add_modifier(Modifier::REVERSED),
            (false, true) => style.fg(Color::Cyan),
            (false, false) => style,
        }
    }

    pub(super) const fn mark(self, is_reversed: bool) -> &'static str {
        match (self.is_unicode, is_reversed) {
            (true, false) => "▼",
            (true, true) => "▲",
            (false, false) => "v",
            (false, true) => "^",
        }
    }

    /// The newest values of `history` in `width` columns, as high as their part of `full`, or of the greatest.
    pub(super) fn bars(self, history: &History, full: Option<f64>, width: u16) -> String {
        let bars = if self.is_unicode { "▁▂▃▄▅▆▇█" } else { "_.:-=+*#" };
        let width = usize::from(width);
        let greatest = full.unwrap_or_else(|| history.last(width).fold(0.0, f64::max));
        let bar = |value: f64| {
            if value <= 0.0 || greatest <= 0.0 {
                return ' ';
            }
            // The first bar whose upper end is not below the value.
            let step = (1..=8u32).find(|step| value * 8.0 <= greatest * f64::from(*step)).unwrap_or(8);
            bars.chars().nth(usize::try_from(step - 1).unwrap_or(0)).unwrap_or(' ')
        };
        let text: String = history.last(width).map(bar).collect();
        format!("{text:>width$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Look = Look { is_coloured: false, is_unicode: true, interval: Duration::from_secs(1) };

    #[test]
    fn bars_are_as_high_as_values() {
        let mut history = History::default();
        (0..=8).for_each(|value| history.push(f64::from(value)));
        assert_eq!(PLAIN.bars(&history, None, 12), "    ▁▂▃▄▅▆▇█");
        assert_eq!(PLAIN.bars(&history, Some(16.0), 9), " ▁▁▂▂▃▃▄▄");
        assert_eq!(Look { is_unicode: false, ..PLAIN }.bars(&history, None, 3), "+*#");
        assert_eq!(PLAIN.bars(&History::default(), None, 3), "   ");
    }
}
