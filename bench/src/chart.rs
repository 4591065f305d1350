//! Grouped bars with range whiskers as SVG. Pure.

use std::fmt::Write as _;

use crate::stats::Summary;

/// A bar chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Headline.
    pub title: String,
    /// Line below the headline.
    pub subtitle: String,
    /// What the vertical axis counts, with its unit.
    pub axis: String,
    /// Names of the bars within a group, for the legend.
    pub series: Vec<String>,
    /// The groups from left to right.
    pub groups: Vec<Group>,
}

/// A group of bars.
#[derive(Clone, Debug)]
pub struct Group {
    /// Label below the group.
    pub label: String,
    /// One bar per series (its height is the median, its whisker the range), or a gap.
    pub bars: Vec<Option<Summary>>,
}

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 96.0;
const BOTTOM: f64 = 44.0;
/// Fills of the series, told apart also without colour vision (Okabe and Ito).
pub const FILLS: [&str; 6] = ["#8c8c8c", "#e69f00", "#cc79a7", "#0072b2", "#56b4e9", "#cccccc"];

/// The chart as an SVG document. Text and background have fixed colours, so that it reads on a dark page too.
pub fn svg(chart: &Chart) -> String {
    let highest =
        chart.groups.iter().flat_map(|group| &group.bars).flatten().map(|bar| bar.max).fold(0.0, f64::max);
    let step = tick_step(highest);
    let top = (highest / step).ceil().max(1.0) * step;
    let mut out = Svg { text: String::new(), top };
    out.head(chart);
    out.axis(chart, step);
    let slot = (WIDTH - LEFT - RIGHT) / count(chart.groups.len());
    for (index, group) in chart.groups.iter().enumerate() {
        out.group(group, count_from(index) * slot + LEFT, slot);
    }
    out.text.push_str("</svg>\n");
    out.text
}

struct Svg {
    text: String,
    /// Value at the upper end of the vertical axis.
    top: f64,
}

