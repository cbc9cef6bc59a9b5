package dashboard

import (
	"html/template"
	"net/http"
	"slices"
	"strconv"
)

// line is one line of a widget, drawn.
type line struct {
	Label, Figure string
	Quiet         bool // nothing was written
	Bars          []bar
}

// bar is a column that is not zero, in parts of the drawing's height.
type bar struct{ X, Y, Height int }

// height is that of a drawing.
const height = 24

// Page serves the dashboard as a page that brings itself up to date.
func (m *Metrics) Page(d Dashboard) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		type widget struct {
			Title string
			Lines []line
		}
		var shown []widget
		for _, of := range d.Widgets {
			shown = append(shown, widget{of.Title, m.lines(of)})
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		_ = page.Execute(w, map[string]any{"Widgets": shown, "Columns": columns, "Height": height, "Minutes": kept.Minutes()}) // the reader has gone
	})
}

// lines are a widget's: of a metric that is shown by its dimension one for each value that was seen.
func (m *Metrics) lines(w Widget) []line {
	var all []line
	for _, metric := range w.Metrics {
		values := []string{metric.Value}
		if metric.Dimension != "" && metric.Value == "" {
			values = m.values(metric.Name, metric.Dimension)
		}
		for _, value := range values {
			label := metric.Name
			if value != "" {
				label += " " + value
			}
			all = append(all, m.draw(label, series{metric.Name, metric.Dimension, value}, w.Maximum))
		}
	}
	return all
}

func (m *Metrics) draw(label string, s series, maximum bool) line {
	graph, figure := m.graph(s, maximum)
	highest := slices.Max(graph[:])
	l := line{Label: label, Figure: strconv.FormatFloat(figure, 'f', -1, 64), Quiet: highest == 0}
	for x, n := range graph {
		if n > 0 {
			h := max(1, int(n*height/highest))
			l.Bars = append(l.Bars, bar{x, height - h, h})
		}
	}
	return l
}

var page = template.Must(template.New("dashboard").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="2">
<title>Dashboard</title>
<style>
:root { color-scheme: light dark; font: 14px/1.4 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
h1 { font-size: 1.3rem; margin: 0; }
p { margin: .3rem 0 1.2rem; }
main { display: grid; gap: 1.2rem 2rem; grid-template-columns: repeat(auto-fill, minmax(22rem, 1fr)); }
h2 { font-size: 1rem; margin: 0 0 .3rem; }
table { border-collapse: collapse; width: 100%; }
th { font-weight: normal; text-align: left; overflow-wrap: anywhere; }
td { text-align: right; }
td:last-child { font-variant-numeric: tabular-nums; width: 3rem; }
th, td { border-top: 1px solid color-mix(in srgb, currentColor 20%, transparent); padding: .15rem 0; }
.quiet th, .quiet td { opacity: .65; }
svg { display: block; height: 24px; margin-left: auto; width: 120px; }
rect { fill: light-dark(#0b62c4, #7db7ff); }
</style>
<h1>Dashboard</h1>
<p>The metrics that the functions have written in the last {{.Minutes}} minutes, by the dashboard in
template.yaml. Beside each graph is its sum, or of what is due the latest value. Metrics of AWS's own
services are not measured on this machine.</p>
<main>
{{- range .Widgets}}
<section>
<h2>{{.Title}}</h2>
<table>
{{- range .Lines}}
<tr{{if .Quiet}} class="quiet"{{end}}><th scope="row">{{.Label}}</th><td><svg viewBox="0 0 {{$.Columns}} {{$.Height}}" preserveAspectRatio="none" aria-hidden="true">
{{- range .Bars}}<rect x="{{.X}}" y="{{.Y}}" width="1" height="{{.Height}}"/>{{end}}</svg></td><td>{{.Figure}}</td></tr>
{{- else}}
<tr class="quiet"><th scope="row">nothing so far</th></tr>
{{- end}}
</table>
</section>
{{- end}}
</main>
</html>
`))
