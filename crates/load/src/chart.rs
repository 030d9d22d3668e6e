//! Line charts as SVG: figures over levels, one or two panels below each other.
//!
//! Levels (1, 2, 4, … clients, say) stand at equal distances. Colours are those of Okabe and Ito (2008), which
//! people with any kind of colour vision can tell apart; every subject has its own marker too.

mod axis;
mod scale;

use std::error::Error;

use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::report::count;
use axis::{Axis, tick_label};
pub use scale::Scale;

/// Width and height of a chart's picture, for one panel and for each more, in pixels.
const WIDTH: u32 = 960;
const HEAD: u32 = 92;
const PANEL: u32 = 330;
const FOOT: u32 = 16;

/// Width of a legend's line samples and of one letter of its names, about.
const KEY: u32 = 60;
const LETTER: u32 = 9;

/// Most letters of a name that a legend makes room for.
const NAME_MAX: usize = 32;

/// Room for the figures and the title of the vertical axis.
const LEFT: u32 = 84;

/// Levels that are labelled below a panel at most; of more every so many.
const LABELS: usize = 14;

/// Space between two entries of a legend.
const ENTRY: usize = 26;

const TEXT: RGBColor = RGBColor(0x22, 0x22, 0x22);
const FAINT_TEXT: RGBColor = RGBColor(0x59, 0x59, 0x59);
const GRID: RGBColor = RGBColor(0xe3, 0xe3, 0xe3);
const FRAME: RGBColor = RGBColor(0x99, 0x99, 0x99);

const COLOURS: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x00, 0x00, 0x00),
];

/// A chart could not be drawn.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// There is no point in any panel.
    #[error("nothing to draw in the chart \"{0}\"")]
    Empty(String),
    /// The drawing library failed.
    #[error("cannot draw the chart: {0}")]
    Draw(String),
}

/// A chart: a title and one or two panels over the same levels.
///
/// ```
/// use roadstead_load::chart::{Chart, Line, Panel, Scale, Series};
///
/// let chart = Chart {
///     title: "Echo, 128 B".into(),
///     subtitle: "closed loop, two cores".into(),
///     x_axis: "connections".into(),
///     panels: vec![Panel {
///         y_axis: "messages/s".into(),
///         scale: Scale::Linear,
///         series: vec![Series {
///             name: "epoll".into(),
///             subject: 0,
///             line: Line::Solid,
///             points: vec![(1, 9_500.0), (100, 210_000.0)],
///         }],
///     }],
/// };
/// assert!(chart.svg()?.starts_with("<svg"));
/// # Ok::<(), roadstead_load::chart::ChartError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Chart {
    /// What is shown.
    pub title: String,
    /// Under which conditions.
    pub subtitle: String,
    /// What a level is, with its unit.
    pub x_axis: String,
    /// From top to bottom.
    pub panels: Vec<Panel>,
}

/// One coordinate system.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What the figures are, with their unit.
    pub y_axis: String,
    /// How figures become heights.
    pub scale: Scale,
    /// The lines.
    pub series: Vec<Series>,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Number of what it is about, from 0: lines about the same have the same colour and marker in all panels.
    pub subject: usize,
    /// How it is drawn.
    pub line: Line,
    /// Level and figure. What the scale cannot show is left out: NaN, negative figures, those above 1e15, and by
    /// powers of ten those below 1e-12.
    pub points: Vec<(u64, f64)>,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// For the main figure, such as the median.
    Solid,
    /// For a second figure of the same subject, such as the 99th percentile.
    Dashed,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Plot<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;

impl Chart {
    /// Draws the chart as an SVG document. No font file is needed: the viewer sets the text.
    pub fn svg(&self) -> Result<String, ChartError> {
        self.svg_over(count)
    }

    /// The same over percentiles, whose levels are thousandths: 990 is `p99`.
    pub fn svg_over_percentiles(&self) -> Result<String, ChartError> {
        self.svg_over(|thousandths| format!("p{}", thousandths as f64 / 10.0))
    }

    fn svg_over(&self, label: fn(u64) -> String) -> Result<String, ChartError> {
        let levels = self.levels();
        if levels.is_empty() {
            return Err(ChartError::Empty(self.title.clone()));
        }
        let height = HEAD + PANEL * self.panels.len() as u32 + FOOT;
        let mut svg = String::new();
        self.draw(&mut svg, height, &levels, label).map_err(|error| ChartError::Draw(error.to_string()))?;
        Ok(svg)
    }

    /// All levels at which there is something to see, in order.
    fn levels(&self) -> Vec<u64> {
        let mut levels: Vec<u64> = self
            .panels
            .iter()
            .flat_map(|panel| panel.series.iter().map(move |series| (panel.scale, series)))
            .flat_map(|(scale, series)| series.shown(scale).map(|(level, _)| level))
            .collect();
        levels.sort_unstable();
        levels.dedup();
        levels
    }

