//! Bars and lines as SVG text. Knows nothing of servers.
//!
//! Written here rather than with a plotting crate: those draw for one background, in colours that stand in every element, while these charts follow
//! the reader's light or dark page by a style element; and their text must be the same bytes for the same figures, so that a test can compare it.

use std::fmt::Write;

/// Colours by role; a page in an `img` element sees the reader's preference, too.
const STYLE: &str = "\
<style>
text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,'Liberation Sans',sans-serif;fill:#1f2937}
.head{font-weight:600}.note{fill:#64748b}.end{text-anchor:end}.middle{text-anchor:middle}
.bar{fill:#b4bfcd}.bar.own{fill:#2563eb}.limit{stroke:#dc2626;stroke-width:1.5;stroke-dasharray:4 3}.of-limit{fill:#dc2626}
.spread{stroke:#475569;stroke-width:1}.axis{stroke:#94a3b8;stroke-width:1}.grid{stroke:#e2e8f0;stroke-width:1}
.line{fill:none;stroke:#94a3b8;stroke-width:2}.line.own{stroke:#2563eb}.dot{fill:#94a3b8}.dot.own{fill:#2563eb}
@media(prefers-color-scheme:dark){
text{fill:#e5e7eb}.note{fill:#94a3b8}.bar{fill:#566375}.bar.own{fill:#60a5fa}.limit{stroke:#f87171}.of-limit{fill:#f87171}
.spread{stroke:#cbd5e1}.axis{stroke:#64748b}.grid{stroke:#334155}.line{stroke:#94a3b8}.line.own{stroke:#60a5fa}.dot.own{fill:#60a5fa}}
</style>
";

/// Bars below each other, with the limit as a line through them.
#[derive(Debug)]
pub struct Panel {
    /// What the bars are.
    pub head: String,
    /// The unit of the figures.
    pub unit: &'static str,
    /// The limit, where there is one.
    pub limit: Option<f64>,
    /// From top to bottom.
    pub bars: Vec<Bar>,
}

/// One bar.
#[derive(Debug)]
pub struct Bar {
    /// Whose it is.
    pub label: String,
    /// Its length.
    pub figure: f64,
    /// The least and the most that was seen.
    pub spread: (f64, f64),
    /// How the figure is written.
    pub text: String,
    /// Whether it is the gateway's.
    pub own: bool,
}

const PANEL_WIDTH: f64 = 446.0;
const LABEL_WIDTH: f64 = 168.0;
const BAR_WIDTH: f64 = 170.0;
const BAR_STEP: f64 = 23.0;
const HEAD_HEIGHT: f64 = 44.0;

/// Panels, two beside each other.
pub fn bars(panels: &[Panel]) -> String {
    let rows: Vec<&[Panel]> = panels.chunks(2).collect();
    let height_of = |row: &[Panel]| {
        let most = row.iter().map(|panel| panel.bars.len()).max().unwrap_or(0);
        HEAD_HEIGHT + most as f64 * BAR_STEP + 22.0
    };
    let height: f64 = rows.iter().map(|row| height_of(row)).sum();
    let mut svg = open(PANEL_WIDTH * 2.0, height);
    let mut top = 0.0;
    for row in rows {
        for (column, panel) in row.iter().enumerate() {
            draw_panel(&mut svg, panel, column as f64 * PANEL_WIDTH, top);
        }
        top += height_of(row);
    }
    svg + "</svg>\n"
}

fn draw_panel(svg: &mut String, panel: &Panel, left: f64, top: f64) {
    let most = panel.bars.iter().map(|bar| bar.figure).chain(panel.limit).fold(f64::MIN_POSITIVE, f64::max);
    let zero = left + LABEL_WIDTH;
    let x = |figure: f64| zero + (figure / most).min(1.04) * BAR_WIDTH;
    text(svg, left + 8.0, top + 18.0, "head", &panel.head);
    let first = top + HEAD_HEIGHT;
    let bottom = first + panel.bars.len() as f64 * BAR_STEP;
    for (index, bar) in panel.bars.iter().enumerate() {
        let y = first + index as f64 * BAR_STEP;
        let own = if bar.own { " own" } else { "" };
        text(svg, zero - 8.0, y + 14.0, if bar.own { "head end" } else { "end" }, &bar.label);
        let width = x(bar.figure) - zero;
        line(
            svg,
            &format!(
                r#"<rect class="bar{own}" x="{zero:.1}" y="{:.1}" width="{width:.1}" height="15" rx="2"/>"#,
                y + 2.0
            ),
        );
        if bar.spread.0 < bar.spread.1 {
            segment(svg, "spread", (x(bar.spread.0), y + 9.5), (x(bar.spread.1), y + 9.5));
        }
        text(svg, x(bar.figure.max(bar.spread.1)) + 6.0, y + 14.0, "", &bar.text);
    }
    if let Some(limit) = panel.limit {
        segment(svg, "limit", (x(limit), first - 4.0), (x(limit), bottom));
        let note = format!("the limit {} {}", super::short(limit), panel.unit);
        text(svg, x(limit) - 2.0, first - 9.0, "of-limit", &note);
    }
    segment(svg, "axis", (zero, first - 2.0), (zero, bottom));
}

/// Curves over one axis.
#[derive(Debug)]
pub struct Lines {
    /// What grows to the right.
    pub x_title: &'static str,
    /// What is measured.
    pub y_title: &'static str,
    /// Whether a step to the right is a factor.
    pub logarithmic: bool,
    /// The curves.
    pub series: Vec<Series>,
}

/// One curve.
#[derive(Debug)]
pub struct Series {
    /// Whose it is; written at its end.
    pub label: String,
    /// Whether it is the gateway's.
    pub own: bool,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 700.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 590.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 250.0;

/// Curves over an axis that begins at nothing.
pub fn lines(chart: &Lines) -> String {
    let points = || chart.series.iter().flat_map(|series| series.points.iter().copied());
    let scale = |x: f64| if chart.logarithmic { x.max(1.0).log10() } else { x };
    let least = points().map(|(x, _)| scale(x)).fold(f64::INFINITY, f64::min);
    let most = points().map(|(x, _)| scale(x)).fold(f64::NEG_INFINITY, f64::max);
    let step = tick_step(points().map(|(_, y)| y).fold(f64::MIN_POSITIVE, f64::max));
    let ticks = (points().map(|(_, y)| y).fold(0.0, f64::max) / step).ceil().max(1.0);
    let x_of =
        |x: f64| LEFT + 14.0 + (scale(x) - least) / (most - least).max(f64::MIN_POSITIVE) * (RIGHT - LEFT - 14.0);
    let y_of = |y: f64| BOTTOM - y / (ticks * step) * (BOTTOM - TOP);
    let mut svg = open(WIDTH, HEIGHT);
    text(&mut svg, 8.0, 18.0, "note", chart.y_title);
    for tick in 0..=ticks as usize {
        let value = tick as f64 * step;
        segment(&mut svg, if tick == 0 { "axis" } else { "grid" }, (LEFT, y_of(value)), (RIGHT, y_of(value)));
        text(&mut svg, LEFT - 8.0, y_of(value) + 4.0, "note end", &plain(value));
    }
    let mut marks: Vec<f64> = points().map(|(x, _)| x).collect();
    marks.sort_by(f64::total_cmp);
    marks.dedup();
    let mut free_from = f64::NEG_INFINITY;
    for mark in marks {
        segment(&mut svg, "axis", (x_of(mark), BOTTOM), (x_of(mark), BOTTOM + 4.0));
        // Where points are close, not every one has room for its number.
        if x_of(mark) >= free_from {
            text(&mut svg, x_of(mark), BOTTOM + 18.0, "note middle", &plain(mark));
            free_from = x_of(mark) + 44.0;
        }
    }
    text(&mut svg, f64::midpoint(LEFT, RIGHT), BOTTOM + 40.0, "note middle", chart.x_title);
    let mut ends = Vec::new();
    for series in &chart.series {
        let own = if series.own { " own" } else { "" };
        let path: Vec<String> = series.points.iter().map(|(x, y)| format!("{:.1},{:.1}", x_of(*x), y_of(*y))).collect();
        line(&mut svg, &format!(r#"<polyline class="line{own}" points="{}"/>"#, path.join(" ")));
        for (x, y) in &series.points {
            line(&mut svg, &format!(r#"<circle class="dot{own}" cx="{:.1}" cy="{:.1}" r="3"/>"#, x_of(*x), y_of(*y)));
        }
        if let Some((x, y)) = series.points.last() {
            ends.push((y_of(*y), x_of(*x), series));
        }
    }
    // Names at the ends of curves that run together are set below each other.
    ends.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut free_from = f64::NEG_INFINITY;
    for (y, x, series) in ends {
        let y = y.max(free_from);
        text(&mut svg, x + 10.0, y + 4.0, if series.own { "head" } else { "note" }, &series.label);
        free_from = y + 15.0;
    }
    svg + "</svg>\n"
}

/// A step of 1, 2 or 5 times a power of ten that gives four to eight ticks.
fn tick_step(most: f64) -> f64 {
    let power = 10_f64.powf((most / 4.0).log10().floor());
    [5.0, 2.0, 1.0].into_iter().map(|factor| factor * power).find(|step| most / step >= 4.0).unwrap_or(power)
}

fn plain(value: f64) -> String {
    if value.fract().abs() < 1e-9 { super::grouped(value as i64) } else { format!("{value:.1}") }
}

fn open(width: f64, height: f64) -> String {
    let size = format!(r#"viewBox="0 0 {width} {height}" width="{width}" height="{height}""#);
    format!("<svg xmlns=\"http://www.w3.org/2000/svg\" {size}>\n{STYLE}")
}

fn line(svg: &mut String, element: &str) {
    svg.push_str(element);
    svg.push('\n');
}

fn text(svg: &mut String, x: f64, y: f64, class: &str, content: &str) {
    let content = content.replace('&', "&amp;").replace('<', "&lt;");
    // Writing to a string does not fail.
    let _ = writeln!(svg, r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{content}</text>"#);
}

fn segment(svg: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        svg,
        r#"<line class="{class}" x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}"/>"#,
        from.0, from.1, to.0, to.1
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        for most in [0.3, 1.0, 4.9, 7.0, 23.0, 180.0, 9_999.0] {
            let count = (most / tick_step(most)).ceil();
            assert!((4.0..=10.0).contains(&count), "{count} ticks to {most}");
        }
    }

    #[test]
    fn texts_of_others_do_not_become_elements() {
        let bar = Bar { label: "a<b&c".to_owned(), figure: 1.0, spread: (1.0, 1.0), text: "1".to_owned(), own: true };
        let svg = bars(&[Panel { head: "h".to_owned(), unit: "µs", limit: Some(0.5), bars: vec![bar] }]);
        assert!(svg.contains("a&lt;b&amp;c") && svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }
}
