//! Lines over a logarithmic axis with range bars, as SVG. Pure.

use std::fmt::Write as _;

use crate::chart::{FILLS, escaped, number, tick_step};
use crate::report::thousands;
use crate::stats::Summary;

/// A chart of lines.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Headline.
    pub title: String,
    /// Line below the headline.
    pub subtitle: String,
    /// What the vertical axis counts, with its unit.
    pub axis: String,
    /// What the horizontal axis counts.
    pub along: String,
    /// The lines.
    pub lines: Vec<Line>,
}

/// A line.
#[derive(Clone, Debug)]
pub struct Line {
    /// Name in the legend.
    pub name: String,
    /// Which of the chart's colours.
    pub colour: usize,
    /// Points from left to right: at least 1, and the value.
    pub points: Vec<(u32, Summary)>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 96.0;
const BOTTOM: f64 = 64.0;

struct Scale {
    /// Logarithms of the ends of the horizontal axis.
    ends: (f64, f64),
    /// Value at the upper end of the vertical axis.
    top: f64,
}

impl Scale {
    fn x(&self, at: u32) -> f64 {
        let (low, high) = self.ends;
        LEFT + (WIDTH - LEFT - RIGHT) * (f64::from(at.max(1)).log10() - low) / (high - low)
    }

    fn y(&self, value: f64) -> f64 {
        let bottom = HEIGHT - BOTTOM;
        bottom - (bottom - TOP) * value / self.top
    }
}

/// The chart as an SVG document.
pub fn svg(curve: &Curve) -> String {
    let points = || curve.lines.iter().flat_map(|line| &line.points);
    let highest = points().map(|(_, value)| value.max).fold(0.0, f64::max);
    let step = tick_step(highest);
    let logs = || points().map(|(at, _)| f64::from((*at).max(1)).log10());
    let (low, high) = (logs().fold(f64::MAX, f64::min).floor().min(6.0), logs().fold(0.0, f64::max).ceil());
    let scale = Scale { ends: (low, high.max(low + 1.0)), top: (highest / step).ceil().max(1.0) * step };
    let mut out = String::new();
    head(&mut out, curve);
    axes(&mut out, curve, &scale, step);
    for line in &curve.lines {
        draw(&mut out, line, &scale);
    }
    out.push_str("</svg>\n");
    out
}

/// Writing to a String cannot fail.
fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(out, "{text}");
}

