//! The bars of a history as an SVG image.

use std::fmt::Write as _;

use super::chart::{Chart, Part, Span};
use super::row::date;

/// The width of a name's column and of the bars, the height of a line, and the distance of everything from the edges, in
/// pixels.
const NAMES: f64 = 180.0;
const BARS: f64 = 720.0;
const LINE: f64 = 24.0;
const EDGE: f64 = 12.0;
/// The least width of a bar that is still visible.
const LEAST: f64 = 2.0;
/// The longest name that fits its column.
const NAME_LENGTH: usize = 26;

/// Renders the image. Names come from other programs: they are escaped.
pub(super) fn render(target: &str, chart: &Chart) -> String {
    let top = EDGE + LINE;
    let bottom = top + LINE * chart.lines.len() as f64;
    let (width, height) = (NAMES + BARS + 2.0 * EDGE, bottom + 2.0 * LINE + EDGE);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    text(&mut out, EDGE, EDGE + 12.0, "start", &format!("The holders of {target}"));
    for (at, (name, spans)) in chart.lines.iter().enumerate() {
        let y = top + LINE * at as f64;
        text(&mut out, EDGE, y + 16.0, "start", &shortened(name));
        let mut spans: Vec<&Span> = spans.iter().collect();
        spans.sort_by_key(|span| span.part);
        for span in spans {
            let x = EDGE + NAMES + BARS * chart.place(span.from);
            let wide = (BARS * (chart.place(span.until) - chart.place(span.from))).max(LEAST);
            let _ = writeln!(
                out,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{wide:.1}\" height=\"{:.1}\" fill=\"{}\"><title>{}: {}, {} to {}</title></rect>",
                x.min(EDGE + NAMES + BARS - wide),
                y + 4.0,
                LINE - 8.0,
                color(span.part),
                escaped(name),
                span.part.words(),
                date(span.from),
                date(span.until),
            );
        }
    }
    text(&mut out, EDGE + NAMES, bottom + 16.0, "start", &date(chart.from));
    text(&mut out, EDGE + NAMES + BARS, bottom + 16.0, "end", &date(chart.until));
    let parts = [Part::Held, Part::Waited, Part::GaveUp, Part::Crashed, Part::Died];
    for (at, part) in parts.into_iter().enumerate() {
        let x = EDGE + NAMES + 140.0 * at as f64;
        let y = bottom + LINE;
        let _ =
            writeln!(out, "<rect x=\"{x}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{}\"/>", y + 6.0, color(part));
        text(&mut out, x + 18.0, y + 16.0, "start", part.words());
    }
    out + "</svg>\n"
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let _ = writeln!(out, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{}</text>", escaped(words));
}

fn color(part: Part) -> &'static str {
    match part {
        Part::Waited => "#d0d7de",
        Part::Died => "#f5c2c7",
        Part::Held => "#2da44e",
        Part::GaveUp => "#bf8700",
        Part::Crashed => "#cf222e",
    }
}

fn shortened(name: &str) -> String {
    match name.chars().count() <= NAME_LENGTH {
        true => name.to_owned(),
        false => name.chars().take(NAME_LENGTH - 1).chain(['…']).collect(),
    }
}

/// Escapes a text for XML. Control characters, which XML 1.0 forbids, were escaped before.
fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(c),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::history::chart::tests::rows;

    #[test]
    fn hostile_names_stay_text() {
        let mut rows = rows();
        rows[0].label = Some("</text><script>alert(\"1\")</script>&\u{1b}\u{ffff}".to_owned());
        let image = render("a<b>&", &Chart::new(&rows));
        assert!(!image.contains("<script") && !image.contains('\u{1b}') && image.contains("&lt;/text&gt;"), "{image}");
        assert!(image.contains("The holders of a&lt;b&gt;&amp;"));
        assert_eq!(image.matches("<text").count(), image.matches("</text>").count());
        assert!(image.starts_with("<svg ") && image.ends_with("</svg>\n"));
        // The bars of the rows, their parts, the background and the legend.
        assert_eq!(image.matches("<rect").count(), 1 + 5 + (1 + 3 + 2 + 2));
    }
}
