package gateway

import (
	"net/http"
	"net/url"
	"strings"

	"managed-credentials/shared/local/template"
)

// route is a template.Route with the function that it leads to.
type route struct {
	template.Route
	function string
	segments []segment
}

// segment is what stands between two slashes of a pattern: text, or a variable for any text but the
// empty one.
type segment struct {
	text     string // the text, or the variable's name
	variable bool
}

func compile(function string, r template.Route) route {
	compiled := route{Route: r, function: function}
	for _, text := range split(r.Path) {
		name, opens := strings.CutPrefix(text, "{")
		name, closes := strings.CutSuffix(name, "}")
		if opens && closes {
			text = name
		}
		compiled.segments = append(compiled.segments, segment{text: text, variable: opens && closes})
	}
	return compiled
}

func split(path string) []string { return strings.Split(strings.TrimPrefix(path, "/"), "/") }

// shape is what tells routes apart: the method, and the path without the names of its variables.
func (r route) shape() string {
	shape := r.Method + " "
	for _, s := range r.segments {
		if s.variable {
			s.text = "{}"
		}
		shape += "/" + s.text
	}
	return shape
}

// matched is a route with the values of its path variables.
type matched struct {
	route  route
	params map[string]string
}

// match finds the route of a request: of several the one with text, from the left, where the others
// have a variable.
func match(routes []route, prefix string, r *http.Request) (best matched, ok bool) {
	path, ok := strings.CutPrefix(r.URL.EscapedPath(), prefix)
	if !ok || path != "" && path[0] != '/' {
		return matched{}, false
	}
	ok = false
	// A slash that is escaped separates nothing.
	segments := split(path)
	for i, s := range segments {
		unescaped, err := url.PathUnescape(s)
		if err != nil {
			return matched{}, false
		}
		segments[i] = unescaped
	}
	for _, candidate := range routes {
		params, fits := candidate.fit(segments)
		if candidate.Method == r.Method && fits && (!ok || candidate.moreSpecific(best.route)) {
			best, ok = matched{candidate, params}, true
		}
	}
	return best, ok
}

func (r route) fit(segments []string) (params map[string]string, fits bool) {
	if len(segments) != len(r.segments) {
		return nil, false
	}
	params = map[string]string{}
	for i, s := range r.segments {
		switch {
		case s.variable && segments[i] != "":
			params[s.text] = segments[i]
		case s.variable || s.text != segments[i]:
			return nil, false
		}
	}
	return params, true
}

// moreSpecific compares two routes that fit the same request.
func (r route) moreSpecific(than route) bool {
	for i, s := range r.segments {
		if s.variable != than.segments[i].variable {
			return !s.variable
		}
	}
	return false
}