fn head(out: &mut String, curve: &Curve) {
    let (title, subtitle) = (escaped(&curve.title), escaped(&curve.subtitle));
    put(
        out,
        format_args!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{title}" font-family="system-ui, sans-serif" font-size="13" fill="#222222">"##
        ),
    );
    put(out, format_args!(r##"<rect width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#ffffff"/>"##));
    put(out, format_args!(r#"<text x="{LEFT}" y="28" font-size="17" font-weight="600">{title}</text>"#));
    put(out, format_args!(r##"<text x="{LEFT}" y="48" fill="#555555">{subtitle}</text>"##));
    let mut x = LEFT;
    for line in &curve.lines {
        let (colour, name) = (FILLS[line.colour % FILLS.len()], escaped(&line.name));
        put(out, format_args!(r#"<rect x="{x:.1}" y="62" width="12" height="12" fill="{colour}"/>"#));
        put(out, format_args!(r#"<text x="{:.1}" y="73">{name}</text>"#, x + 18.0));
        x += 44.0 + 7.5 * f64::from(u32::try_from(line.name.chars().count()).unwrap_or(u32::MAX));
    }
}

fn axes(out: &mut String, curve: &Curve, scale: &Scale, step: f64) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let mut value = 0.0;
    while value <= scale.top + step / 2.0 {
        let (y, x) = (scale.y(value), LEFT - 8.0);
        let stroke = if value == 0.0 { "#222222" } else { "#dddddd" };
        put(
            out,
            format_args!(r#"<line x1="{LEFT}" y1="{y:.1}" x2="{right}" y2="{y:.1}" stroke="{stroke}"/>"#),
        );
        put(
            out,
            format_args!(r#"<text x="{x}" y="{:.1}" text-anchor="end">{}</text>"#, y + 4.5, number(value)),
        );
        value += step;
    }
    let mut at = 1_u32;
    while f64::from(at).log10() <= scale.ends.1 + 1e-9 {
        if f64::from(at).log10() >= scale.ends.0 - 1e-9 {
            let x = scale.x(at);
            put(
                out,
                format_args!(
                    r##"<line x1="{x:.1}" y1="{TOP}" x2="{x:.1}" y2="{bottom}" stroke="#eeeeee"/>"##
                ),
            );
            let (y, text) = (bottom + 20.0, thousands(at));
            put(out, format_args!(r#"<text x="{x:.1}" y="{y}" text-anchor="middle">{text}</text>"#));
        }
        let Some(next) = at.checked_mul(10) else { break };
        at = next;
    }
    let (middle, y) = (f64::midpoint(LEFT, right), bottom + 44.0);
    put(
        out,
        format_args!(r#"<text x="{middle}" y="{y}" text-anchor="middle">{}</text>"#, escaped(&curve.along)),
    );
    let middle = f64::midpoint(TOP, bottom);
    put(
        out,
        format_args!(
            r#"<text x="18" y="{middle}" text-anchor="middle" transform="rotate(-90 18 {middle})">{}</text>"#,
            escaped(&curve.axis)
        ),
    );
}

fn draw(out: &mut String, line: &Line, scale: &Scale) {
    let colour = FILLS[line.colour % FILLS.len()];
    let path: Vec<_> = line
        .points
        .iter()
        .map(|(at, value)| format!("{:.1},{:.1}", scale.x(*at), scale.y(value.median)))
        .collect();
    put(
        out,
        format_args!(
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2.5"/>"#,
            path.join(" ")
        ),
    );
    for (at, value) in &line.points {
        let (x, y) = (scale.x(*at), scale.y(value.median));
        let (low, high) = (scale.y(value.min), scale.y(value.max));
        put(out, format_args!(r#"<path d="M{x:.1} {low:.1}V{high:.1}" stroke="{colour}"/>"#));
        put(out, format_args!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="4" fill="{colour}"/>"#));
    }
}

#[cfg(test)]
mod tests {
    use super::{Curve, Line, svg};
    use crate::stats::Summary;

    fn curve(points: Vec<(u32, Summary)>) -> Curve {
        Curve {
            title: "Cost".to_owned(),
            subtitle: "a < b".to_owned(),
            axis: "ns".to_owned(),
            along: "routes".to_owned(),
            lines: vec![Line { name: "underpass".to_owned(), colour: 3, points }],
        }
    }

    #[test]
    fn decades_are_equally_far_apart_and_values_in_proportion() {
        let value = |median: f64| Summary { median, min: median, max: median };
        let svg = svg(&curve(vec![(10, value(100.0)), (1000, value(200.0)), (100_000, value(400.0))]));
        let line = svg.lines().find(|line| line.starts_with("<polyline")).expect("a line");
        let points: Vec<(f64, f64)> = line
            .split('"')
            .nth(1)
            .expect("points")
            .split(' ')
            .map(|point| {
                let (x, y) = point.split_once(',').expect("a point");
                (x.parse().expect("x"), y.parse().expect("y"))
            })
            .collect();
        assert!((points[1].0 - points[0].0 - (points[2].0 - points[1].0)).abs() < 0.2, "{points:?}");
        assert!((2.0 * (points[0].1 - points[1].1) - (points[1].1 - points[2].1)).abs() < 0.3, "{points:?}");
        assert!(svg.contains("a &lt; b") && svg.contains(">100,000<"));
    }

    #[test]
    fn a_curve_without_points_is_still_a_document() {
        let svg = svg(&curve(Vec::new()));
        assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
