//! Draws how cost grows: `docs/growth.svg`.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::candidate::{FLOCK, FLOCK_STYLE, FLOCK_STYLE_INTERRUPTS, LINK, LOCK_FILE, LOCK_FILE_INTERRUPTS};
use crate::results::Results;
use crate::{crowd, many};

const LINES: [(&str, RGBColor); 6] = [
    (FLOCK, RGBColor(150, 150, 150)),
    (FLOCK_STYLE, RGBColor(0, 110, 180)),
    (FLOCK_STYLE_INTERRUPTS, RGBColor(90, 190, 230)),
    (LINK, RGBColor(210, 170, 120)),
    (LOCK_FILE, RGBColor(200, 60, 20)),
    (LOCK_FILE_INTERRUPTS, RGBColor(240, 130, 90)),
];

/// A line's name, its colour and its points.
type Line<'a> = (&'a str, RGBColor, Vec<(f64, f64)>);

pub(crate) fn draw(path: &Path, results: &Results) -> crate::Result<()> {
    let root = SVGBackend::new(path, (1000, 760)).into_drawing_area();
    root.fill(&WHITE)?;
    let panels = root.split_evenly((2, 2));
    let growth = |number: &str, unit: f64| -> Vec<Line<'_>> {
        LINES
            .into_iter()
            .map(|(name, colour)| {
                let rows = results.rows(crowd::GROWTH).iter().filter(|row| row.candidate == name);
                let point = |row: &crate::row::Row| {
                    Some((row.case.parse().ok()?, row.numbers.get(number).map(|value| value / unit)?))
                };
                (name, colour, rows.filter_map(point).filter(|(_, y)| *y > 0.0).collect())
            })
            .collect()
    };
    chart(&panels[0], "grants a second, by processes", &growth("grantsPerSecond", 1.0))?;
    chart(&panels[1], "hand-off p50 in µs, by processes", &growth("handOffP50ns", 1e3))?;
    chart(&panels[2], "longest wait in ms, by processes", &growth("longestWaitMs", 1.0))?;
    let locks: Vec<Line<'_>> = [(many::ONE, LINES[3].1), (many::SPREAD, LINES[1].1)]
        .into_iter()
        .map(|(case, colour)| {
            let rows = results.rows(many::TOPIC).iter();
            let point = |row: &crate::row::Row| {
                let (found, count) = row.case.split_once(", ")?;
                (found == case).then_some(())?;
                Some((count.parse().ok()?, row.numbers.get("lastP50ns")? / 1e3))
            };
            (case, colour, rows.filter_map(point).collect())
        })
        .collect();
    chart(&panels[3], "acquire + release p50 in µs, by locks of the process", &locks)?;
    root.present()?;
    Ok(())
}

fn chart(area: &DrawingArea<SVGBackend<'_>, Shift>, title: &str, lines: &[Line<'_>]) -> crate::Result<()> {
    let points = || lines.iter().flat_map(|(.., points)| points);
    let most = |of: fn(&(f64, f64)) -> f64| points().map(of).fold(1.0, f64::max);
    let least = points().map(|point| point.1).fold(f64::MAX, f64::min).min(1e9);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(28)
        .y_label_area_size(60)
        .build_cartesian_2d(
            (1.0..most(|point| point.0).max(2.0)).log_scale(),
            ((least / 2.0).max(0.001)..most(|point| point.1) * 2.0).log_scale(),
        )?;
    chart.configure_mesh().x_labels(9).y_labels(6).light_line_style(WHITE).draw()?;
    for (name, colour, points) in lines {
        let style = colour.stroke_width(2);
        let drawn = chart.draw_series(LineSeries::new(points.iter().copied(), style))?.label(*name);
        drawn.legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerLeft)
        .label_font(("sans-serif", 11))
        .background_style(WHITE.mix(0.8))
        .draw()?;
    Ok(())
}