impl Svg {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{line}");
    }

    /// Vertical position of a value.
    fn y(&self, value: f64) -> f64 {
        let bottom = HEIGHT - BOTTOM;
        bottom - (bottom - TOP) * value / self.top
    }

    fn head(&mut self, chart: &Chart) {
        let title = escaped(&chart.title);
        self.line(format_args!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{title}" font-family="system-ui, sans-serif" font-size="13" fill="#222222">"##
        ));
        self.line(format_args!(r##"<rect width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#ffffff"/>"##));
        self.line(format_args!(r#"<text x="{LEFT}" y="28" font-size="17" font-weight="600">{title}</text>"#));
        let subtitle = escaped(&chart.subtitle);
        self.line(format_args!(r##"<text x="{LEFT}" y="48" fill="#555555">{subtitle}</text>"##));
        let mut x = LEFT;
        for (name, fill) in chart.series.iter().zip(FILLS.iter().cycle()) {
            self.line(format_args!(r#"<rect x="{x:.1}" y="62" width="12" height="12" fill="{fill}"/>"#));
            self.line(format_args!(r#"<text x="{:.1}" y="73">{}</text>"#, x + 18.0, escaped(name)));
            x += 44.0 + 7.5 * count_from(name.chars().count());
        }
    }

    fn axis(&mut self, chart: &Chart, step: f64) {
        let right = WIDTH - RIGHT;
        let mut value = 0.0;
        while value <= self.top + step / 2.0 {
            let y = self.y(value);
            let stroke = if value == 0.0 { "#222222" } else { "#dddddd" };
            self.line(format_args!(
                r#"<line x1="{LEFT}" y1="{y:.1}" x2="{right}" y2="{y:.1}" stroke="{stroke}"/>"#
            ));
            let (x, baseline) = (LEFT - 8.0, y + 4.5);
            self.line(format_args!(
                r#"<text x="{x}" y="{baseline:.1}" text-anchor="end">{}</text>"#,
                number(value)
            ));
            value += step;
        }
        let middle = f64::midpoint(TOP, HEIGHT - BOTTOM);
        self.line(format_args!(
            r#"<text x="18" y="{middle}" text-anchor="middle" transform="rotate(-90 18 {middle})">{}</text>"#,
            escaped(&chart.axis)
        ));
    }

    fn group(&mut self, group: &Group, x: f64, width: f64) {
        let bar_width = width * 0.76 / count(group.bars.len());
        let first = x + width * 0.12;
        let base = self.y(0.0);
        for (index, (bar, fill)) in group.bars.iter().zip(FILLS.iter().cycle()).enumerate() {
            let Some(bar) = bar else { continue };
            let left = first + count_from(index) * bar_width;
            let (middle, inner) = (left + bar_width / 2.0, bar_width * 0.84);
            let (median, low, high) = (self.y(bar.median), self.y(bar.min), self.y(bar.max));
            self.line(format_args!(
                r#"<rect x="{:.1}" y="{median:.1}" width="{inner:.1}" height="{:.1}" fill="{fill}"/>"#,
                middle - inner / 2.0,
                base - median
            ));
            let (cap_left, cap_right) = (middle - 5.0, middle + 5.0);
            self.line(format_args!(
                r##"<path d="M{middle:.1} {low:.1}V{high:.1}M{cap_left:.1} {low:.1}H{cap_right:.1}M{cap_left:.1} {high:.1}H{cap_right:.1}" stroke="#222222" fill="none"/>"##
            ));
            self.line(format_args!(
                r#"<text x="{middle:.1}" y="{:.1}" text-anchor="middle" font-size="10" font-weight="600">{}</text>"#,
                high - 6.0,
                number(bar.median)
            ));
        }
        self.line(format_args!(
            r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            x + width / 2.0,
            HEIGHT - BOTTOM + 22.0,
            escaped(&group.label)
        ));
    }
}

/// Distance between grid lines: 1, 2 or 5 times a power of ten, for four to nine lines up to `highest`.
pub fn tick_step(highest: f64) -> f64 {
    if highest <= 0.0 {
        return 1.0;
    }
    let power = 10.0_f64.powf((highest / 4.0).log10().floor());
    let units = highest / 4.0 / power;
    power
        * if units >= 5.0 {
            5.0
        } else if units >= 2.0 {
            2.0
        } else {
            1.0
        }
}

/// Whole numbers without decimals, small fractions with two.
pub fn number(value: f64) -> String {
    if value >= 10.0 || value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// A number of things to divide by: at least 1.
fn count(things: usize) -> f64 {
    count_from(things.max(1))
}

fn count_from(things: usize) -> f64 {
    f64::from(u32::try_from(things).unwrap_or(u32::MAX))
}

pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::{Chart, Group, svg, tick_step};
    use crate::stats::Summary;

    fn bars(medians: [Option<f64>; 3]) -> Vec<Option<Summary>> {
        let bar = |median: f64| Summary { median, min: median * 0.9, max: median * 1.25 };
        medians.map(|median| median.map(bar)).to_vec()
    }

    fn chart() -> Chart {
        Chart {
            title: "Nanoseconds per packet".to_owned(),
            subtitle: "less is better <here> & \"now\"".to_owned(),
            axis: "ns".to_owned(),
            series: ["kernel", "fib-helper", "underpass"].map(str::to_owned).to_vec(),
            groups: vec![
                Group {
                    label: "100 routes".to_owned(),
                    bars: bars([Some(1360.0), Some(600.0), Some(400.0)]),
                },
                Group { label: "10,000 routes".to_owned(), bars: bars([Some(1700.0), None, Some(800.0)]) },
            ],
        }
    }

    /// Values of an attribute over all elements of a kind.
    fn attributes(svg: &str, element: &str, name: &str) -> Vec<f64> {
        let start = format!("<{element} ");
        let key = format!(" {name}=\"");
        svg.lines()
            .filter(|line| line.starts_with(&start))
            .filter_map(|line| line.split_once(&key)?.1.split_once('"')?.0.parse().ok())
            .collect()
    }

    #[test]
    fn bars_are_in_proportion() {
        let svg = svg(&chart());
        // Background, three legend marks, five bars.
        let heights = attributes(&svg, "rect", "height").split_off(4);
        assert_eq!(heights.len(), 5);
        for (height, value) in heights.iter().zip([1360.0, 600.0, 400.0, 1700.0, 800.0]) {
            let scale = heights[0] / 1360.0;
            assert!((height - value * scale).abs() < 0.2, "bar of {value} is {height} high");
        }
    }

    #[test]
    fn everything_stays_inside() {
        let svg = svg(&chart());
        for (element, name, limit) in
            [("rect", "x", 1000.0), ("rect", "y", 420.0), ("text", "x", 1000.0), ("text", "y", 420.0)]
        {
            for value in attributes(&svg, element, name) {
                assert!((0.0..=limit).contains(&value), "{element} {name}={value}");
            }
        }
    }

    #[test]
    fn text_is_escaped() {
        let svg = svg(&chart());
        assert!(svg.contains("less is better &lt;here&gt; &amp; &quot;now&quot;"));
        assert_eq!(svg.matches("<svg").count(), 1);
        assert!(svg.ends_with("</svg>\n"));
    }

    #[test]
    fn a_chart_without_values_is_still_a_chart() {
        let mut empty = chart();
        empty.groups.clear();
        let svg = svg(&empty);
        assert!(svg.contains("</svg>") && !svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn grid_lines() {
        for (highest, step) in [(1700.0, 200.0), (2000.0, 500.0), (40.0, 10.0), (0.9, 0.2), (0.0, 1.0)] {
            assert!((tick_step(highest) - step).abs() < 1e-9, "{highest}: {}", tick_step(highest));
        }
    }
}