    /// The legends stand at the right of the panels, where no line can come, and are all of one width.
    fn legend_width(&self) -> u32 {
        let names = self
            .panels
            .iter()
            .flat_map(|panel| panel.series.iter().map(|series| series.name.chars().count()));
        KEY + LETTER * names.max().unwrap_or(0).min(NAME_MAX) as u32
    }

    fn draw(
        &self,
        svg: &mut String,
        height: u32,
        levels: &[u64],
        label: fn(u64) -> String,
    ) -> Result<(), Box<dyn Error>> {
        let root = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE)?;
        let left = |size: i32, colour: &RGBColor| {
            ("sans-serif", size).into_font().color(colour).pos(Pos::new(HPos::Left, VPos::Top))
        };
        root.draw_text(&self.title, &left(27, &TEXT), (24, 20))?;
        root.draw_text(&self.subtitle, &left(17, &FAINT_TEXT), (24, 54))?;
        let (_, below) = root.split_vertically(HEAD);
        let (panels, _) = below.split_vertically(PANEL * self.panels.len() as u32);
        for (panel, area) in self.panels.iter().zip(panels.split_evenly((self.panels.len(), 1))) {
            let (plot, legend) = area.split_horizontally(WIDTH - self.legend_width());
            panel.draw(&plot, levels, label, &self.x_axis)?;
            for (y, series) in (26..).step_by(ENTRY).zip(&panel.series) {
                series.draw_key(&legend, y)?;
            }
        }
        root.present()?;
        Ok(())
    }
}

impl Panel {
    fn draw(
        &self,
        area: &Area<'_>,
        levels: &[u64],
        name: fn(u64) -> String,
        x_axis: &str,
    ) -> Result<(), Box<dyn Error>> {
        let figures =
            self.series.iter().flat_map(|series| series.shown(self.scale).map(|(_, figure)| figure));
        let vertical = Axis::figures(figures, self.scale);
        let each = levels.len().div_ceil(LABELS).max(1);
        let mut plot = ChartBuilder::on(area)
            .margin_top(10)
            .margin_bottom(8)
            .margin_right(8)
            .margin_left(16)
            .x_label_area_size(52)
            .y_label_area_size(LEFT)
            .build_cartesian_2d(Axis::levels(levels.len()), vertical)?;
        let label = ("sans-serif", 16).into_font().color(&TEXT);
        plot.configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(FRAME)
            .label_style(label.clone())
            .axis_desc_style(("sans-serif", 17).into_font().color(&TEXT))
            .x_desc(x_axis)
            .y_desc(self.y_axis.as_str())
            .x_label_formatter(&|place| {
                let level = levels.get(*place as usize).filter(|_| (*place as usize).is_multiple_of(each));
                level.map_or_else(String::new, |&level| name(level))
            })
            .y_label_formatter(&|figure| tick_label(*figure))
            .draw()?;
        for series in &self.series {
            series.draw(&mut plot, levels, self.scale)?;
        }
        Ok(())
    }
}

impl Series {
    /// The points that `scale` can show.
    fn shown(&self, scale: Scale) -> impl Iterator<Item = (u64, f64)> {
        let can_show = scale.range();
        self.points.iter().copied().filter(move |(_, figure)| can_show.contains(figure))
    }

    fn style(&self) -> ShapeStyle {
        COLOURS[self.subject % COLOURS.len()].stroke_width(2)
    }

    fn draw(&self, plot: &mut Plot<'_, '_>, levels: &[u64], scale: Scale) -> Result<(), Box<dyn Error>> {
        let mut points: Vec<(f64, f64)> = self
            .shown(scale)
            .filter_map(|(level, figure)| Some((levels.binary_search(&level).ok()? as f64, figure)))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let line = points.iter().copied();
        match self.line {
            Line::Solid => plot.draw_series(LineSeries::new(line, self.style()))?,
            Line::Dashed => plot.draw_series(DashedLineSeries::new(line, 7, 5, self.style()))?,
        };
        for point in points {
            let place = plot.backend_coord(&point);
            let area = plot.plotting_area().strip_coord_spec();
            let (left, top) = area.get_base_pixel();
            self.draw_marker(&area, (place.0 - left, place.1 - top))?;
        }
        Ok(())
    }

