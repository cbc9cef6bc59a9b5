package gateway

import (
	"encoding/base64"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/uuid"

	"managed-credentials/shared/local/standin"
)

// newEvent makes the event of payload format 2.0. who is nil for a route without authorizer. See
// https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html.
func newEvent(r *http.Request, m matched, requestID string, who *authorizer, body []byte) events.APIGatewayV2HTTPRequest {
	now := time.Now().UTC()
	routeKey := m.route.Method + " " + m.route.Path
	e := events.APIGatewayV2HTTPRequest{
		Version:               "2.0",
		RouteKey:              routeKey,
		RawPath:               r.URL.Path, // HTTP APIs hand it on decoded, whatever its name says.
		RawQueryString:        r.URL.RawQuery,
		Cookies:               cookies(r),
		Headers:               headers(r),
		QueryStringParameters: joined(r.URL.Query()),
		PathParameters:        m.params,
		RequestContext: events.APIGatewayV2HTTPRequestContext{
			RouteKey:     routeKey,
			AccountID:    standin.Account,
			Stage:        "$default",
			Authorizer:   who,
			RequestID:    requestID,
			APIID:        "local",
			DomainName:   r.Host,
			DomainPrefix: "local",
			Time:         now.Format("02/Jan/2006:15:04:05 +0000"),
			TimeEpoch:    now.UnixMilli(),
			HTTP: events.APIGatewayV2HTTPRequestContextHTTPDescription{
				Method:    r.Method,
				Path:      r.URL.Path,
				Protocol:  r.Proto,
				SourceIP:  sourceIP(r),
				UserAgent: r.UserAgent(),
			},
		},
	}
	e.Body = string(body)
	if len(body) > 0 && !isText(r.Header.Get("Content-Type"), body) {
		e.Body, e.IsBase64Encoded = base64.StdEncoding.EncodeToString(body), true
	}
	return e
}

// isText tells which bodies are handed on as they are. AWS does not list the types; these were
// measured. That forms are not among them, nor what has no type, surprises many a caller of curl.
func isText(contentType string, body []byte) bool {
	kind, _, _ := mime.ParseMediaType(contentType)
	switch kind {
	case "application/json", "application/xml", "application/javascript":
	default:
		if !strings.HasPrefix(kind, "text/") {
			return false
		}
	}
	return utf8.Valid(body)
}

func cookies(r *http.Request) []string {
	var all []string
	for _, header := range r.Header.Values("Cookie") {
		for cookie := range strings.SplitSeq(header, ";") {
			all = append(all, strings.TrimSpace(cookie))
		}
	}
	return all
}

// headers has the names in lower case, and of several values one with commas.
func headers(r *http.Request) map[string]string {
	all := map[string]string{}
	for name, value := range joined(url.Values(r.Header)) {
		all[strings.ToLower(name)] = value
	}
	delete(all, "cookie")
	all["host"] = r.Host
	all["x-amzn-trace-id"] = fmt.Sprintf("Root=1-%08x-%.24s", time.Now().Unix(), strings.ReplaceAll(uuid.NewString(), "-", ""))
	all["x-forwarded-for"] = strings.Join(append(r.Header.Values("X-Forwarded-For"), sourceIP(r)), ", ")
	all["x-forwarded-proto"] = "http"
	if r.ContentLength > 0 {
		all["content-length"] = strconv.FormatInt(r.ContentLength, 10)
	}
	return all
}

func joined(values url.Values) map[string]string {
	all := map[string]string{}
	for name, list := range values {
		all[name] = strings.Join(list, ",")
	}
	return all
}

func sourceIP(r *http.Request) string {
	ip, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return ip
}

// stringified gives claims as functions get them: all are strings, a number without exponent, a
// list as "[a b]".
func stringified(claims map[string]any) map[string]string {
	all := map[string]string{}
	for name, value := range claims {
		number, isNumber := value.(float64)
		if isNumber {
			all[name] = strconv.FormatFloat(number, 'f', -1, 64)
		} else {
			all[name] = fmt.Sprint(value)
		}
	}
	return all
}
