package gateway

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// What API Gateway does for pages of other origins, if the API has a CORS configuration
// (https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-cors.html). Its own
// refusals, such as that of a token, have no CORS headers: AWS promises them for what integrations
// answer, and a page that can do without them works in both cases.

// answerPreflight answers OPTIONS of every path, before route and authorizer. A request that is no
// preflight, or one of an origin that is not allowed, gets an answer without CORS headers.
func (g *Gateway) answerPreflight(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Access-Control-Request-Method") != "" && g.allows(r) {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
		h.Set("Access-Control-Allow-Methods", strings.Join(g.cfg.CORS.Methods, ","))
		h.Set("Access-Control-Allow-Headers", strings.Join(g.cfg.CORS.Headers, ","))
		h.Set("Access-Control-Max-Age", strconv.Itoa(g.cfg.CORS.MaxAge))
	}
	w.WriteHeader(http.StatusNoContent)
}

// allowOrigin puts CORS headers into a function's answer, in place of those that the function set.
func (g *Gateway) allowOrigin(a *answer, r *http.Request) {
	if len(g.cfg.Origins) == 0 {
		return
	}
	maps.DeleteFunc(a.header, func(name string, _ []string) bool { return strings.HasPrefix(name, "Access-Control-") })
	if g.allows(r) {
		a.header.Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
		a.header.Set("Access-Control-Expose-Headers", strings.Join(g.cfg.CORS.Exposed, ","))
	}
}

func (g *Gateway) allows(r *http.Request) bool {
	return slices.Contains(g.cfg.Origins, r.Header.Get("Origin"))
}
