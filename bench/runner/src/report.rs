//! Turns kept runs into the tables of `docs/performance.md` and the README and into charts. Measures nothing; the same runs give the same bytes.

mod chart;
mod charts;
mod tables;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context;

use crate::contenders::Contender;
use crate::plan::{Block, Figure, Row};
use crate::results::{Load, Measurement, Run};
use crate::statistics::{Rounds, Spread, paired};

pub use tables::of as tables_of;

/// The page whose tables are written, and which says from which runs.
const PAGE: &str = "docs/performance.md";

/// Where its charts stand.
const CHARTS: &str = "docs/performance";

/// Pages with tables between markers.
const PAGES: [&str; 2] = [PAGE, "README.md"];

/// Before a table: `<!-- table NAME -->`.
const TABLE: &str = "<!-- table ";

/// Behind a table.
const END: &str = "<!-- end of table -->";

/// Before the names of the runs, in the page.
const RUNS: &str = "<!-- runs:";

/// The figure of a row in what the load generator said.
pub fn figure(figure: Figure, load: &Load) -> Option<f64> {
    match figure {
        Figure::Cpu => load.server.as_ref()?.cpu_micros_per_unit,
        Figure::Memory => load.server.as_ref()?.kib_per_unit,
        Figure::Cycles => load.cycles.as_ref()?.last().map(|cycle| cycle.resident_kib),
        Figure::Throughput => Some(load.events? / load.seconds),
        Figure::Latency => load.latency_micros.as_ref()?.get("p99").map(|micros| micros / 1000.0),
        Figure::Storm => load.storm.as_ref().map(|storm| storm.all_back_seconds),
    }
}

