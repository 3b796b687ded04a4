//! Simulations as SVG: a panel for each scenario, readable on light and on dark backgrounds.

use plotters::coord::Shift;
use plotters::prelude::*;
use terminal::thousands;

use crate::simulate::{Arm, IspSummary, Scenario, Summary};

/// A plot could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("the plot cannot be drawn: {0}")]
pub struct PlotError(String);

/// Pixels of one panel.
const PANEL: (u32, u32) = (420, 340);
/// Pixels of the legend below.
const LEGEND: u32 = 56;

/// Colours by their role. They are replaced by classes of the style sheet, which has light and dark variants.
const INK: RGBColor = RGBColor(1, 2, 3);
const FAINT: RGBColor = RGBColor(4, 5, 6);
const LINES: [RGBColor; 4] = [RGBColor(7, 8, 9), RGBColor(10, 11, 12), RGBColor(13, 14, 15), RGBColor(16, 17, 18)];

/// The colours on light and on dark backgrounds, by the colour that stands for them: distinguishable without red-green vision,
/// and by their brightness (after Okabe and Ito, "Color Universal Design").
const GROUNDS: [(RGBColor, &str, &str); 6] = [
    (INK, "#24292f", "#e6edf3"),
    (FAINT, "#d8dee4", "#30363d"),
    (LINES[0], "#007a5a", "#2fc79a"),
    (LINES[1], "#c44e00", "#ff9248"),
    (LINES[2], "#0072b2", "#6cb8f0"),
    (LINES[3], "#8c959f", "#7d8590"),
];

/// The daily volumes of all arms at the most instructive ISP of each scenario: medians, on a logarithmic scale.
///
/// # Errors
///
/// The drawing library refused.
pub fn svg(summary: &Summary) -> Result<String, PlotError> {
    let mut text = String::new();
    let panels = u32::try_from(summary.scenarios.len()).unwrap_or(1).max(1);
    draw(summary, &mut text, (PANEL.0 * panels, PANEL.1 + LEGEND)).map_err(|error| PlotError(error.to_string()))?;
    Ok(themed(&text))
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn draw(summary: &Summary, text: &mut String, size: (u32, u32)) -> Outcome {
    let root = SVGBackend::with_string(text, size).into_drawing_area();
    let (panels, legend) = root.split_vertically(PANEL.1);
    let panels = panels.split_evenly((1, summary.scenarios.len().max(1)));
    for (scenario, area) in summary.scenarios.iter().zip(&panels) {
        let known = Scenario::ALL.into_iter().find(|known| known.name() == scenario.scenario);
        let main = known.map(Scenario::main_isp);
        if let Some(isp) = scenario.isps.iter().find(|isp| Some(isp.isp) == main) {
            panel(summary, scenario.scenario, isp, area)?;
        }
    }
    legends(summary, &legend)?;
    root.present()?;
    Ok(())
}

fn font(size: f64) -> TextStyle<'static> {
    TextStyle::from(("sans-serif", size).into_font()).color(&INK)
}

fn panel(summary: &Summary, scenario: &str, isp: &IspSummary, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Outcome {
    let title = format!("{scenario}: {} ({})", isp.isp, isp.temper);
    let top = summary.target.max(10) as f64 * 2.0;
    let mut chart = ChartBuilder::on(area)
        .caption(title, font(16.0))
        .margin(10)
        .x_label_area_size(38)
        .y_label_area_size(62)
        .build_cartesian_2d(1.0..f64::from(summary.days.max(2)), (1.0..top).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(FAINT)
        .axis_style(FAINT)
        .x_labels(9)
        .x_label_formatter(&|day| format!("{day:.0}"))
        .y_label_formatter(&|mails| thousands(*mails as u64))
        .x_desc("day")
        .y_desc("mails a day")
        .label_style(font(12.0))
        .axis_desc_style(font(12.0))
        .draw()?;
    // The first one is drawn last, on top.
    for (arm, color) in isp.arms.iter().zip(LINES).rev() {
        let point = |day: u32, mails: u64| (f64::from(day), mails.max(1) as f64);
        let sent = arm.daily.iter().map(|day| point(day.day, day.sent));
        chart.draw_series(DashedLineSeries::new(sent, 3, 4, ShapeStyle::from(&color).stroke_width(1)))?;
        let delivered = arm.daily.iter().map(|day| point(day.day, day.delivered));
        chart.draw_series(LineSeries::new(delivered, ShapeStyle::from(&color).stroke_width(3)))?;
    }
    Ok(())
}

fn legends(summary: &Summary, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Outcome {
    let names = ["adaptive: planner, breaker, gate", "fixed: 30 days", "by time: 45 days", "oracle: knows the limits"];
    let widths = [232, 120, 130, 180];
    let mut left = 20;
    for (((name, width), color), _) in names.iter().zip(widths).zip(LINES).zip(Arm::ALL) {
        let line = [(left, 12), (left + 24, 12)];
        area.draw(&PathElement::new(line.to_vec(), ShapeStyle::from(&color).stroke_width(3)))?;
        area.draw(&Text::new((*name).to_owned(), (left + 30, 6), font(12.0)))?;
        left += width + 20;
    }
    let seeds = summary.seeds;
    let note = format!("solid: delivered, dashed: sent; medians of {seeds} seeds. A model of ISPs; real ISPs differ.");
    area.draw(&Text::new(note, (20, 30), font(12.0)))?;
    Ok(())
}

/// Adds a style sheet for the colours.
fn themed(svg: &str) -> String {
    let rule = |stands: &RGBColor, color: &str| {
        let RGBColor(red, green, blue) = stands;
        let stands = format!("#{red:02X}{green:02X}{blue:02X}");
        format!("[fill=\"{stands}\"]{{fill:{color}}}[stroke=\"{stands}\"]{{stroke:{color}}}")
    };
    let light: String = GROUNDS.iter().map(|(stands, light, _)| rule(stands, light)).collect();
    let dark: String = GROUNDS.iter().map(|(stands, _, dark)| rule(stands, dark)).collect();
    let sheet = format!("<style>{light}@media (prefers-color-scheme: dark){{{dark}}}</style>\n");
    match svg.find(">\n") {
        Some(end) => format!("{}{sheet}{}", &svg[..end + 2], &svg[end + 2..]),
        None => svg.to_owned(),
    }
}