    /// The line and marker that stand for this series, and its name.
    fn draw_key(&self, legend: &Area<'_>, y: i32) -> Result<(), Box<dyn Error>> {
        let ends = [(8, y), (44, y)];
        match self.line {
            Line::Solid => legend.draw(&PathElement::new(ends, self.style()))?,
            Line::Dashed => legend.draw(&DashedPathElement::new(ends, 7, 5, self.style()))?,
        }
        self.draw_marker(legend, (26, y))?;
        let style = ("sans-serif", 16).into_font().color(&TEXT).pos(Pos::new(HPos::Left, VPos::Center));
        legend.draw_text(&self.name, &style, (52, y))?;
        Ok(())
    }

    /// A filled marker for a solid line and a hollow one for a dashed one; its shape tells the subject.
    fn draw_marker(&self, area: &Area<'_>, (x, y): (i32, i32)) -> Result<(), Box<dyn Error>> {
        const SHAPES: [&[(i32, i32)]; 4] = [
            &[(-4, -4), (4, -4), (4, 4), (-4, 4)],
            &[(0, -6), (6, 5), (-6, 5)],
            &[(0, -6), (6, 0), (0, 6), (-6, 0)],
            &[(0, 6), (6, -5), (-6, -5)],
        ];
        let colour = COLOURS[self.subject % COLOURS.len()];
        let inside = match self.line {
            Line::Solid => colour,
            Line::Dashed => WHITE,
        };
        match self.subject % (SHAPES.len() + 1) {
            0 => {
                area.draw(&Circle::new((x, y), 5, inside.filled()))?;
                area.draw(&Circle::new((x, y), 5, self.style()))?;
            }
            other => {
                let corners: Vec<_> = SHAPES[other - 1].iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
                area.draw(&Polygon::new(corners.clone(), inside.filled()))?;
                let outline = corners.iter().chain(&corners[..1]).copied();
                area.draw(&PathElement::new(outline.collect::<Vec<_>>(), self.style()))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(u64, f64)>, scale: Scale) -> Chart {
        let series =
            |name: &str, line| Series { name: name.into(), subject: 1, line, points: points.clone() };
        Chart {
            title: "A < B & \"C\"".into(),
            subtitle: String::new(),
            x_axis: "level".into(),
            panels: vec![Panel {
                y_axis: "ms".into(),
                scale,
                series: vec![series("p50", Line::Solid), series("p99", Line::Dashed)],
            }],
        }
    }

    #[test]
    fn of_many_levels_every_so_many_is_labelled() {
        let svg = chart((0..40).map(|level| (level * 10, 1.0)).collect(), Scale::Linear).svg().unwrap();
        let labels: Vec<u64> = svg.lines().filter_map(|line| line.trim().parse().ok()).collect();
        assert!(labels.contains(&30) && labels.contains(&390) && !labels.contains(&10), "{labels:?}");
    }

    #[test]
    fn percentiles_are_called_what_they_are() {
        let svg = chart(vec![(500, 1.0), (999, 2.0)], Scale::Linear).svg_over_percentiles().unwrap();
        assert!(["p50", "p99.9"].iter().all(|name| svg.lines().any(|line| line.trim() == *name)), "{svg}");
    }

    #[test]
    fn every_level_and_name_is_in_the_picture() {
        let points = vec![(100, 2.5), (1, 1.0), (1_000, 900.0)];
        let svg = chart(points, Scale::Logarithmic).svg().unwrap();
        for text in ["level", "p50", "p99", "1,000"] {
            assert!(svg.lines().any(|line| line.trim() == text), "{text}: {svg}");
        }
        assert!(svg.contains("A &lt; B &amp; &quot;C&quot;"));
        assert!(svg.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn a_line_goes_from_the_lowest_level_to_the_highest_and_markers_of_a_second_figure_are_hollow() {
        let svg = chart(vec![(100, 2.5), (1, 1.0), (10, 9.0)], Scale::Linear).svg().unwrap();
        let white = svg.matches("<polygon").zip(svg.split("<polygon").skip(1));
        let hollow = white.filter(|(_, polygon)| polygon.split("/>").next().unwrap().contains("#FFFFFF"));
        assert_eq!(hollow.count(), 4, "three points and the key: {svg}");
        let points = svg.split("<polyline").skip(1).map(|line| {
            let (_, points) = line.split_once("points=\"").unwrap();
            let (points, _) = points.split_once('"').unwrap();
            points.split_whitespace().map(|point| point.split_once(',').unwrap().0.parse::<i32>().unwrap())
        });
        let long: Vec<Vec<i32>> =
            points.map(Iterator::collect).filter(|line: &Vec<i32>| line.len() == 3).collect();
        assert!(!long.is_empty() && long.iter().all(|line| line.is_sorted()), "{long:?}");
    }

    #[test]
    fn lines_of_one_subject_have_one_colour_and_no_two_subjects_look_alike() {
        let colour = |subject, line| {
            let mut chart = chart(vec![(1, 1.0), (2, 2.0)], Scale::Linear);
            chart.panels[0].series.truncate(1);
            (chart.panels[0].series[0].subject, chart.panels[0].series[0].line) = (subject, line);
            let svg = chart.svg().unwrap();
            let strokes =
                svg.split("stroke=\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
            let known = strokes.filter(|stroke| {
                COLOURS.iter().any(|it| *stroke == format!("#{:02X}{:02X}{:02X}", it.0, it.1, it.2))
            });
            let mut known: Vec<String> = known.collect();
            known.sort();
            known.dedup();
            known
        };
        let mut seen = Vec::new();
        for subject in 0..COLOURS.len() {
            let solid = colour(subject, Line::Solid);
            assert_eq!(solid.len(), 1, "{subject}: {solid:?}");
            assert_eq!(solid, colour(subject, Line::Dashed));
            assert!(!seen.contains(&solid), "{subject}: {solid:?}");
            seen.push(solid);
        }
    }

    #[test]
    fn figures_that_cannot_be_shown_are_left_out() {
        let odd = [f64::NAN, f64::INFINITY, -1.0, 0.0];
        let mut points: Vec<_> = odd.iter().map(|figure| (7_777, *figure)).collect();
        let empty = chart(points.clone(), Scale::Logarithmic).svg();
        assert!(matches!(empty, Err(ChartError::Empty(_))));
        points.push((8_888, 1.0));
        let svg = chart(points, Scale::Logarithmic).svg().unwrap();
        assert!(!svg.contains("7,777") && svg.contains("8,888"));
    }

    #[test]
    fn the_least_and_the_greatest_figures_can_be_drawn_and_none_beyond() {
        for (scale, figures) in
            [(Scale::Linear, [0.0, 5e-324, 1e15]), (Scale::Logarithmic, [1e-12, 1.0, 1e15])]
        {
            for figure in figures {
                assert!(chart(vec![(u64::MAX, figure)], scale).svg().is_ok());
            }
            assert!(chart(figures.map(|figure| (1, figure)).into(), scale).svg().is_ok());
            for beyond in [-1.0, 2e15, f64::MAX] {
                assert!(chart(vec![(1, beyond)], scale).svg().is_err());
            }
        }
    }

    /// A figure of the attribute `name` of an element.
    fn attribute(element: &str, name: &str) -> i32 {
        let (_, rest) = element.split_once(&format!(" {name}=\"")).unwrap();
        rest.split('"').next().unwrap().parse().unwrap()
    }

    #[test]
    fn markers_stand_at_their_level_and_figure_and_the_key_beside_the_panel() {
        let mut chart = chart(vec![(1, 2.0), (10, 6.0), (500, 4.0)], Scale::Linear);
        chart.panels[0].series.truncate(1);
        chart.panels[0].series[0].subject = 0;
        let svg = chart.svg().unwrap();
        let (mut across, mut down): (Vec<i32>, Vec<i32>) = (Vec::new(), Vec::new());
        for line in svg.split("<line").skip(1).filter(|line| line.contains("#E3E3E3")) {
            let [left, right, top, bottom] = ["x1", "x2", "y1", "y2"].map(|name| attribute(line, name));
            if top == bottom {
                across.push(top)
            } else {
                down.push(left)
            }
            assert!(left == right || top == bottom, "{line}");
        }
        across.sort_unstable();
        down.sort_unstable();
        let circles = svg.split("<circle").skip(1).filter(|circle| circle.contains("fill=\"#"));
        let mut centres: Vec<_> = circles.map(|it| (attribute(it, "cx"), attribute(it, "cy"))).collect();
        centres.sort_unstable();
        centres.dedup();
        let [first, second, third, key] = centres[..] else { panic!("{centres:?}") };
        assert_eq!([first.0, second.0, third.0], down[..], "levels are at equal distances");
        // From the top: 7, 6, 5, … 0.
        assert_eq!(across.len(), 8, "{across:?}");
        assert_eq!([first.1, second.1, third.1], [across[5], across[1], across[3]]);
        assert!(key.0 > third.0 + (second.0 - first.0) / 4, "{centres:?}");
    }

    #[test]
    fn every_level_is_labelled_where_there_is_room_and_every_second_of_a_few_more() {
        for (count, labelled) in [(14, 14), (15, 8)] {
            let points = (0..count).map(|level| (7_000 + level, 1.0)).collect();
            let svg = chart(points, Scale::Linear).svg().unwrap();
            let labels = svg.lines().filter(|line| line.trim().starts_with("7,0"));
            assert_eq!(labels.count(), labelled, "of {count}");
        }
    }
}
