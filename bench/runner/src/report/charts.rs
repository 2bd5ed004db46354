//! Which charts there are, and from which rows. How they are drawn stands in `chart`.

use super::chart::{Bar, Lines, Panel, Series, bars, lines};
use super::{Rows, Shown, short};
use crate::contenders::Contender;
use crate::plan::{Block, Figure, LIMIT, ROOMCAST};

/// All charts for which there are figures, by their names.
pub fn all(rows: &Rows) -> Vec<(&'static str, String)> {
    let panels = |ids: &[&str]| -> Vec<Panel> { ids.iter().filter_map(|id| rows.named(id)).map(panel).collect() };
    let mut charts = Vec::new();
    let sets = [
        ("overview", panels(&["idle", "connect", "fan-out-1", "ack"])),
        ("fan-out", panels(&["fan-out-1", "many-rooms", "fan-out-8", "fan-out-10000-8"])),
        ("polling", panels(&["polling-fan-out", "polling-ack"])),
    ];
    for (name, panels) in sets {
        if !panels.is_empty() {
            charts.push((name, bars(&panels)));
        }
    }
    let curves = [
        ("members", Block::Members, "members of the room"),
        ("rooms", Block::Rooms, "rooms, of 10 members each"),
        ("connections", Block::Connections, "connections, of which 1,000 are members"),
    ];
    for (name, block, x_title) in curves {
        charts.extend(curve(&rows.of_block(block), x_title).map(|chart| (name, chart)));
    }
    charts.extend(cycles(rows).map(|chart| ("cycles", chart)));
    charts
}

/// The contenders of a row, the least figure first; the limit as a line.
fn panel(shown: &Shown) -> Panel {
    let unit = shown.row.figure.unit();
    let of_limit = |contender: &Contender| contender.server.is_limit();
    let bar = |contender: &Contender| {
        let cell = shown.cells.get(contender)?;
        let mut text = format!("{} {unit}", short(cell.figures.median));
        if let Some(ratio) =
            cell.ratios.filter(|_| shown.row.figure == Figure::Cpu && shown.row.base != Some(*contender))
        {
            text.push_str(&format!(" ×{}", short(ratio.median)));
        }
        let spread = (cell.figures.least, cell.figures.most);
        let own = contender.server == ROOMCAST.server;
        Some(Bar { label: contender.label(), figure: cell.figures.median, spread, text, own })
    };
    let mut bars: Vec<Bar> =
        shown.row.contenders.iter().filter(|contender| !of_limit(contender)).filter_map(bar).collect();
    bars.sort_by(|one, other| one.figure.total_cmp(&other.figure));
    let limit = shown.row.base.filter(of_limit).and_then(|base| shown.cells.get(&base)).map(|cell| cell.figures.median);
    Panel { head: shown.row.title.clone(), unit, limit, bars }
}

fn curve(rows: &[&Shown], x_title: &'static str) -> Option<String> {
    let series = |contender: Contender| {
        let point = |shown: &&Shown| Some((shown.row.x?, shown.cells.get(&contender)?.figures.median));
        let points: Vec<(f64, f64)> = rows.iter().filter_map(point).collect();
        (points.len() > 1).then(|| Series { label: contender.label(), own: contender == ROOMCAST, points })
    };
    let series: Vec<Series> = [ROOMCAST, LIMIT].into_iter().filter_map(series).collect();
    let y_title = "server's CPU for a delivery, µs";
    (!series.is_empty()).then(|| lines(&Lines { x_title, y_title, logarithmic: true, series }))
}

fn cycles(rows: &Rows) -> Option<String> {
    let load = rows.named("cycles")?.cells.get(&ROOMCAST)?.loads.last()?;
    let points = load.cycles.as_ref()?.iter().enumerate();
    let points: Vec<(f64, f64)> =
        points.map(|(index, cycle)| ((index + 1) as f64, cycle.resident_kib / 1024.0)).collect();
    let series = vec![Series { label: ROOMCAST.label(), own: true, points }];
    let y_title = "resident memory after everybody has left, MiB";
    Some(lines(&Lines { x_title: "crowds that came and left", y_title, logarithmic: false, series }))
}
