package telemetry_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"managed-credentials/shared/telemetry"
)

// own are the metrics that the package names, by the constants' values.
func own(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "telemetry.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		value, ok := spec.Values[0].(*ast.BasicLit)
		if name := spec.Names[0].Name; ok && value.Kind == token.STRING && name != "Namespace" {
			all[strings.Trim(value.Value, `"`)] = name
		}
		return true
	})
	if len(all) < 20 {
		t.Fatalf("only these metrics were found: %v", all)
	}
	return all
}

// source is all Go code of the service that is not a test.
func source(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, dir := range []string{"../../functions", ".."} {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if entry.IsDir() && slices.Contains([]string{"node_modules", "local", "proof"}, entry.Name()) {
				return filepath.SkipDir
			}
			if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return nil
			}
			text, err := os.ReadFile(path)
			all.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}

// watched are the metrics of the service's own namespace that the template's alarms go by, and the
// dashboard as CloudWatch reads it.
func watched(t *testing.T) (alarms map[string]bool, dashboard string) {
	t.Helper()
	text, err := os.ReadFile("../../template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Resources map[string]struct {
			Type       string    `yaml:"Type"`
			Properties yaml.Node `yaml:"Properties"`
		} `yaml:"Resources"`
	}
	err = yaml.Unmarshal(text, &doc)
	if err != nil {
		t.Fatal(err)
	}
	type metric struct {
		Namespace  string `yaml:"Namespace"`
		MetricName string `yaml:"MetricName"`
	}
	alarms = map[string]bool{}
	for id, r := range doc.Resources {
		var p struct {
			metric        `yaml:",inline"`
			DashboardBody string `yaml:"DashboardBody"`
			Metrics       []struct {
				MetricStat struct {
					Metric metric `yaml:"Metric"`
				} `yaml:"MetricStat"`
			} `yaml:"Metrics"`
		}
		if r.Type != "AWS::CloudWatch::Alarm" && r.Type != "AWS::CloudWatch::Dashboard" {
			continue
		}
		err = r.Properties.Decode(&p)
		if err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		dashboard += p.DashboardBody
		for _, m := range p.Metrics {
			if m.MetricStat.Metric.Namespace == telemetry.Namespace {
				alarms[m.MetricStat.Metric.MetricName] = true
			}
		}
		if p.Namespace == telemetry.Namespace {
			alarms[p.MetricName] = true
		}
	}
	if len(alarms) < 10 || dashboard == "" {
		t.Fatalf("the alarms go by %v, and the dashboard is %q", alarms, dashboard)
	}
	return alarms, dashboard
}

// searched are the names within a search expression.
var searched = regexp.MustCompile(`"(\w+)"`)

// shown are the metrics of the service's own namespace that the dashboard shows.
func shown(t *testing.T, dashboard string) map[string]bool {
	t.Helper()
	var body struct {
		Widgets []struct {
			Properties struct {
				Title   string              `json:"title"`
				Metrics [][]json.RawMessage `json:"metrics"`
			} `json:"properties"`
		} `json:"widgets"`
	}
	err := json.Unmarshal([]byte(dashboard), &body)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, widget := range body.Widgets {
		if len(widget.Properties.Metrics) == 0 {
			t.Errorf("%q shows nothing", widget.Properties.Title)
		}
		for _, line := range widget.Properties.Metrics {
			var namespace, name string
			if json.Unmarshal(line[0], &namespace) == nil && namespace == telemetry.Namespace {
				err = errors.Join(err, json.Unmarshal(line[1], &name))
				all[name] = true
			}
			var computed struct {
				Expression string `json:"expression"`
			}
			if json.Unmarshal(line[0], &computed) == nil && strings.Contains(computed.Expression, "{"+telemetry.Namespace+",provider}") {
				for _, match := range searched.FindAllStringSubmatch(computed.Expression, -1) {
					all[match[1]] = true
				}
			}
		}
	}
	if err != nil {
		t.Error(err)
	}
	return all
}

// An alarm or a widget about what nobody writes stays silent for ever, and nobody notices.
func TestAlarmsAndDashboardKnowTheMetricsThatAreWritten(t *testing.T) {
	t.Parallel()
	metrics, code := own(t), source(t)
	telemetryItself, err := os.ReadFile("telemetry.go")
	if err != nil {
		t.Fatal(err)
	}
	for name, constant := range metrics {
		if !strings.Contains(code, "telemetry."+constant) && !strings.Contains(string(telemetryItself), "m.write("+constant) {
			t.Errorf("%s is written nowhere", name)
		}
	}
	alarms, dashboard := watched(t)
	seen := shown(t, dashboard)
	for name := range alarms {
		if metrics[name] == "" {
			t.Errorf("an alarm goes by %s, which is no metric", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		if !seen[name] {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
	for name := range seen {
		if metrics[name] == "" && name != "${AWS::StackName}.SecretsReleased" { // which is counted from the log
			t.Errorf("the dashboard shows %s, which is no metric", name)
		}
	}
}
