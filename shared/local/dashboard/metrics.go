package dashboard

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Metrics keeps the values of metrics for a while. Written to it are lines of logs: those in
// CloudWatch's embedded metric format count, whatever stands before them, and all others are passed
// over. Each write has to be of whole lines. It is safe for concurrent use.
type Metrics struct {
	now func() time.Time

	mu     sync.Mutex
	series map[series][]value
}

// kept is for how long values are kept and shown, in columns of that width.
const (
	kept    = 10 * time.Minute
	width   = 10 * time.Second
	columns = int(kept / width)
)

// series is a metric in all, or for one value of one dimension.
type series Metric

type value struct {
	at time.Time
	n  float64
}

// NewMetrics returns metrics without a value. Values count from when they are written, by now.
func NewMetrics(now func() time.Time) *Metrics {
	return &Metrics{now: now, series: map[series][]value{}}
}

// Write takes lines of a log. It never fails.
func (m *Metrics) Write(lines []byte) (int, error) {
	for line := range bytes.Lines(lines) {
		begin := bytes.IndexByte(line, '{')
		if begin >= 0 && bytes.Contains(line, []byte(`"_aws"`)) {
			m.note(line[begin:])
		}
	}
	return len(lines), nil
}

// note takes a line of the embedded metric format.
func (m *Metrics) note(line []byte) {
	var head struct {
		AWS struct {
			CloudWatchMetrics []struct {
				Dimensions [][]string
				Metrics    []struct{ Name string }
			}
		} `json:"_aws"`
	}
	var members map[string]any
	if json.Unmarshal(line, &head) != nil || json.Unmarshal(line, &members) != nil {
		return // not a metric
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, directive := range head.AWS.CloudWatchMetrics {
		for _, metric := range directive.Metrics {
			n, isNumber := members[metric.Name].(float64)
			if !isNumber {
				continue
			}
			for _, set := range directive.Dimensions {
				s := series{Name: metric.Name}
				if len(set) > 0 {
					s.Dimension = strings.Join(set, ",")
					s.Value, _ = members[set[0]].(string)
				}
				m.add(s, n)
			}
		}
	}
}

// add keeps a value, and forgets those that are too old to be shown.
func (m *Metrics) add(s series, n float64) {
	now := m.now()
	old := func(v value) bool { return now.Sub(v.at) > kept }
	m.series[s] = append(slices.DeleteFunc(m.series[s], old), value{now, n})
}

// values returns the values of a dimension that the metric has been seen with, sorted.
func (m *Metrics) values(name, dimension string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := map[string]bool{}
	for s := range m.series {
		if s.Name == name && s.Dimension == dimension {
			seen[s.Value] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// graph returns a value for each column, the oldest first, and the one figure that says most: of a
// maximum what was written last, of a sum the whole.
func (m *Metrics) graph(s series, maximum bool) (graph [columns]float64, figure float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	for _, v := range m.series[s] {
		column := columns - 1 - int(now.Sub(v.at)/width)
		if column < 0 {
			continue
		}
		if maximum {
			graph[column] = max(graph[column], v.n)
			figure = v.n
		} else {
			graph[column] += v.n
			figure += v.n
		}
	}
	return graph, figure
}