/// Writes all tables and charts of these runs, whose names the page keeps.
pub fn write(root: &Path, names: &[String]) -> anyhow::Result<()> {
    let page = root.join(PAGE);
    let text = fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    let begin = text.find(RUNS).with_context(|| format!("{PAGE} has no `{RUNS}`"))? + RUNS.len();
    let end = begin + text[begin..].find(" -->").with_context(|| format!("{PAGE}: `{RUNS}` has no end"))?;
    fs::write(&page, format!("{} {}{}", &text[..begin], names.join(" "), &text[end..]))?;
    for (path, text) in pages(root)? {
        let path = root.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Every page and chart as the runs that the page names give it, by its path.
fn pages(root: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(root.join(PAGE))?;
    let names = text.split(RUNS).nth(1).and_then(|text| text.split(" -->").next()).unwrap_or_default();
    let runs: Vec<Run> =
        names.split_whitespace().map(|name| Run::read(&root.join(name))).collect::<anyhow::Result<_>>()?;
    let rows = Rows::of(&runs)?;
    let mut pages = BTreeMap::new();
    for page in PAGES {
        let text = fs::read_to_string(root.join(page)).with_context(|| format!("cannot read {page}"))?;
        pages.insert(page.to_owned(), with_tables(&text, |name| tables::named(name, &rows, &runs))?);
    }
    for (name, chart) in charts::all(&rows) {
        pages.insert(format!("{CHARTS}/{name}.svg"), chart);
    }
    Ok(pages)
}

/// The text with everything between markers replaced by the table of that name.
fn with_tables(text: &str, table: impl Fn(&str) -> anyhow::Result<String>) -> anyhow::Result<String> {
    let mut written = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(TABLE) {
        let name_begin = at + TABLE.len();
        let name_end = name_begin + rest[name_begin..].find(" -->").context("a marker without an end")?;
        let name = &rest[name_begin..name_end];
        let end = rest[name_end..].find(END).with_context(|| format!("table `{name}` has no `{END}`"))?;
        written.push_str(&rest[..name_end]);
        let table = table(name)?;
        match table.trim_end() {
            "" => written.push_str(" -->\n"),
            table => written.push_str(&format!(" -->\n\n{table}\n\n")),
        }
        rest = &rest[name_end + end..];
    }
    Ok(written + rest)
}

/// The rows of the plan for which there are figures.
#[derive(Debug)]
pub struct Rows(Vec<Shown>);

/// A row with its figures.
#[derive(Debug)]
pub struct Shown {
    /// As planned.
    pub row: Row,
    /// Who has figures.
    pub cells: BTreeMap<Contender, Cell>,
    /// Who was to have one and has none, and in how many rounds.
    pub failures: BTreeMap<Contender, usize>,
}

/// What one contender reached in one row.
#[derive(Debug)]
pub struct Cell {
    /// Its figures of all rounds.
    pub figures: Spread,
    /// The same over the base's of the same round.
    pub ratios: Option<Spread>,
    /// What went wrong, over all rounds, by kind.
    pub faults: BTreeMap<String, u64>,
    /// What the load generator said, round by round.
    pub loads: Vec<Load>,
}

impl Rows {
    /// Each row from the last run that has it, and from the other runs of the same programs: a block that was run again after a change
    /// replaces what was there, and more rounds of the same go beside it.
    fn of(runs: &[Run]) -> anyhow::Result<Self> {
        let mut shown = Vec::new();
        for row in crate::plan::rows(false) {
            let of_row = |run: &&Run| run.measurements.iter().any(|measurement| measurement.row == row.id);
            let Some(last) = runs.iter().rev().find(of_row) else { continue };
            let alike: Vec<&Run> =
                runs.iter().filter(|run| (&run.commit, run.quick) == (&last.commit, last.quick)).collect();
            let (mut cells, mut failures) = (BTreeMap::new(), BTreeMap::new());
            let base = row.base.map(|base| rounds(&alike, &row, &base)).transpose()?.unwrap_or_default();
            for contender in &row.contenders {
                let figures = rounds(&alike, &row, contender)?;
                let tried = of_both(&alike, &row, contender).count();
                if tried > figures.len() {
                    failures.insert(*contender, tried - figures.len());
                }
                let Some(spread) = Spread::of(figures.values().copied()) else { continue };
                let loads = loads(&alike, &row, contender)?;
                let mut faults = BTreeMap::new();
                for (kind, count) in loads.iter().flat_map(|load| &load.faults).filter(|(_, count)| **count > 0) {
                    *faults.entry(kind.clone()).or_default() += count;
                }
                cells.insert(*contender, Cell { figures: spread, ratios: paired(&figures, &base), faults, loads });
            }
            shown.push(Shown { row, cells, failures });
        }
        Ok(Self(shown))
    }

    /// Those of a block.
    fn of_block(&self, block: Block) -> Vec<&Shown> {
        self.0.iter().filter(|shown| shown.row.block == block).collect()
    }

    /// One by its name.
    fn named(&self, id: &str) -> Option<&Shown> {
        self.0.iter().find(|shown| shown.row.id == id)
    }
}

/// What was measured of a contender in a row, by the number of the run and the round.
fn of_both<'a>(
    runs: &'a [&Run],
    row: &'a Row,
    contender: &Contender,
) -> impl Iterator<Item = ((usize, usize), &'a Measurement)> {
    let key = contender.key();
    let of_run = move |(run, kept): (usize, &&'a Run)| {
        let measurements = kept.measurements.iter();
        measurements.map(move |measurement| ((run, measurement.round), measurement)).collect::<Vec<_>>()
    };
    let measurements = runs.iter().enumerate().flat_map(of_run);
    measurements.filter(move |(_, measurement)| measurement.row == row.id && measurement.contender == key)
}

fn rounds(runs: &[&Run], row: &Row, contender: &Contender) -> anyhow::Result<Rounds> {
    let mut rounds = Rounds::new();
    for (round, measurement) in of_both(runs, row, contender) {
        if let Some(load) = measurement.figures()?
            && let Some(figure) = figure(row.figure, &load)
        {
            rounds.insert(round, figure);
        }
    }
    Ok(rounds)
}

fn loads(runs: &[&Run], row: &Row, contender: &Contender) -> anyhow::Result<Vec<Load>> {
    let mut loads = Vec::new();
    for (_, measurement) in of_both(runs, row, contender) {
        loads.extend(measurement.figures()?);
    }
    Ok(loads)
}

/// A figure with as many digits as it is worth.
fn short(figure: f64) -> String {
    match figure.abs() {
        size if size < 10.0 => format!("{figure:.2}"),
        size if size < 100.0 => format!("{figure:.1}"),
        _ => grouped(figure.round() as i64),
    }
}

/// A whole number with its thousands apart.
fn grouped(number: i64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    #[test]
    fn pages_and_charts_are_those_of_the_kept_runs() {
        for (path, expected) in pages(&root()).expect("the runs can be read") {
            let found = fs::read_to_string(root().join(&path)).unwrap_or_default();
            assert!(found == expected, "{path} is stale: `cargo run -p roomcast-bench -- report RUN.json ...`");
        }
    }

    #[test]
    fn a_table_stands_between_its_markers_and_prose_stays() {
        let text = "before\n<!-- table one -->\nold\n<!-- end of table -->\nbetween <!-- table two --><!-- end of table --> after";
        let written = with_tables(text, |name| Ok(format!("[{name}]\n"))).expect("markers are whole");
        let expected = "before\n<!-- table one -->\n\n[one]\n\n<!-- end of table -->\nbetween <!-- table two -->\n\n[two]\n\n<!-- end of table --> after";
        assert_eq!(written, expected);
        assert!(with_tables("<!-- table one -->", |_| Ok(String::new())).is_err());
    }

    #[test]
    fn figures_have_the_digits_that_they_are_worth() {
        for (figure, expected) in
            [(1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (12_345.6, "12,346"), (1e6, "1,000,000")]
        {
            assert_eq!(short(figure), expected);
        }
    }
}
