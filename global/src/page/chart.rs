//! A line chart as SVG 1.1: axes, series, a legend. It has no script, no link and no font of its own, and looks alike
//! inside a page and as a file.
use std::fmt::Write as _;

/// How colours follow the reader's light or dark screen; the pages' own style sheet says the same of charts in a page.
pub const STYLE: &str = include_str!("chart.css");

const WIDTH: f64 = 560.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 544.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 290.0;
/// Height of a row of the legend.
const ROW: f64 = 19.0;
/// Colours of series, after which they begin again.
const COLOURS: usize = 8;

/// A range with its name.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it is of.
    pub name: &'static str,
    /// Its ends, the lesser first.
    pub ends: (f64, f64),
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Drawn {
    /// A thin line.
    Thin,
    /// A thick line with dots.
    Thick,
}

/// Points that belong together, with rising x.
#[derive(Clone, Debug)]
pub struct Series {
    /// What they are of.
    pub name: String,
    /// The points.
    pub points: Vec<(f64, f64)>,
    /// Low and high end at each point; empty where there are none.
    pub bars: Vec<(f64, f64)>,
    /// How it is drawn.
    pub drawn: Drawn,
}

/// A chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// From left to right.
    pub x: Axis,
    /// From bottom to top.
    pub y: Axis,
    /// What is drawn.
    pub series: Vec<Series>,
    /// Whether the line of y = x is drawn, with which the series are compared.
    pub diagonal: bool,
}

impl Chart {
    /// The chart as a file of its own.
    #[must_use]
    pub fn file(&self) -> String {
        self.svg(&format!("<style>{STYLE}</style>"))
    }

    /// The chart as part of a page, which has the style.
    #[must_use]
    pub fn part(&self) -> String {
        self.svg("")
    }

    fn svg(&self, style: &str) -> String {
        let rows = self.series.len().div_ceil(3) as f64;
        let height = BOTTOM + 50.0 + rows * ROW;
        let title = escape(&self.title);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" role=\"img\" viewBox=\"0 0 {WIDTH} {height}\" aria-label=\"{title}\">{style}<rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\" rx=\"6\"/><text class=\"title\" x=\"{LEFT}\" y=\"24\">{title}</text>"
        );
        self.axes(&mut svg);
        if self.diagonal {
            let ((x0, y0), (x1, y1)) = (self.at((0.0, 0.0)), self.at((1.0, 1.0)));
            let _ = write!(
                svg,
                "<line class=\"even\" x1=\"{x0:.1}\" y1=\"{y0:.1}\" x2=\"{x1:.1}\" y2=\"{y1:.1}\"/>"
            );
        }
        for (number, series) in self.series.iter().enumerate() {
            self.draw(&mut svg, series, number % COLOURS);
        }
        self.legend(&mut svg);
        svg += "</svg>";
        svg
    }

    /// Where a point is drawn; outside the axes it is on their ends.
    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let share = |value: f64, (low, high): (f64, f64)| {
            ((value - low) / (high - low).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0)
        };
        let (x, y) = (share(x, self.x.ends), share(y, self.y.ends));
        (LEFT + x * (RIGHT - LEFT), BOTTOM - y * (BOTTOM - TOP))
    }

    fn axes(&self, svg: &mut String) {
        for tick in ticks(self.y.ends) {
            let (_, y) = self.at((self.x.ends.0, tick));
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\"/><text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                LEFT - 8.0,
                y + 4.0,
                number(tick)
            );
        }
        for tick in ticks(self.x.ends) {
            let (x, _) = self.at((tick, self.y.ends.0));
            let _ = write!(
                svg,
                "<line class=\"axis\" x1=\"{x:.1}\" y1=\"{BOTTOM}\" x2=\"{x:.1}\" y2=\"{:.1}\"/><text class=\"tick middle\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
                BOTTOM + 4.0,
                BOTTOM + 18.0,
                number(tick)
            );
        }
        let (middle_x, middle_y) = ((LEFT + RIGHT) / 2.0, (TOP + BOTTOM) / 2.0);
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{BOTTOM}\" x2=\"{RIGHT}\" y2=\"{BOTTOM}\"/><text class=\"name middle\" x=\"{middle_x}\" y=\"{}\">{}</text><text class=\"name middle\" transform=\"translate(15 {middle_y}) rotate(-90)\">{}</text>",
            BOTTOM + 37.0,
            self.x.name,
            self.y.name
        );
    }

    fn draw(&self, svg: &mut String, series: &Series, colour: usize) {
        let class = match series.drawn {
            Drawn::Thin => "thin",
            Drawn::Thick => "thick",
        };
        for ((x, _), (low, high)) in series.points.iter().zip(&series.bars) {
            let ((x, from), (_, to)) = (self.at((*x, *low)), self.at((*x, *high)));
            let _ = write!(
                svg,
                "<line class=\"bar c{colour}\" x1=\"{x:.1}\" y1=\"{from:.1}\" x2=\"{x:.1}\" y2=\"{to:.1}\"/>"
            );
        }
        let points = series.points.iter().map(|point| self.at(*point));
        let points: Vec<_> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = write!(
            svg,
            "<polyline class=\"{class} c{colour}\" points=\"{}\"/>",
            points.join(" ")
        );
        // A line of one point is not seen without its dot.
        if series.drawn == Drawn::Thick || series.points.len() == 1 {
            for point in &series.points {
                let (x, y) = self.at(*point);
                let _ = write!(
                    svg,
                    "<circle class=\"dot c{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>"
                );
            }
        }
    }

    fn legend(&self, svg: &mut String) {
        let column = (RIGHT - LEFT) / 3.0;
        for (at, series) in self.series.iter().enumerate() {
            let x = LEFT + (at % 3) as f64 * column;
            let y = BOTTOM + 58.0 + (at / 3) as f64 * ROW;
            let name: String = series.name.chars().take(26).collect();
            let _ = write!(
                svg,
                "<line class=\"thick c{}\" x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/><text class=\"tick\" x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
                at % COLOURS,
                y - 4.0,
                x + 16.0,
                y - 4.0,
                x + 22.0,
                escape(&name)
            );
        }
    }
}

