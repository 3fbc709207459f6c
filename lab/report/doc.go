// Package report lays the variants of a run side by side: one page that needs
// nothing but itself, the same figures as report.json, and every series as CSV.
//
// The charts are plain SVG, written on the server by plot.go. A library was
// looked for first. go-echarts draws in the browser with a megabyte of script
// that it fetches from elsewhere, and shows nothing without it. go-analyze/charts
// (0.6) and gonum/plot write SVG, but in one size, with colours and fonts fixed in
// style attributes and without titles, descriptions or classes: such a chart can
// be neither dark nor read aloud, its letters shrink to half on a phone, and a
// policy that forbids inline styles forbids it. What is needed here (lines, steps,
// bands, marks, a scale) takes less code than turning such output into it.
//
// A chart fills the width it is given: its lines live in a nested svg that is
// stretched, its letters outside of it keep their size. Colour never says
// anything alone: variants have letters, pressure has its number, and every
// figure has a title, a description and a table of its data. The lines carry
// their own data, so that a short script (script.js) can read out all figures at
// one time; without the script nothing is missing but that.
//
// A file reads on from the next: result.go (what is told) → write.go (which files)
// → keys.go (how a measure is shown) → page.go and page.tmpl (the page) →
// differences.go, timeline.go, strips.go, graph.go, tradeoff.go, waterfall.go (its
// figures) → plot.go → markup.go; compare.go and catalogue.go are the two pages
// over several runs.
package report
