// Package dashboard shows on one machine what the deployment's CloudWatch dashboard shows: the same
// widgets, with the metrics that the functions write. Those of AWS's own services are not measured
// here, and are left out.
package dashboard

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Dashboard is what the body of an AWS::CloudWatch::Dashboard says, as far as it is shown here.
type Dashboard struct {
	Widgets []Widget
}

// Widget is a title with metrics below it.
type Widget struct {
	Title string
	// Maximum: the highest value of a period is shown, and not the sum of all.
	Maximum bool
	Metrics []Metric
}

// Metric is one line of a widget, or several: one for each value of a dimension.
type Metric struct {
	Name string
	// Dimension is a name and a value, such as "kind" and "live"; both are empty for what is
	// counted in all. With a name alone the metric is shown once for each value.
	Dimension, Value string
}

// Parse reads the body of a dashboard
// (https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html).
// It keeps the metrics of that namespace, but for those that are named after the stack, and the
// widgets that have one. It knows no metric with two dimensions, and of expressions SEARCH alone;
// what it does not know is an error, but for arithmetic on metrics that are there themselves.
func Parse(body, namespace string) (Dashboard, error) {
	var in struct {
		Widgets []struct {
			Properties struct {
				Title   string
				Stat    string
				Metrics [][]any
			}
		}
	}
	err := json.Unmarshal([]byte(body), &in)
	if err != nil {
		return Dashboard{}, fmt.Errorf("reading the dashboard: %w", err)
	}
	var d Dashboard
	for _, w := range in.Widgets {
		shown := Widget{Title: w.Properties.Title, Maximum: w.Properties.Stat == "Maximum"}
		for _, m := range w.Properties.Metrics {
			metrics, err := parseMetric(m, namespace)
			if err != nil {
				return Dashboard{}, fmt.Errorf("reading the dashboard: %q: %w", w.Properties.Title, err)
			}
			shown.Metrics = append(shown.Metrics, metrics...)
		}
		if len(shown.Metrics) > 0 {
			d.Widgets = append(d.Widgets, shown)
		}
	}
	if len(d.Widgets) == 0 {
		return Dashboard{}, fmt.Errorf("reading the dashboard: it has no metric of %s", namespace)
	}
	return d, nil
}

// parseMetric reads [namespace, name, dimension, value, …, options], or [{"expression": …}].
func parseMetric(parts []any, namespace string) ([]Metric, error) {
	var texts []string
	for _, part := range parts {
		text, isText := part.(string)
		if isText {
			texts = append(texts, text)
		}
	}
	switch {
	case len(texts) == 0 && len(parts) == 1:
		options, _ := parts[0].(map[string]any)
		expression, _ := options["expression"].(string)
		return search(expression, namespace)
	case len(texts) > 0 && (texts[0] != namespace || strings.Contains(texts[1], "${")):
		return nil, nil // AWS counts it, the latter in the functions' logs
	case len(texts) == 2:
		return []Metric{{Name: texts[1]}}, nil
	case len(texts) == 4:
		return []Metric{{Name: texts[1], Dimension: texts[2], Value: texts[3]}}, nil
	}
	return nil, fmt.Errorf("the metric %v is of an unknown form", parts)
}

var (
	searched = regexp.MustCompile(`^SEARCH\('\{(\w+),(\w+)\} MetricName=\(([^)]*)\)'`)
	quoted   = regexp.MustCompile(`"(\w+)"`)
)

// search is the metrics that SEARCH finds, by each value of their one dimension.
func search(expression, namespace string) ([]Metric, error) {
	if expression == "" {
		return nil, errors.New("there is neither a metric nor an expression")
	}
	if !strings.HasPrefix(expression, "SEARCH") {
		return nil, nil
	}
	found := searched.FindStringSubmatch(expression)
	if found == nil || found[1] != namespace {
		return nil, fmt.Errorf("the search %s is of an unknown form", expression)
	}
	var metrics []Metric
	for _, name := range quoted.FindAllStringSubmatch(found[3], -1) {
		metrics = append(metrics, Metric{Name: name[1], Dimension: found[2]})
	}
	return metrics, nil
}