/// Some five round numbers within a range.
fn ticks((low, high): (f64, f64)) -> Vec<f64> {
    let raw = (high - low) / 5.0;
    if !(raw.is_finite() && raw > 0.0) {
        return vec![low];
    }
    let power = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|by| by * power)
        .into_iter()
        .find(|step| *step >= raw * 0.999)
        .unwrap_or(raw);
    let first = (low / step).ceil();
    (0..12)
        .map(|at| (first + f64::from(at)) * step)
        .take_while(|tick| *tick <= high + step * 1e-9)
        .collect()
}

/// A number of a tick without what rounding left.
fn number(value: f64) -> String {
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" {
        "0".into()
    } else {
        text.into()
    }
}

/// Text within XML or HTML.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            // XML 1.0 §2.2: other control characters are in no document.
            '\t' | '\n' | '\r' => escaped.push(letter),
            letter if letter.is_control() => escaped.push('\u{fffd}'),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_their_range() {
        assert_eq!(
            ticks((0.0, 1.0)),
            [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]
        );
        assert_eq!(ticks((0.0, 15.0)), [0.0, 5.0, 10.0, 15.0]);
        assert_eq!(ticks((3.0, 3.0)), [3.0]);
        assert_eq!(number(0.6000000000000001), "0.6");
    }

    #[test]
    fn a_name_cannot_leave_its_text() {
        let chart = Chart {
            title: "<script>alert(1)</script>".into(),
            x: Axis {
                name: "round",
                ends: (0.0, 2.0),
            },
            y: Axis {
                name: "loss",
                ends: (0.0, 1.0),
            },
            series: vec![Series {
                name: "\"><script>\u{1}".into(),
                points: vec![(0.0, 0.5), (1.0, f64::MAX)],
                bars: vec![(0.4, 0.6)],
                drawn: Drawn::Thick,
            }],
            diagonal: true,
        };
        let svg = chart.file();
        assert!(!svg.contains("<script") && svg.contains("&lt;script&gt;"));
        assert!(!svg.contains('\u{1}') && !svg.contains("NaN") && !svg.contains("inf"));
        assert!(svg.contains("prefers-color-scheme") && !chart.part().contains("<style>"));
    }
}
